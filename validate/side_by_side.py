"""Draw the same prompts and noise twice: with the exported graphs, and in torch with the very same rounding.

One component is in memory at a time, on either side, so a full-size student is validated in the memory of its largest network.
What went into and came out of each component is noted for the first few prompts: there the converter is judged on equal inputs.
Small pictures: torch draws all of them, and the graphs are run once more on what torch's networks were fed. Large ones take most
of a minute each, so torch's networks are run once, on what the graphs were fed; that says the same of each network.

What a network gave is kept until the report is written, so that a killed run goes on (kept.py).
"""

from __future__ import annotations

import functools
import importlib.metadata
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from sprint_export.cache import hash_question
from sprint_export.compute import CPU, Compute
from sprint_export.export.bundle import locate_kind
from sprint_export.json_forms import to_json
from sprint_export.nouns.bundle import Bundle, ComponentRecord
from sprint_export.nouns.chain import is_loop
from sprint_export.nouns.report import Finding, Measurement
from sprint_export.nouns.student import Component, Student, TensorSpec
from sprint_export.progress import Progress, Step, quiet, track
from sprint_export.quantize.mend.edits import edit_component, read_edits
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.registry import load_target
from sprint_export.runtimes.open import chain_sessions, open_pipeline
from sprint_export.runtimes.runtime import Runtime
from sprint_export.session import OneAtATime, Pipeline, join_findings, list_findings, to_uint8
from sprint_export.specialize import specialize_like
from sprint_export.students.family import Draws
from sprint_export.validate import kept as kept_files
from sprint_export.validate.bundle_layers import take_layers
from sprint_export.validate.images import psnr_arrays, relative_error
from sprint_export.validate.kept import Kept
from sprint_export.validate.rows import Rows, join_rows

if TYPE_CHECKING:
    from sprint_export.session import Array, Session

ROLE_SAMPLES = 4  # small pictures on which single components are compared; whole pictures use all prompts
LARGE_SAMPLES = 1  # likewise of large ones
ROUNDED, EXPORTED = "torch, rounded", "exported"  # stages of progress
UNFINISHED, OWNER_LETTERS = "unfinished", 16  # of the cache
NO_MASK = np.zeros((0, 0), np.int64)  # of prompts whose single networks nobody compares
RAN_ON = " ran on"  # beside the outputs in a file; no network's output is called so


@dataclass
class Trace:
    """What one network did: inputs and outputs of the first calls, seconds of those that ran, what its session noticed."""

    feeds: list[Mapping[str, Array]] = field(default_factory=list)
    outputs: list[Mapping[str, Array]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # a row of what it was fed
    findings: list[Finding] = field(default_factory=list)


@dataclass
class Drawn:
    """Pictures uint8 [B, H, W, 3], the sampler's x0, the mask of the first prompts; what each network did, by role."""

    pictures: Rows
    latents: Rows
    mask: Array
    traces: Mapping[str, Trace]
    description: str

    @property
    def seconds(self) -> dict[str, list[float]]:
        """Of the calls that ran, by role."""
        return {role: trace.seconds for role, trace in self.traces.items()}

    def join(self, later: Drawn) -> Drawn:
        """Both; each call that opened a network is left out of the later's seconds, as it is of the first's.

        What sessions noticed is put together; inputs and outputs are the first's alone.
        """
        traces = dict(self.traces)
        for role, trace in later.traces.items():
            own = traces.get(role, Trace())
            traces[role] = replace(
                own, seconds=[*own.seconds, *trace.seconds[1:]], findings=join_findings([*own.findings, *trace.findings])
            )
        pictures, latents = join_rows(self.pictures, later.pictures), join_rows(self.latents, later.latents)
        return replace(self, pictures=pictures, latents=latents, traces=traces)


@dataclass(frozen=True)
class Watching:
    """How the networks of a side are watched.

    Args:
        side: what progress calls it.
        question: what decides the outputs of a network, beside its role and inputs.
        kept: where outputs are kept until the report is written.
        samples: prompts whose inputs and outputs are noted.
    """

    side: str
    question: str
    kept: Kept
    samples: int


@dataclass
class Watched:
    """A network's session, opened when it first has to run: what is kept for equal inputs is recalled.

    Args:
        sessions: of which it is one.
        role: the network's.
        trace: what is noted of it.
        calls: how many rows there will be, over all calls.
        samples: of those, how many are noted with inputs and outputs.
        watching: where outputs are kept, and as whose.
    """

    sessions: Mapping[str, Session]
    role: str
    trace: Trace
    calls: int
    samples: int
    watching: Watching
    description: str = ""

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs by name -> outputs by name."""
        path = self.watching.kept.locate([self.watching.question, self.role], feeds)
        found = self.watching.kept.read(path)
        if found is None:
            result = self._run(feeds, path)
        else:
            self.description = str(found.pop(RAN_ON))
            result = found
        if len(self.trace.feeds) < self.samples:
            self.trace.feeds.append(dict(feeds))
            self.trace.outputs.append(result)
        return result

    def _run(self, feeds: Mapping[str, Array], path: Path) -> dict[str, Array]:
        session = self.sessions[self.role]
        start = time.perf_counter()
        result = session.run(feeds)
        rows = max(map(len, feeds.values()))
        self.trace.seconds.extend([(time.perf_counter() - start) / rows] * rows)
        self.description = session.description
        if len(self.trace.seconds) == self.calls:
            self.trace.findings = list_findings(session)
        # what a session noticed of this run is not in its outputs: one that notices anything runs again
        if self.trace.seconds[-1] >= kept_files.LEAST_SECONDS and not list_findings(session):
            self.watching.kept.write(path, result | {RAN_ON: np.array(session.description)})
        return result


def draw_exported(
    bundle: Bundle,
    runtime: Runtime,
    draws: Draws,
    progress: Progress = quiet,
    kept: Kept | None = None,
    samples: int = 0,
    pipeline: Pipeline | None = None,
) -> Drawn:
    """With the bundle's own files, on a runtime that can open it here; inputs and outputs of the first `samples` are noted.

    A pipeline of the bundle on that runtime is taken as it is; without one it is opened, one network at a time.
    """
    pipeline = pipeline or open_pipeline(bundle, runtime, one_at_a_time=True)
    question = describe_side(bundle, runtime.title)
    return _draw(pipeline, draws, progress, Watching(EXPORTED, question, kept or keep_unfinished(bundle), samples))


def draw_rounded(bundle: Bundle, student: Student, draws: Draws, progress: Progress, kept: Kept | None = None) -> Drawn:
    """In torch, float32 arithmetic, with inputs and weights rounded as the bundle's manifest says."""
    pipeline = chain_sessions(bundle, open_rounded(bundle, student, draws.compute))
    return _draw(pipeline, draws, progress, _watch_rounded(bundle, kept, draws.compute, ROLE_SAMPLES))


def _watch_rounded(bundle: Bundle, kept: Kept | None, compute: Compute, samples: int = 0) -> Watching:
    return Watching(ROUNDED, describe_side(bundle, f"{ROUNDED}, {compute.title}"), kept or keep_unfinished(bundle), samples)


@dataclass(frozen=True)
class RoundedKeeper:
    """Keeps what rounded networks gave elsewhere, so that `compare_rounded` need not run them again on the same inputs."""

    bundle: Bundle
    kept: Kept
    compute: Compute = CPU

    def keep(self, role: str, feeds: Mapping[str, Array], result: Mapping[str, Array], ran_on: str) -> None:
        """What a network gave on these inputs."""
        question = _watch_rounded(self.bundle, self.kept, self.compute).question
        self.kept.write(self.kept.locate([question, role], feeds), {**result, RAN_ON: np.array(ran_on)})


def keep_unfinished(bundle: Bundle) -> Kept:
    """Where results of a bundle's validation are kept until its report is written."""
    return Kept(UNFINISHED, describe_side(bundle, str(bundle.folder.resolve()))[:OWNER_LETTERS])


def describe_side(bundle: Bundle, side: str) -> str:
    """All that decides what a side's networks give, beside their inputs: files by sha256, layers, libraries, the CPU."""
    return hash_question(
        [to_json(replace(bundle, folder=Path())), side, list_installed(), torch.backends.cpu.get_cpu_capability()]
    )


@functools.cache
def list_installed() -> tuple[str, ...]:
    """Every installed distribution with its version: a runtime's library is one of them."""
    return tuple(sorted(f"{each.name} {each.version}" for each in importlib.metadata.distributions()))


def open_rounded(bundle: Bundle, student: Student, compute: Compute = CPU) -> OneAtATime:
    """Sessions of torch's networks, rounded as the bundle's are."""
    specialized = specialize_like(student, bundle)
    dtype = load_target(bundle.target).graph_dtype[bundle.precision]
    records = {record.role: record for record in bundle.components}

    def open_session(role: str) -> Session:
        return TorchSession(take_component(bundle, specialized, records[role]), fake=True, dtype=dtype, compute=compute)

    return OneAtATime(bundle.chain.group(list(records)), open_session)


def take_component(bundle: Bundle, specialized: Student, record: ComponentRecord) -> Component:
    """The student's network with the edits and the layers that the bundle names."""
    component = edit_component(specialized.components[record.role], read_edits(locate_kind(bundle, record.role, "edits")))
    return take_layers(component, record.layers)


def pair_components(bundle: Bundle, student: Student, rounded: Drawn) -> Iterator[tuple[Component, Mapping[str, Array]]]:
    """Each component as the bundle rounds it, with what went into it at the first prompt; one at a time, when asked for."""
    specialized = specialize_like(student, bundle)
    for record in bundle.components:
        trace = rounded.traces.get(record.role)
        if trace is not None and trace.feeds:  # an optional network may not have run
            yield take_component(bundle, specialized, record), trace.feeds[0]


def _draw(pipeline: Pipeline, draws: Draws, progress: Progress, watching: Watching) -> Drawn:
    executor, sessions = pipeline.executor, pipeline.sessions
    traces = {stage.role: Trace() for group in executor.groups for stage in group}
    often = {stage.role: len(draws.noise) if is_loop(group) else 1 for group in executor.groups for stage in group}

    def watch(role: str) -> Session:
        calls, samples = (often[role] * count for count in (len(draws.prompts), watching.samples))
        return Watched(sessions, role, traces[role], calls, samples, watching)

    pipeline = pipeline.over(OneAtATime(executor.groups, watch))

    def tell(step: Step, done: int, total: int) -> None:
        progress(replace(step, stage=watching.side), done, total)

    names = executor.chain.names
    drawn = [
        (to_uint8(table[names.picture]), table[names.state], table[names.mask])
        for table in pipeline.draw(draws.prompts, noise=draws.noise, inputs=draws.inputs, progress=tell)
    ]
    pictures, latents, mask = map(np.concatenate, zip(*drawn, strict=True))
    return Drawn(pictures, latents, mask, traces, pipeline.description)


def compare_components(bundle: Bundle, runtime: Runtime, rounded: Drawn, progress: Progress = quiet) -> list[Measurement]:
    """Converter error: each exported graph against torch with the same rounding, on the inputs torch was given."""
    sessions = open_pipeline(bundle, runtime, one_at_a_time=True).sessions
    rows = []
    for role, trace in track(rounded.traces.items(), Step("comparing"), progress):
        if trace.feeds:  # an optional network may not have run
            found = [sessions[role].run(feed) for feed in trace.feeds]
            rows += _compare_outputs(bundle, role, found, trace.outputs, rounded.mask)
            rows += [finding.as_row(role) for finding in list_findings(sessions[role])]
    return rows


def compare_rounded(
    bundle: Bundle, student: Student, exported: Drawn, progress: Progress, kept: Kept | None = None, compute: Compute = CPU
) -> tuple[list[Measurement], Array]:
    """The same on the inputs that the exported graphs were given, and the pictures that torch's last network makes of those."""
    sessions, watching = open_rounded(bundle, student, compute), _watch_rounded(bundle, kept, compute)
    rows: list[Measurement] = []
    pictures: list[Array] = []
    for role, trace in exported.traces.items():
        if trace.feeds:
            watched = Watched(sessions, role, Trace(), 0, 0, watching)
            wanted = [watched.run(feed) for feed in track(trace.feeds, Step(ROUNDED, role), progress)]
            rows += _compare_outputs(bundle, role, trace.outputs, wanted, exported.mask)
            rows += [finding.as_row(role) for finding in trace.findings]
            pictures = [run[bundle.chain.names.picture] for run in wanted if bundle.chain.names.picture in run]
    return rows, to_uint8(np.concatenate(pictures))


def _compare_outputs(
    bundle: Bundle, role: str, found: Sequence[Mapping[str, Array]], wanted: Sequence[Mapping[str, Array]], mask: Array
) -> list[Measurement]:
    ours, theirs = (_join(bundle, mask, runs) for runs in (found, wanted))
    note = "exported graph vs torch with the same rounding, same inputs"
    return [
        Measurement("converter_psnr_db", psnr_arrays(ours, theirs), "dB", role, note=note),
        Measurement("converter_relative_error", relative_error(ours, theirs), "", role, note="the largest"),
    ]


def _join(bundle: Bundle, mask: Array, runs: Sequence[Mapping[str, Array]]) -> Array:
    """All outputs of all runs as one array; of a text, without the rows at padded positions: who reads it hides them."""
    outputs = [np.concatenate([run[name] for run in runs]) for name in runs[0]]
    texts = {spec.name for record in bundle.components for spec in record.outputs if _is_text(bundle, record, spec)}
    kept = [
        value[mask[: len(value)].astype(bool)] if name in texts else value for name, value in zip(runs[0], outputs, strict=True)
    ]
    return kept[0] if len(kept) == 1 else np.concatenate([value.reshape(-1) for value in kept])


def _is_text(bundle: Bundle, record: ComponentRecord, spec: TensorSpec) -> bool:
    """Whether a value has a row for each of the prompt's kept positions."""
    return bundle.chain.names.ids in {each.name for each in record.inputs} and spec.shape[1:2] == (bundle.prompt.keep,)
