"""One bundle in every runtime that an app embeds: how far from the bundle's reference, how long beside Python, how many bytes.

    PYTHONPATH=. python benchmarks/embedding.py [--targets onnx-fp32,onnx-int8] [--out benchmarks/results/embedding.json]

Bundles of sprint-tiny with 1 and 2 steps are drawn in Python, Node, headless Chromium (WebAssembly with one thread and
two, WebGPU on its software adapter) and by the C++ program. `apart` is the largest difference of two values of 255 over
the reference's drawings, by step count; `milliseconds` the median of `runs` pictures of one step after a first one, one
thread but where two are said. The C++ program is a process a picture: its milliseconds are those of its only picture, the
networks open. WebGPU draws also what `openBundle` would refuse (`compare: false`), so that the table has the number.
"""

from __future__ import annotations

import argparse
import base64
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sprint_export.conversion import convert
from sprint_export.runtimes.open import open_bundle
from tests.runtimes.cpp.programs import draw_picture
from tests.runtimes.javascript.programs import SOFTWARE_GPU, make_work_folder, run_in_browser, run_in_node

TARGETS = "onnx-fp32,onnx-fp16,onnx-int8,onnx-w4a16,web-fp16,web-int8,web-w4a16"
STEPS, RUNS = (1, 2), 3
PAGES: Mapping[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "Chromium WASM, 1 thread": ({"threads": 1}, ()),
    "Chromium WASM, 2 threads": ({"threads": 2}, ()),
    "Chromium WebGPU, software": ({"provider": "webgpu", "compare": False}, SOFTWARE_GPU),
}
Drawing = Mapping[str, Any]  # of reference.json
Row = dict[str, Any]
Jobs = list[dict[str, Any]]
Results = list[dict[str, Any]]


def main() -> None:
    """Make the bundles, draw, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", default=TARGETS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "embedding.json")
    arguments = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as base:
        work = make_work_folder(Path(base) / "work")
        for target in arguments.targets.split(","):
            convert("sprint-tiny", target, work / target, steps=STEPS, validate=False)
            for row in measure_target(work, target):
                rows.append(row)
                print(json.dumps(row), flush=True)
            value = {"student": "sprint-tiny", "rows": rows}
            arguments.out.write_text(json.dumps(value, indent=1) + "\n", "utf-8")


def measure_target(work: Path, target: str) -> Iterable[Row]:
    """A row a runtime; one that cannot run the bundle says why."""
    bundle = work / target
    app = json.loads((bundle / "app.json").read_text("utf-8"))
    drawings = json.loads((bundle / app["reference"]).read_text("utf-8"))["drawings"]
    shipped = (bundle / "app.json").stat().st_size + sum(file["bytes"] for file in app["files"])
    runtimes: dict[str, Callable[[Path, list[Drawing]], Row]] = {"Python": draw_in_python, "C++": draw_in_cpp}
    runtimes["Node"] = partial(draw_by_jobs, {"threads": 1}, lambda jobs: run_in_node(work, jobs))
    for name, (options, flags) in PAGES.items():
        runtimes[name] = partial(draw_by_jobs, options, partial(run_page, work, flags))
    for name, draw in runtimes.items():
        yield {"runtime": name, "target": target, "bytes": shipped, **draw(bundle, drawings)}


def draw_in_python(bundle: Path, drawings: list[Drawing]) -> Row:
    """By `open_bundle`."""
    apart = {}
    for drawing in drawings:
        picture = open_bundle(bundle, steps=drawing["steps"])([drawing["prompt"]], seed=drawing["seed"])[0]
        apart[drawing["steps"]] = find_largest(bundle, drawing, picture)
    pipeline, times = open_bundle(bundle, steps=1), []
    for seed in range(RUNS + 1):
        start = time.perf_counter()
        pipeline([drawings[0]["prompt"]], seed=seed)
        times.append(1000 * (time.perf_counter() - start))
    return {"apart": apart, "runs": RUNS, "milliseconds": round(statistics.median(times[1:]), 1)}


def draw_in_cpp(bundle: Path, drawings: list[Drawing]) -> Row:
    """By the program `sprint-draw`."""
    apart, milliseconds = {}, None
    file = bundle.with_name("cpp.png")
    for drawing in drawings:
        asked = ("--seed", drawing["seed"], "--steps", drawing["steps"], "--threads", 1, "-o", file, "--times")
        done = draw_picture(bundle, drawing["prompt"], *asked)
        if done.returncode:
            return {"error": done.stderr.strip()[-300:]}
        with Image.open(file) as image:
            apart[drawing["steps"]] = find_largest(bundle, drawing, np.asarray(image.convert("RGB")))
        if drawing["steps"] == 1:
            words = (done.stdout + done.stderr).split()
            milliseconds = round(float(words[words.index("total") + 1]), 1)
    return {"apart": apart, "runs": 1, "milliseconds": milliseconds}


def draw_by_jobs(options: dict[str, Any], run: Callable[[Jobs], Results], bundle: Path, drawings: list[Drawing]) -> Row:
    """By the JavaScript package; `run` takes jobs to Node or a page."""
    asked = [{key: drawing[key] for key in ("prompt", "seed", "steps")} for drawing in drawings]
    common = {"bundle": bundle.name, "options": options}
    timed = {"do": "time", "prompt": drawings[0]["prompt"], "runs": RUNS}
    drawn, times = run([common | {"do": "draw", "drawings": asked}, common | timed])
    if "error" in drawn:
        return {"error": drawn["error"]["message"][:300]}
    apart = {}
    for drawing, found in zip(drawings, drawn["value"], strict=True):
        rgba = np.frombuffer(base64.b64decode(found["rgba"]), np.uint8).reshape(found["height"], found["width"], 4)
        apart[drawing["steps"]] = find_largest(bundle, drawing, rgba[..., :3])
    return {"apart": apart, "runs": RUNS, "milliseconds": round(statistics.median(times["value"]), 1)}


def run_page(work: Path, flags: tuple[str, ...], jobs: Jobs) -> Results:
    """In an isolated page of headless Chromium."""
    results: Results = run_in_browser(work, jobs, flags=flags)["results"]
    return results


def find_largest(bundle: Path, drawing: Drawing, picture: Any) -> int:
    """Largest difference from the reference's picture, of 255."""
    with Image.open(bundle / drawing["picture"]["file"]) as image:
        known = np.asarray(image.convert("RGB")).astype(int)
    return int(np.abs(picture.astype(int) - known).max())


if __name__ == "__main__":
    main()
