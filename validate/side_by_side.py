"""Draw the same prompts and noise twice: with the exported graphs, and in torch with the very same rounding.

One component is in memory at a time, on either side, so a full-size student is validated in the memory of its largest network.
What went into and came out of each component is kept for the first few prompts: there the converter is judged on equal inputs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sprint_export.export.bundle import locate_kind
from sprint_export.nouns.bundle import Bundle, ComponentRecord
from sprint_export.nouns.report import Measurement
from sprint_export.nouns.student import ROLES, Component, Student
from sprint_export.progress import Progress, Step
from sprint_export.quantize.mend.edits import edit_component, read_edits
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.registry import load_target
from sprint_export.runtimes.open import chain_sessions, open_bundle
from sprint_export.session import OneAtATime, Pipeline, list_findings
from sprint_export.specialize import specialize_like
from sprint_export.validate.bundle_layers import take_layers
from sprint_export.validate.images import psnr_arrays, relative_error

if TYPE_CHECKING:
    from sprint_export.session import Array, Session

ROLE_SAMPLES = 4  # prompts on which single components are compared; whole pictures use all prompts


@dataclass
class Drawn:
    """Pictures uint8 [B, H, W, 3]; by role, what went in and what came out the first times; seconds; what ran it."""

    pictures: Array
    feeds: Mapping[str, list[Mapping[str, Array]]]
    outputs: Mapping[str, list[Array]]
    seconds: Mapping[str, list[float]]
    description: str

    def stack(self, role: str, name: str) -> Array:
        """One input of a role over all that was kept, [count, ...]."""
        return np.concatenate([feed[name] for feed in self.feeds[role]])


@dataclass
class _Notes:
    """What sessions were fed and returned, the first `most` times each."""

    most: int
    feeds: dict[str, list[Mapping[str, Array]]] = field(default_factory=lambda: {role: [] for role in ROLES})
    outputs: dict[str, list[Array]] = field(default_factory=lambda: {role: [] for role in ROLES})


class _Noting:
    """A session that writes into the notes what passes through it."""

    def __init__(self, role: str, inner: Session, notes: _Notes) -> None:
        self.role, self.inner, self.notes, self.description = role, inner, notes, inner.description

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        result = self.inner.run(feeds)
        if len(self.notes.feeds[self.role]) < self.notes.most:
            self.notes.feeds[self.role].append(dict(feeds))
            self.notes.outputs[self.role].append(_first(result))
        return result


def draw_exported(bundle: Bundle, runtime: str | None, prompts: Sequence[str], noise: Array, progress: Progress) -> Drawn:
    """With the bundle's own files, on a runtime that can run here; every feed of the decoder is kept."""
    pipeline = open_bundle(bundle.folder, runtime, verify=False, one_at_a_time=True)
    return _draw(pipeline, "exported", len(prompts), prompts, noise, progress)


def draw_rounded(bundle: Bundle, student: Student, prompts: Sequence[str], noise: Array, progress: Progress) -> Drawn:
    """In torch, float32 arithmetic, with inputs and weights rounded as the bundle's manifest says."""
    specialized = specialize_like(student, bundle)
    dtype = load_target(bundle.target).graph_dtype[bundle.precision]
    records = {record.role: record for record in bundle.components}

    def open_session(role: str) -> Session:
        return TorchSession(take_component(bundle, specialized, records[role]), fake=True, dtype=dtype)

    pipeline = chain_sessions(bundle, OneAtATime(ROLES, open_session))
    return _draw(pipeline, "torch, rounded", ROLE_SAMPLES, prompts, noise, progress)


def take_component(bundle: Bundle, specialized: Student, record: ComponentRecord) -> Component:
    """The student's network with the edits and the layers that the bundle names."""
    component = edit_component(specialized.components[record.role], read_edits(locate_kind(bundle, record.role, "edits")))
    return take_layers(component, record.layers)


def pair_components(bundle: Bundle, student: Student, rounded: Drawn) -> Iterator[tuple[Component, Mapping[str, Array]]]:
    """Each component as the bundle rounds it, with what went into it at the first prompt; one at a time, when asked for."""
    specialized = specialize_like(student, bundle)
    for record in bundle.components:
        yield take_component(bundle, specialized, record), rounded.feeds[record.role][0]


def _draw(pipeline: Pipeline, stage: str, keep: int, prompts: Sequence[str], noise: Array, progress: Progress) -> Drawn:
    notes, sessions = _Notes(keep * len(pipeline.plan.rows(pipeline.steps))), pipeline.sessions
    noting = OneAtATime(ROLES, lambda role: _Noting(role, sessions[role], notes))
    pipeline = dataclasses.replace(pipeline, sessions=noting)
    done_before = {role: i * len(prompts) for i, role in enumerate(ROLES)}

    def tell(step: Step, done: int, total: int) -> None:
        progress(Step(stage), done_before[step.detail] + done, len(ROLES) * total)

    pictures = pipeline(prompts, noise=noise, progress=tell)
    return Drawn(pictures, notes.feeds, notes.outputs, pipeline.seconds, pipeline.description)


def compare_components(bundle: Bundle, runtime: str | None, rounded: Drawn) -> list[Measurement]:
    """Converter error: each exported graph against torch with the same rounding, on the inputs torch was given."""
    sessions = open_bundle(bundle.folder, runtime, verify=False, one_at_a_time=True).sessions
    rows = []
    for role, feeds in rounded.feeds.items():
        found = np.concatenate([_first(sessions[role].run(feed)) for feed in feeds])
        wanted = np.concatenate(rounded.outputs[role])
        if role == "text_encoder":
            found, wanted = (keep_prompt_rows(rows, rounded) for rows in (found, wanted))
        note = "exported graph vs torch with the same rounding, same inputs"
        rows.append(Measurement("converter_psnr_db", psnr_arrays(found, wanted), "dB", role, note=note))
        rows.append(Measurement("converter_relative_error", relative_error(found, wanted), "", role, note="the largest"))
        rows += [found.as_row(role) for found in list_findings(sessions[role])]
    return rows


def keep_prompt_rows(embeds: Array, rounded: Drawn) -> Array:
    """Rows of prompt_embeds [B, T, E] that belong to prompts: what stands at padded positions is hidden from the transformer."""
    every = len(rounded.feeds["transformer"]) // len(embeds)  # the transformer runs once a step
    mask = rounded.stack("transformer", "prompt_mask")[::every]
    kept: Array = embeds[mask.astype(bool)]
    return kept


def _first(outputs: Mapping[str, Array]) -> Array:
    return next(iter(outputs.values()))
