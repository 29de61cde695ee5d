"""The transformer of a full-size bundle by the JavaScript package, in Node or in Chromium's WebAssembly: seconds and memory.

    sprint-export --student random:sana-sprint-0.6b --target onnx-int8 --no-validate --out big      # or a bundle that is there
    python benchmarks/embedding_transformer.py big                          # Node: 3 GB
    python benchmarks/embedding_transformer.py big --place Chromium --runs 1

The package opens the network as an app does: app.json, sizes and sha256, one network in memory at a time. `first_result_s` reads,
hashes and opens the graph and runs it once; `ms` is the median of the runs after that; `peak_gb` is of the whole process (Node),
`python_ms` and `python_peak_gb` of Python with the same file and as many threads. `decibels`: the output beside Python's, signal
to noise, on the same made-up inputs.
"""

from __future__ import annotations

import argparse
import base64
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))  # tests/ is no installed package

from embedding_case import median, write_array

from sprint_export.validate.machine import describe_machine
from tests.runtimes.javascript.programs import HERE, make_work_folder, run_in_browser, run_in_node

ROLE = "transformer"
SECONDS = 3600  # a page's patience
OUT = Path("benchmarks/results/embedding_transformer.json")
PLACES = ("Node", "Chromium")
Json = dict[str, Any]


def make_feeds(app: Json) -> dict[str, np.ndarray[Any, Any]]:
    """Seeded inputs: normal numbers, and a mask of ones."""
    rng = np.random.default_rng(0)
    [graph] = app["networks"][ROLE]["graphs"]
    return {
        spec["name"]: np.ones(spec["shape"], np.int64)
        if spec["dtype"] == "int64"
        else rng.standard_normal(spec["shape"]).astype(np.float32)
        for spec in graph["inputs"]
    }


def run_python(bundle: Path, work: Path, threads: int, runs: int, queue: Any) -> None:
    """In a process of its own: milliseconds of its runs and its peak; the output goes into a file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(bundle / ROLE / "model.onnx"), options, providers=["CPUExecutionProvider"])
    feeds, times = dict(np.load(work / "feeds.npz")), []
    for _ in range(1 + runs):
        start = time.perf_counter()
        value = session.run(None, feeds)[0]
        times.append(1e3 * (time.perf_counter() - start))
    np.save(work / "python.npy", value)
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


def measure(place: str, bundle: Path, work: Path, threads: int, runs: int) -> Json:
    """The network by the JavaScript package."""
    feeds = {name: write_array(value) for name, value in np.load(work / "feeds.npz").items()}
    options = {"threads": threads, "oneAtATime": True, "cache": False}
    job = {"do": "network", "network": ROLE, "feeds": feeds, "runs": runs, "options": options}
    if place == "Node":
        [result] = run_in_node(work, [job | {"bundle": str(bundle)}], SECONDS)
    else:
        (work / "bundle").symlink_to(bundle)
        [result] = run_in_browser(work, [job | {"bundle": "bundle"}], seconds=SECONDS)["results"]
    if "error" in result:
        return {"reason": result["error"]["message"]}
    value, wanted = result["value"], np.load(work / "python.npy").ravel().astype(np.float64)
    [output] = value["written"].values()
    noise = np.frombuffer(base64.b64decode(output["data"]), output["type"]).astype(np.float64) - wanted
    power = float(np.mean(noise**2))
    decibels = round(10 * float(np.log10(np.mean(wanted**2) / power)), 1) if power else "equal"
    times = {"first_result_s": round(value["open"] / 1e3, 2), "ms": median(value["milliseconds"][1:])}
    peak = {} if value["peak"] is None else {"peak_gb": round(value["peak"] / 1e9, 2)}
    return times | peak | {"decibels": decibels, "threads": threads, "runs": runs}


def main() -> None:
    """Each place in a process of its own; the file is whole after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="of an onnx-* or web-* target")
    parser.add_argument("--place", action="append", choices=PLACES, help="default: Node")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    bundle = asked.bundle.resolve()
    app: Json = json.loads((bundle / "app.json").read_text("utf-8"))
    value: Json = json.loads(asked.out.read_text("utf-8")) if asked.out.exists() else {"places": {}}
    npm = json.loads((HERE / "packages.json").read_text("utf-8"))["dependencies"]
    value |= {"command": "python benchmarks/embedding_transformer.py BUNDLE", "machine": describe_machine()}
    value |= {"student": app["name"], "target": app["target"], "size": app["size"], "mb": find_megabytes(app)}
    value["versions"] = {name: npm[name] for name in ("onnxruntime-node", "onnxruntime-web", "@sparticuz/chromium")}
    with tempfile.TemporaryDirectory(prefix="sprint-export-") as temporary:
        work = make_work_folder(Path(temporary) / "javascript")
        np.savez(work / "feeds.npz", **make_feeds(app))
        for place in asked.place or PLACES[:1]:
            moment = {"date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), "load": round(os.getloadavg()[0], 1)}
            beside = run_apart(run_python, bundle, work, asked.threads, asked.runs)
            value["places"][place] = moment | measure(place, bundle, work, asked.threads, asked.runs) | beside
            print(place, value["places"][place], flush=True)
            asked.out.write_text(json.dumps(value, indent=1) + "\n", "utf-8")


def find_megabytes(app: Json) -> float:
    """Of the network's files."""
    sizes = {file["path"]: file["bytes"] for file in app["files"]}
    return round(sum(sizes[path] for graph in app["networks"][ROLE]["graphs"] for path in graph["files"]) / 1e6, 1)


if __name__ == "__main__":
    main()
