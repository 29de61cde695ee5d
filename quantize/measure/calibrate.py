"""Watch what goes into every Linear and Conv2d, and what wide convolutions give, on real prompts, at the student's own times.

What is kept are records (records.py), not decisions: cached on disk under a hash of (weights, plan, prompts, seed), they
serve every recipe. Each chunk of the walk (walk.py) is written when it is done, so a run that was killed goes on after
the last one. Prompts go in rounds, and no more of them than it takes for a network's ranges to settle (settling.py).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sprint_export.cache import hash_question, open_cache
from sprint_export.compute import CPU, Compute
from sprint_export.errors import InputError
from sprint_export.json_forms import to_json
from sprint_export.nouns.student import Student
from sprint_export.progress import Progress, Step, quiet
from sprint_export.quantize.measure.records import Record, load_records, merge_records, record_rows, save_records
from sprint_export.quantize.measure.settling import Maxima, has_settled, list_rounds
from sprint_export.quantize.measure.streaming import OUTPUT, Listener, ignore
from sprint_export.quantize.measure.walk import Chunk, walk_rounds
from sprint_export.students.family import load_family
from sprint_export.weights import free_large_tensors_at_once

if TYPE_CHECKING:
    from sprint_export.executor import Values

CACHE_FORMAT = 5


def calibrate(
    student: Student, prompts: Sequence[str], seed: int, progress: Progress = quiet, compute: Compute = CPU
) -> dict[str, Record]:
    """Records of inputs by `role.layer`, and of outputs by `role.layer:output` where streaming.py tells of them.

    Args:
        student: specialized; components that are missing are skipped with what feeds them replaced by unit noise.
        prompts: texts typical for the student; the first of them, until the ranges of all networks have settled.
        seed: of the noise.
        progress: is told (step, done, total); what it raises ends the run, and the next call goes on from there.
        compute: where networks run; what was measured on one device serves all (docs/decisions/0028).

    Raises:
        InputError: no prompts, or an activation is NaN or infinite. MachineError: the cache cannot be written to.
    """
    if not prompts:
        raise InputError("calibration needs prompts and got none; give --prompts FILE with one prompt a line")
    path = open_cache("calibration") / name_records(student, prompts, seed)
    unfinished = path.with_suffix(".chunks")
    if (saved := load_records(path)) is not None:
        records = saved[0]
    else:  # or damaged: it is measured anew, and replaced
        free_large_tensors_at_once()
        recorder = _Recorder(student, unfinished, progress)
        walk_rounds(student, prompts, seed, recorder, list_rounds(len(prompts)), compute)
        progress(Step("calibrating"), recorder.total, recorder.total)
        records = recorder.records
        save_records(path, records)
    shutil.rmtree(unfinished, ignore_errors=True)  # of this run, or of one that was killed here
    return records


def name_records(student: Student, prompts: Sequence[str], seed: int) -> str:
    """The file's name in the cache's folder `calibration`."""
    asked = [to_json(student.plan), to_json(student.prompt), list(prompts), seed, sorted(student.components)]
    return f"{hash_question([CACHE_FORMAT, student.fingerprint, *asked])}.safetensors"


class _Recorder:
    """The visitor that gathers records by layer, until they settle; a chunk whose file is there is not run again."""

    is_divisible = True

    def __init__(self, student: Student, folder: Path, progress: Progress) -> None:
        self.folder, self.progress, self.total = folder, progress, 0
        self.records: dict[str, Record] = {}  # by `role.layer`, of all chunks
        self._maxima: dict[str, list[Maxima]] = {}  # of each chunk, by group
        self._settled: set[str] = set()  # groups that only run, for what others read of them
        migrations, roles = load_family(student.family).list_migrations, student.components
        self._smoothed = {f"{role}.{layer}" for role in roles for each in migrations(student, role) for layer in each.consumers}

    def wants(self, name: str) -> bool:
        """Whether the ranges of a group's layers still grow."""
        if name not in self._settled and has_settled(self._maxima.get(name, ()), self._smoothed):
            self._settled.add(name)
        return name not in self._settled

    def visit(self, chunk: Chunk, run: Callable[[Listener], Values]) -> Values:
        """Read the chunk from the disk where an earlier run wrote it, else measure and write it."""
        self.total = chunk.total
        path = self.folder / f"{chunk.name}.{chunk.steps}.{chunk.start}-{chunk.stop}.safetensors"
        watcher = _Watcher(chunk, self.progress)
        watcher.tell()
        if (saved := load_records(path)) is not None:
            records, output = saved[0], {name: value.numpy() for name, value in saved[1].items()}
        else:
            output = run(ignore if chunk.name in self._settled else watcher.listen)
            records = watcher.gather()
            save_records(path, records, {name: torch.from_numpy(value) for name, value in output.items()})
        self._maxima.setdefault(chunk.name, []).append(
            Maxima(chunk.stop, {name: record.amax for name, record in records.items()})
        )
        for layer, record in records.items():
            self.records[layer] = merge_records([self.records[layer], record] if layer in self.records else [record])
        return output


class _Watcher:
    """Records what the layers of one group's networks read in one chunk."""

    def __init__(self, chunk: Chunk, progress: Progress) -> None:
        self.chunk, self.progress = chunk, progress
        self.heard = 0
        self._seen: dict[str, list[Record]] = {}
        self._last: tuple[torch.Tensor, Record] | None = None  # Q, K and V read one tensor: it is looked at once

    def listen(self, name: str, layer: torch.nn.Module, x: torch.Tensor) -> None:
        """A layer's input or output, [b, ..., C] of a Linear or [b, C, h, w] of a Conv2d."""
        if self._last is None or self._last[0] is not x:
            self._last = x, self._record(name, layer, x)
        self._seen.setdefault(name, []).append(self._last[1])
        self.heard += not name.endswith(OUTPUT)
        self.tell()

    def tell(self) -> None:
        """Progress in prompts: all of a chunk pass a layer together."""
        prompts = self.chunk.stop - self.chunk.start
        within = min(prompts - 1, prompts * self.heard // self.chunk.inputs)
        self.progress(Step("calibrating"), self.chunk.done + within, self.chunk.total)

    def gather(self) -> dict[str, Record]:
        """By `role.layer`, of all that was listened to."""
        return {layer: merge_records(seen) for layer, seen in self._seen.items()}

    def _record(self, name: str, layer: torch.nn.Module, x: torch.Tensor) -> Record:
        record = record_rows(self.chunk.select_rows(name, layer, x))
        if not torch.isfinite(record.amax).all():
            raise InputError(
                f"{name.removesuffix(OUTPUT)}: its {'output' if name.endswith(OUTPUT) else 'input'} is "
                f"{_first_wrong(record.amax)} on the calibration prompts; the weights are damaged or overflow float32, so no "
                "scale can be measured"
            )
        return record


def _first_wrong(values: torch.Tensor) -> float:
    return float(values[~torch.isfinite(values)][0])
