"""Every runtime of an app on every ONNX target: how far from the bundle's reference, milliseconds beside Python's, bytes shipped.

    python benchmarks/embedding.py                                               # all rows, about 20 minutes on two cores
    python benchmarks/embedding.py --student sprint-tiny --target onnx-int8      # these rows anew, the others stay

Node, headless Chromium and C++ draw from what `pack` makes for them, in processes of their own. `largest` is the largest
difference of two pixels' values (of 255) from the picture in `reference/`, `largest_of` that of `seeds` other pictures from
Python's. `ms` is the median of those, `python_ms` that of Python in as many threads, half of its draws before and half after.
`decibels`: each network alone, fed with what Python's had, signal to noise of its outputs beside Python's, or "equal" to the bit:
it says which network parts. Where a runtime draws nothing, `reason` is what it said.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import importlib.metadata
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.append(str(Path(__file__).resolve().parents[1]))  # tests/ is no installed package

from embedding_case import (
    RUNS,
    Array,
    Case,
    Cell,
    compare_call,
    count_bytes,
    find_largest,
    make_case,
    measure_python,
    median,
    place_bundles,
    time_in_python,
    write_array,
)
from embedding_same import compare_seeds

from sprint_export.validate.machine import describe_machine
from tests.runtimes.cpp.programs import ask_probe, draw_picture
from tests.runtimes.javascript.programs import HERE, SOFTWARE_GPU, make_work_folder, run_in_browser, run_in_node

ALL = ("onnx-fp32", "onnx-fp16", "onnx-int8", "onnx-fp8", "onnx-fp8a16", "onnx-w4a16", "web-fp16", "web-int8", "web-w4a16")
SOME = ("onnx-fp32", "onnx-int8", "web-fp16")
STUDENTS = {"sprint-tiny": ALL, "tbcm-tiny": SOME, "twinflow-tiny": SOME, "control-tiny": SOME}
EXACT = "onnx-fp32"
GPU_RUNS = 1  # a picture on the software adapter takes seconds
OUT = Path("benchmarks/results/embedding.json")


def measure_beside_python(case: Case, threads: int, measure: Any) -> Cell:
    """A runtime's cell with Python's milliseconds before and after."""
    before = time_in_python(case, threads, RUNS // 2)
    cell: Cell = measure(case)
    times = before + time_in_python(case, threads, RUNS - RUNS // 2)
    return cell | ({} if "reason" in cell else {"python_ms": median(times), "python_threads": threads})


def measure_node(case: Case, work: Path) -> Cell:
    """onnxruntime-node, one thread."""
    [result] = run_in_node(work, [describe_job(case, case.find_folder("node"), RUNS, {"threads": 1})])
    return read_result(case, result) | count_bytes(case, "node")


def measure_page(case: Case, work: Path, options: Mapping[str, Any], flags: tuple[str, ...] = ()) -> Cell:
    """onnxruntime-web in headless Chromium; on WebGPU also what the package says of its first picture."""
    path = case.find_folder("web").relative_to(work).as_posix()
    is_gpu = options.get("provider") == "webgpu"
    jobs = [describe_job(case, path, GPU_RUNS if is_gpu else RUNS, {**options, "compare": False, "cache": False})]
    if is_gpu:
        jobs.append({"do": "draw", "bundle": path, "options": options, "drawings": []})
    result, *opened = run_in_browser(work, jobs, flags=flags)["results"]
    refused = [one["error"]["message"] for one in opened if "error" in one and "value" in result]
    return read_result(case, result) | count_bytes(case, "web") | ({"refused": refused[0]} if refused else {})


def measure_cpp(case: Case, work: Path) -> Cell:
    """sprint-draw's picture, and milliseconds of the library in one process."""
    folder, drawing = case.find_folder("cpp"), case.drawing
    asked = ("--seed", drawing["seed"], "--steps", drawing["steps"], "--threads", 1, "-o", work / "cpp.png")
    done = draw_picture(folder, drawing["prompt"], *asked)
    if done.returncode:
        return {"reason": done.stderr.strip()} | count_bytes(case, "cpp")
    drawn = ask_probe("times", {"folder": str(folder), "prompt": drawing["prompt"], "threads": 1, "runs": RUNS})
    known = [hashlib.sha256(picture.astype(np.uint8).tobytes()).hexdigest() for picture in case.others]
    same = sum(one["sha256"] == wanted for one, wanted in zip(drawn, known, strict=True))
    with Image.open(work / "cpp.png") as picture:
        cell = {"largest": find_largest(case.picture, np.asarray(picture)), "seeds": RUNS, "same_of": same}
    cell["ms"] = median([one["milliseconds"] for one in drawn])
    return cell | {"check": draw_picture(folder, "--check", "--threads", 1).stdout.strip()} | count_bytes(case, "cpp")


def describe_job(case: Case, bundle: Path | str, runs: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """A job of tests/runtimes/javascript/jobs.js."""
    calls = [{"network": call.role, "feeds": {name: write_array(v) for name, v in call.feeds.items()}} for call in case.calls]
    drawing = {name: case.drawing[name] for name in ("prompt", "seed", "steps")}
    return {"do": "measure", "bundle": str(bundle), "options": options, "runs": runs, "calls": calls, **drawing}


def read_result(case: Case, result: Mapping[str, Any]) -> Cell:
    """A job's result as a cell."""
    if "error" in result:
        return {"reason": result["error"]["message"]}
    value = result["value"]
    pictures = [read_picture(value, one["rgba"]) for one in (value, *value["others"])]
    parts = [compare_call(call, written) for call, written in zip(case.calls, value["calls"], strict=True)]
    decibels = {call.role: part for call, part in zip(case.calls, parts, strict=True)}
    others = max(find_largest(*pair) for pair in zip(case.others, pictures[1:], strict=False))
    cell = {"largest": find_largest(case.picture, pictures[0]), "seeds": len(pictures) - 1, "largest_of": others}
    return cell | {"ms": median([one["milliseconds"] for one in value["others"]]), "decibels": decibels}


def read_picture(size: Mapping[str, int], rgba: str) -> Array:
    """RGB of a picture as jobs.js writes it."""
    return np.frombuffer(base64.b64decode(rgba), np.uint8).reshape(size["height"], size["width"], 4)[..., :3]


def measure_row(case: Case, work: Path, chosen: Sequence[str]) -> dict[str, Any]:
    """A bundle in Python and in the chosen runtimes."""
    row: dict[str, Any] = {"Python": describe_moment() | measure_python(case)}
    for name in chosen:
        threads, measure = RUNTIMES[name]
        began = describe_moment()
        try:
            row[name] = began | measure_beside_python(case, threads, partial(measure, work=work))
        except AssertionError as error:  # a program that ended early
            row[name] = began | {"reason": f"the program failed: {str(error)[-300:]}"}
        print(name, row[name], flush=True)
    return row


def describe_moment() -> dict[str, Any]:
    """When, and how many processes wanted a core in the minute before."""
    return {"date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), "load": round(os.getloadavg()[0], 1)}


RUNTIMES: dict[str, tuple[int, Any]] = {  # threads of Python beside it
    "Node": (1, measure_node),
    "C++": (1, measure_cpp),
    "Chromium WASM, 1 thread": (1, partial(measure_page, options={"threads": 1})),
    "Chromium WASM, 2 threads": (2, partial(measure_page, options={"threads": 2})),
    "Chromium WebGPU": (1, partial(measure_page, options={"provider": "webgpu"}, flags=SOFTWARE_GPU)),
}


def describe_versions() -> dict[str, str]:
    """Of what ran."""
    npm = json.loads((HERE / "packages.json").read_text("utf-8"))["dependencies"]
    wanted = ("onnxruntime-node", "onnxruntime-web", "@sparticuz/chromium")
    return {"onnxruntime (Python, C++)": importlib.metadata.version("onnxruntime")} | {name: npm[name] for name in wanted}


def main() -> None:
    """Measure row by row; the file is whole after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", action="append", choices=STUDENTS, help="default: all")
    parser.add_argument("--target", action="append", choices=ALL, help="default: all of the student's")
    parser.add_argument("--runtime", action="append", choices=RUNTIMES, help="default: all; the others' figures stay")
    parser.add_argument("--work", type=Path, help="bundles made here stay; default: a temporary folder")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sprint-export-") as temporary:
        work = make_work_folder(Path(temporary) / "javascript")
        bundles = place_bundles(work, asked.work)
        value = json.loads(asked.out.read_text("utf-8")) if asked.out.exists() else {"rows": {}}
        value |= {"command": "python benchmarks/embedding.py", "machine": describe_machine(), "versions": describe_versions()}
        for student in asked.student or STUDENTS:
            for target in asked.target or STUDENTS[student]:
                print(student, target, flush=True)
                case = make_case(student, target, bundles / student / target)
                row = value["rows"].setdefault(f"{student} {target}", {})
                row |= measure_row(case, work, asked.runtime or list(RUNTIMES))
                if (student, target) == ("sprint-tiny", EXACT) and not asked.runtime:
                    value["same"] = compare_seeds(case.bundle, work)
                asked.out.write_text(json.dumps(value, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
