"""A bundle as embedding.py measures it: packed, drawn in Python, its networks' inputs and outputs kept."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
from PIL import Image

from sprint_export.conversion import convert
from sprint_export.errors import SprintExportError
from sprint_export.packing import pack_bundle
from sprint_export.runtimes import open_bundle
from sprint_export.runtimes.onnx_cpu import runtime as onnx_runtime
from sprint_export.session import Pipeline, Session

Array = npt.NDArray[Any]
Cell = dict[str, Any]
RUNS = 15  # timed draws


@dataclass(frozen=True)
class Call:
    """One call of a network in Python: what it read and what it wrote."""

    role: str
    feeds: Mapping[str, Array]
    written: Mapping[str, Array]


@dataclass(frozen=True)
class Recorder:
    """A session that keeps its calls."""

    session: Session
    role: str
    calls: list[Call]

    @property
    def description(self) -> str:
        return self.session.description

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs by name -> outputs by name."""
        written = self.session.run(feeds)
        self.calls.append(Call(self.role, dict(feeds), written))
        return written


@dataclass
class Case:
    """A bundle, what is packed of it by destination (or why it is not), its first reference drawing, Python's calls for that."""

    bundle: Path
    packed: dict[str, Path | str]
    drawing: Mapping[str, Any]
    picture: Array
    calls: list[Call] = field(default_factory=list)
    others: list[Array] = field(default_factory=list)  # Python's pictures of seeds 0, 1, ...

    def find_folder(self, destination: str) -> Path:
        """What is packed, or the whole bundle where the target does not ship there."""
        packed = self.packed[destination]
        return self.bundle if isinstance(packed, str) else packed


def open_in_python(bundle: Path, threads: int) -> Pipeline:
    """`open_bundle` with so many threads an operator."""
    make_options = onnx_runtime.make_options

    def make_with_threads(keeps_memory: bool = True) -> Any:
        options = make_options(keeps_memory)
        options.intra_op_num_threads = threads
        return options

    with mock.patch.object(onnx_runtime, "make_options", make_with_threads):
        return open_bundle(bundle)


def time_in_python(case: Case, threads: int, runs: int) -> list[float]:
    """Milliseconds of draws, one left out."""
    pipeline, found = open_in_python(case.bundle, threads), []
    for seed in (0, *range(runs)):
        began = time.perf_counter()
        picture = pipeline([case.drawing["prompt"]], seed=seed)[0]
        found.append(1e3 * (time.perf_counter() - began))
        if seed == len(case.others):
            case.others.append(picture.astype(int))
    return found[1:]


def make_case(student: str, target: str, folder: Path) -> Case:
    """Export, pack for every destination, draw the reference in Python."""
    bundle = folder / "bundle"
    convert(student, target, bundle, validate=False)
    packed: dict[str, Path | str] = {}
    for destination in ("web", "node", "cpp"):
        try:
            packed[destination] = pack_bundle(bundle, destination, folder / destination).folder
        except SprintExportError as error:
            packed[destination] = str(error)
    drawing = json.loads((bundle / "reference/reference.json").read_text("utf-8"))["drawings"][0]
    with Image.open(bundle / drawing["picture"]["file"]) as picture:
        return Case(bundle, packed, drawing, np.asarray(picture).astype(int))


def measure_python(case: Case) -> Cell:
    """Python's own row; notes what every network read and wrote."""
    pipeline = open_in_python(case.bundle, 1)
    recorders = {role: Recorder(session, role, case.calls) for role, session in pipeline.executor.sessions.items()}
    picture = pipeline.over(recorders)([case.drawing["prompt"]], seed=case.drawing["seed"])[0]
    return {"largest": find_largest(case.picture, picture), "ms": median(time_in_python(case, 1, RUNS)), "python_threads": 1}


def compare_call(call: Call, written: Mapping[str, Any]) -> float | str:
    """The least signal to noise of a network's outputs beside Python's, in dB; "equal" where every bit is."""
    found = []
    for name, wanted in call.written.items():
        value = np.frombuffer(base64.b64decode(written[name]["data"]), written[name]["type"]).astype(np.float64)
        noise = float(np.mean((value - wanted.ravel()) ** 2))
        if noise:
            found.append(10 * float(np.log10(np.mean(wanted.astype(np.float64) ** 2) / noise)))
    return round(min(found), 1) if found else "equal"


def write_array(value: Array) -> dict[str, Any]:
    """Type, dims and bytes, as jobs.js reads them."""
    wide = value if value.dtype == np.int64 else value.astype(np.float32)
    return {"type": wide.dtype.name, "dims": wide.shape, "data": base64.b64encode(wide.tobytes()).decode()}


def find_largest(wanted: Array, picture: Array) -> int:
    """Difference of two pictures, of 255."""
    return int(np.abs(picture.astype(int) - wanted).max())


def count_bytes(case: Case, destination: str) -> Cell:
    """Of all packed files; null, and why, where the target does not ship there: then the whole bundle was drawn from."""
    packed = case.packed[destination]
    if isinstance(packed, str):
        return {"bytes": None, "not_packed": packed}
    return {"bytes": sum(file.stat().st_size for file in packed.rglob("*") if file.is_file())}


def median(times: list[float]) -> float:
    """Milliseconds, two digits."""
    return round(float(np.median(times)), 2)


def place_bundles(work: Path, kept: Path | None) -> Path:
    """`work`/bundles, where bundles are made; a link to `kept`, so that they stay, where that is given."""
    bundles = work / "bundles"
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        bundles.symlink_to(kept.resolve())
    return bundles
