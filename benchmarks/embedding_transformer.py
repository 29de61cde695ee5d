"""SANA-Sprint 0.6B's transformer at 1024 px, alone, in Node and in Chromium's WebAssembly: seconds and memory; random weights.

    python benchmarks/embedding_transformer.py                          # web-int8, Node: some 10 minutes on two cores, 5 GB
    python benchmarks/embedding_transformer.py --place Chromium

Ranges are made up, since seconds and bytes do not depend on them. The JavaScript package opens the network as it opens a bundle's:
app.json, sizes and hashes, one network in memory at a time. `first_result_s` reads, hashes and opens the graph and runs it once; `ms` is
the median of the runs after that; `peak_gb` is of the whole process (Node), `python_ms` and `python_peak_gb` of Python with the same file and
as many threads. `decibels`: the output beside Python's, signal to noise.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))  # tests/ is no installed package

from cpu_networks import NAME, make_feeds, make_student
from embedding_case import median, write_array

from sprint_export.export.exporter import load_exporter
from sprint_export.nouns.bundle import ComponentRecord
from sprint_export.validate.machine import describe_machine
from tests.runtimes.javascript.programs import HERE, make_work_folder, run_in_browser, run_in_node

ROLE, PIXELS, TARGET = "transformer", 1024, "web-int8"
RUNS = 3
OUT = Path("benchmarks/results/embedding_transformer.json")
PLACES = ("Node", "Chromium")
Json = dict[str, Any]


def export(folder: Path) -> Json:
    """The network as an app's only one, with an app.json of its own; what it holds."""
    from sprint_export.conversion import keep_components
    from sprint_export.devices import find_device
    from sprint_export.nouns.order import Deployment
    from sprint_export.planning.building import round_plainly
    from sprint_export.registry import load_target
    from sprint_export.specialize import specialize_student

    name, precision = TARGET.split("-")
    target = load_target(name)
    student = keep_components(specialize_student(make_student(PIXELS)), [ROLE])
    deployment = Deployment(target, precision, find_device(target.default_device), {})
    (folder / ROLE).mkdir(parents=True)
    component = round_plainly(student, deployment).components[ROLE]
    record = load_exporter(target).write_component(component, target, precision, {}, folder / ROLE)
    app = describe_app(folder, record, list(student.latent_shape))
    (folder / "app.json").write_text(json.dumps(app), "utf-8")
    return {"files": app["files"], "mb": round(sum(file["bytes"] for file in app["files"]) / 1e6, 1)}


def describe_app(folder: Path, record: ComponentRecord, latents: list[int]) -> Json:
    """An app.json of one network: what the package reads before it opens it."""
    [part] = record.parts
    paths = sorted(path for path in (folder / ROLE).iterdir() if path.name.startswith("model.onnx"))
    specs = {side: [vars(spec) | {"shape": list(spec.shape)} for spec in getattr(part, side)] for side in ("inputs", "outputs")}
    files = [{"path": f"{ROLE}/{path.name}", "bytes": path.stat().st_size, "sha256": hash_file(path)} for path in paths]
    graph = {"path": f"{ROLE}/{part.graph}", "format": "onnx", "files": [file["path"] for file in files], **specs}
    out = part.outputs[0].name
    return {
        "format": 1,
        "name": NAME,
        "licence": "random weights",
        "target": TARGET,
        "size": [PIXELS, PIXELS],
        "runtimes": {"onnxruntime": "1.21.0"},
        "files": files,
        "networks": {ROLE: {"graphs": [graph]}},
        "stages": [{"network": ROLE, "when": "each step"}],
        "values": {"ids": "ids", "mask": "mask", "state": "latents", "denoised": out, "picture": out},
        "prompt": {"steps": [], "mask": {"tokens": 1, "kept": [[0, 1]]}, "vocabulary": 1},
        "sampler": {
            "start": "noise",
            "start_from_picture": "(1 - s0)*z + s0*noise",
            "next": "(1 - s)*x0 + s*noise",
            "default_steps": 1,
            "schedules": {"1": {"times": [1.0], "rows": [0]}},
        },
        "noise": {"generator": "philox4x32-10 as241", "variance": 1, "shape": latents},
        "picture": {"layout": "NCHW RGB", "range": [-1, 1], "rounding": "half to even"},
        "sizes": None,
        "examples": [],
        "reference": None,
    }


def hash_file(path: Path) -> str:
    """sha256 of a large file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run_python(folder: Path, threads: int, queue: Any) -> None:
    """In a process of its own: what it gives, milliseconds of its runs, its peak."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(folder / ROLE / "model.onnx"), options, providers=["CPUExecutionProvider"])
    feeds, times = dict(np.load(folder / "feeds.npz")), []
    for _ in range(1 + RUNS):
        start = time.perf_counter()
        value = session.run(None, feeds)[0]
        times.append(1e3 * (time.perf_counter() - start))
    np.save(folder / "python.npy", value)
    queue.put({"python_ms": median(times[1:]), "python_peak_gb": find_peak_gb()})


def find_peak_gb() -> float:
    """Of this process."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2)


def run_apart(function: Any, *arguments: Any) -> Json:
    """A function in a fresh process, which puts its answer into a queue."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=function, args=(*arguments, queue))
    process.start()
    found: Json = queue.get()
    process.join()
    return found


def export_apart(folder: Path, queue: Any) -> None:
    """`export` in a process of its own, and the feeds."""
    start = time.monotonic()
    found = export(folder)
    np.savez(folder / "feeds.npz", **make_feeds(ROLE, PIXELS))
    queue.put(found | {"export_s": round(time.monotonic() - start, 1), "export_peak_gb": find_peak_gb()})


def measure(place: str, work: Path, folder: Path, threads: int) -> Json:
    """The network by the JavaScript package."""
    feeds = {name: write_array(value) for name, value in np.load(folder / "feeds.npz").items()}
    options = {"threads": threads, "oneAtATime": True, "cache": False}
    job = {"do": "network", "network": ROLE, "feeds": feeds, "runs": RUNS, "options": options}
    if place == "Node":
        [result] = run_in_node(work, [job | {"bundle": str(folder)}])
    else:
        [result] = run_in_browser(work, [job | {"bundle": folder.relative_to(work).as_posix()}])["results"]
    if "error" in result:
        return {"reason": result["error"]["message"]}
    value, wanted = result["value"], np.load(folder / "python.npy").ravel().astype(np.float64)
    [output] = value["written"].values()
    noise = np.frombuffer(base64.b64decode(output["data"]), output["type"]).astype(np.float64) - wanted
    power = float(np.mean(noise**2))
    decibels = round(10 * float(np.log10(np.mean(wanted**2) / power)), 1) if power else "equal"
    times = {"first_result_s": round(value["open"] / 1e3, 2), "ms": median(value["milliseconds"][1:])}
    peak = {} if value["peak"] is None else {"peak_gb": round(value["peak"] / 1e9, 2)}
    return times | peak | {"decibels": decibels, "threads": threads}


def main() -> None:
    """Export once, then each place in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--place", action="append", choices=PLACES, help="default: Node")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, help="the exported network stays here; default: a temporary folder")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    value: Json = json.loads(asked.out.read_text("utf-8")) if asked.out.exists() else {"places": {}}
    npm = json.loads((HERE / "packages.json").read_text("utf-8"))["dependencies"]
    value |= {"command": "python benchmarks/embedding_transformer.py", "machine": describe_machine(), "target": TARGET}
    value["versions"] = {name: npm[name] for name in ("onnxruntime-node", "onnxruntime-web")}
    with tempfile.TemporaryDirectory(prefix="sprint-export-") as temporary:
        work = make_work_folder(Path(temporary) / "javascript")
        folder = work / "bundle"
        if asked.work:
            asked.work.mkdir(parents=True, exist_ok=True)
            folder.symlink_to(asked.work.resolve())
        if not (folder / "feeds.npz").exists():
            value["network"] = run_apart(export_apart, folder)
            print(value["network"], flush=True)
        for place in asked.place or PLACES[:1]:
            date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
            beside = run_apart(run_python, folder, asked.threads)
            value["places"][place] = {"date": date} | measure(place, work, folder, asked.threads) | beside
            print(place, value["places"][place], flush=True)
            asked.out.write_text(json.dumps(value, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
