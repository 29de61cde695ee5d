"""Draw the same prompts and noise twice: with the exported graphs, and in torch with the very same rounding.

One component is in memory at a time, on either side, so a full-size student is validated in the memory of its largest network.
What went into and came out of each component is kept for the first few prompts: there the converter is judged on equal inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sprint_export.export.bundle import locate_kind
from sprint_export.nouns.bundle import Bundle, ComponentRecord
from sprint_export.nouns.chain import is_loop, name_group
from sprint_export.nouns.report import Measurement
from sprint_export.nouns.student import Component, Student, TensorSpec
from sprint_export.progress import Progress, Step, quiet, track
from sprint_export.quantize.mend.edits import edit_component, read_edits
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.registry import load_target
from sprint_export.runtimes.open import chain_sessions, open_bundle
from sprint_export.session import OneAtATime, Pipeline, list_findings, to_uint8
from sprint_export.specialize import specialize_like
from sprint_export.students.family import Draws
from sprint_export.validate.bundle_layers import take_layers
from sprint_export.validate.images import psnr_arrays, relative_error

if TYPE_CHECKING:
    from sprint_export.session import Array, Session

ROLE_SAMPLES = 4  # prompts on which single components are compared; whole pictures use all prompts


@dataclass
class Drawn:
    """Pictures uint8 [B, H, W, 3], the sampler's x0, the prompts' mask; by role what went in and came out, seconds."""

    pictures: Array
    latents: Array
    mask: Array
    feeds: Mapping[str, list[Mapping[str, Array]]]
    outputs: Mapping[str, list[Mapping[str, Array]]]
    seconds: Mapping[str, list[float]]
    description: str


class _Noting:
    """A session that notes what it is fed and returns, the first `most` times."""

    def __init__(self, inner: Session, feeds: list[Mapping[str, Array]], outputs: list[Mapping[str, Array]], most: int) -> None:
        self.inner, self.feeds, self.outputs, self.most, self.description = inner, feeds, outputs, most, inner.description

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        result = self.inner.run(feeds)
        if len(self.feeds) < self.most:
            self.feeds.append(dict(feeds))
            self.outputs.append(result)
        return result


def draw_exported(bundle: Bundle, runtime: str | None, draws: Draws, progress: Progress) -> Drawn:
    """With the bundle's own files, on a runtime that can run here."""
    pipeline = open_bundle(bundle.folder, runtime, verify=False, one_at_a_time=True)
    return _draw(pipeline, "exported", draws, progress)


def draw_rounded(bundle: Bundle, student: Student, draws: Draws, progress: Progress) -> Drawn:
    """In torch, float32 arithmetic, with inputs and weights rounded as the bundle's manifest says."""
    specialized = specialize_like(student, bundle)
    dtype = load_target(bundle.target).graph_dtype[bundle.precision]
    records = {record.role: record for record in bundle.components}

    def open_session(role: str) -> Session:
        return TorchSession(take_component(bundle, specialized, records[role]), fake=True, dtype=dtype, compute=draws.compute)

    pipeline = chain_sessions(bundle, OneAtATime(bundle.chain.group(list(records)), open_session))
    return _draw(pipeline, "torch, rounded", draws, progress)


def take_component(bundle: Bundle, specialized: Student, record: ComponentRecord) -> Component:
    """The student's network with the edits and the layers that the bundle names."""
    component = edit_component(specialized.components[record.role], read_edits(locate_kind(bundle, record.role, "edits")))
    return take_layers(component, record.layers)


def pair_components(bundle: Bundle, student: Student, rounded: Drawn) -> Iterator[tuple[Component, Mapping[str, Array]]]:
    """Each component as the bundle rounds it, with what went into it at the first prompt; one at a time, when asked for."""
    specialized = specialize_like(student, bundle)
    for record in bundle.components:
        if feeds := rounded.feeds.get(record.role):  # an optional network may not have run
            yield take_component(bundle, specialized, record), feeds[0]


def _draw(pipeline: Pipeline, stage: str, draws: Draws, progress: Progress) -> Drawn:
    executor, sessions = pipeline.executor, pipeline.sessions
    feeds: dict[str, list[Mapping[str, Array]]] = {stage.role: [] for group in executor.groups for stage in group}
    outputs: dict[str, list[Mapping[str, Array]]] = {role: [] for role in feeds}
    often = {stage.role: len(draws.noise) if is_loop(group) else 1 for group in executor.groups for stage in group}
    most = {role: ROLE_SAMPLES * count for role, count in often.items()}
    noting = OneAtATime(executor.groups, lambda role: _Noting(sessions[role], feeds[role], outputs[role], most[role]))
    pipeline = pipeline.over(noting)
    before = {name_group(group): i for i, group in enumerate(executor.groups)}

    def tell(step: Step, done: int, total: int) -> None:
        progress(Step(stage), before[step.detail] * total + done, len(before) * total)

    names = executor.chain.names
    drawn = [
        (to_uint8(table[names.picture]), table[names.state], table[names.mask])
        for table in pipeline.draw(draws.prompts, noise=draws.noise, inputs=draws.inputs, progress=tell)
    ]
    pictures, latents, mask = map(np.concatenate, zip(*drawn, strict=True))
    return Drawn(pictures, latents, mask, feeds, outputs, pipeline.seconds, pipeline.description)


def compare_components(bundle: Bundle, runtime: str | None, rounded: Drawn, progress: Progress = quiet) -> list[Measurement]:
    """Converter error: each exported graph against torch with the same rounding, on the inputs torch was given."""
    sessions = open_bundle(bundle.folder, runtime, verify=False, one_at_a_time=True).sessions
    rows = []
    for role, feeds in track(rounded.feeds.items(), Step("comparing"), progress):
        if not feeds:
            continue  # an optional network that did not run
        found = _join(bundle, rounded, [sessions[role].run(feed) for feed in feeds])
        wanted = _join(bundle, rounded, rounded.outputs[role])
        note = "exported graph vs torch with the same rounding, same inputs"
        rows.append(Measurement("converter_psnr_db", psnr_arrays(found, wanted), "dB", role, note=note))
        rows.append(Measurement("converter_relative_error", relative_error(found, wanted), "", role, note="the largest"))
        rows += [finding.as_row(role) for finding in list_findings(sessions[role])]
    return rows


def _join(bundle: Bundle, rounded: Drawn, runs: Sequence[Mapping[str, Array]]) -> Array:
    """All outputs of all runs as one array; of a text, without the rows at padded positions: who reads it hides them."""
    outputs = [np.concatenate([run[name] for run in runs]) for name in runs[0]]
    texts = {spec.name for record in bundle.components for spec in record.outputs if _is_text(bundle, record, spec)}
    kept = [
        value[rounded.mask[: len(value)].astype(bool)] if name in texts else value
        for name, value in zip(runs[0], outputs, strict=True)
    ]
    return kept[0] if len(kept) == 1 else np.concatenate([value.reshape(-1) for value in kept])


def _is_text(bundle: Bundle, record: ComponentRecord, spec: TensorSpec) -> bool:
    """Whether a value has a row for each of the prompt's kept positions."""
    return bundle.chain.names.ids in {each.name for each in record.inputs} and spec.shape[1:2] == (bundle.prompt.keep,)
