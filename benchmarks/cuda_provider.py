"""A bundle's networks on ONNX Runtime's CUDA provider: milliseconds, nodes left to the CPU, which kernels take the time.

    python benchmarks/cuda_provider.py BUNDLE --out benchmarks/results/cuda_provider.json

Each network runs on random inputs of its shapes that lie on the GPU. Ways of opening it: as `--provider cuda` does, with
convolutions over channels last (`prefer_nhwc`), and each with its launches replayed from a CUDA graph. GPU seconds by kernel come
from torch's profiler, which sees all of a process.
"""

from __future__ import annotations

import argparse
import collections
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch

from sprint_export.export.bundle import locate, read_bundle
from sprint_export.nouns.bundle import Bundle, ComponentRecord
from sprint_export.runtimes.onnx_cpu.placement import read_placement
from sprint_export.runtimes.onnx_cpu.runtime import make_options
from sprint_export.validate.machine import describe_machine

CUDA = "CUDAExecutionProvider"
WAYS: dict[str, dict[str, str]] = {
    "as shipped": {},
    "replayed": {"enable_cuda_graph": "1"},
    "channels last": {"prefer_nhwc": "1"},
    "channels last, replayed": {"prefer_nhwc": "1", "enable_cuda_graph": "1"},
}
RUNS, MOST_KERNELS = 20, 14


def make_feeds(session: Any, record: ComponentRecord) -> dict[str, np.ndarray]:
    """Normal floats, ids and masks that any network takes."""
    random = np.random.default_rng(0)
    feeds: dict[str, np.ndarray] = {}
    for given, spec in zip(session.get_inputs(), record.inputs, strict=True):
        shape = [size if isinstance(size, int) else 1 for size in given.shape]
        is_float = spec.dtype.startswith("float")
        feeds[given.name] = random.standard_normal(shape).astype(spec.dtype) if is_float else np.ones(shape, spec.dtype)
    return feeds


def open_cuda(graph: Path, options: dict[str, str], profile: Path | None = None) -> Any:
    """A session whose nodes go to CUDA, and to the CPU where CUDA has no kernel."""
    made = make_options()
    if profile is not None:
        made.enable_profiling, made.profile_file_prefix = True, str(profile)
    providers = [(CUDA, {"use_tf32": "0", **options}), "CPUExecutionProvider"]
    session = ort.InferenceSession(str(graph), made, providers=providers, enable_fallback=0)
    if CUDA not in session.get_providers():
        raise SystemExit(f"CUDA's provider does not load here: {session.get_providers()}")
    return session


def bind(session: Any, feeds: dict[str, np.ndarray]) -> Any:
    """Inputs and outputs on the GPU, at addresses that stay."""
    binding = session.io_binding()
    for name, value in feeds.items():
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(value, "cuda", 0))
    for given in session.get_outputs():
        shape = [size if isinstance(size, int) else 1 for size in given.shape]
        kind = {"tensor(float)": np.float32, "tensor(float16)": np.float16}[given.type]
        binding.bind_ortvalue_output(given.name, ort.OrtValue.ortvalue_from_shape_and_type(shape, kind, "cuda", 0))
    return binding


def time_runs(session: Any, binding: Any) -> dict[str, float]:
    """The first run, and milliseconds of RUNS more: each starts when the one before has ended."""
    start = time.perf_counter()
    session.run_with_iobinding(binding)
    found = {"first_s": round(time.perf_counter() - start, 2)}
    session.run_with_iobinding(binding)
    milliseconds = []
    for _ in range(RUNS):
        torch.cuda.synchronize()
        start = time.perf_counter()
        session.run_with_iobinding(binding)
        torch.cuda.synchronize()
        milliseconds.append(1e3 * (time.perf_counter() - start))
    return found | {f"p{percent}_ms": round(float(np.percentile(milliseconds, percent)), 3) for percent in (50, 90)}


def list_kernels(session: Any, binding: Any) -> dict[str, Any]:
    """GPU milliseconds of one run by kernel, the longest first."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        session.run_with_iobinding(binding)
        torch.cuda.synchronize()
    total: dict[str, list[float]] = collections.defaultdict(list)
    for event in profiler.events():
        total[event.name[:110]].append(event.device_time / 1e3)
    rows = sorted(total.items(), key=lambda each: -sum(each[1]))
    return {
        "launches": sum(map(len, total.values())),
        "gpu_ms": round(sum(sum(each) for each in total.values()), 2),
        "longest": [{"kernel": name, "launches": len(each), "ms": round(sum(each), 2)} for name, each in rows[:MOST_KERNELS]],
    }


def count_nodes(graph: Path, feeds: dict[str, np.ndarray], folder: Path) -> dict[str, int]:
    """Nodes by provider, as a profile of the first run says."""
    session = open_cuda(graph, {}, folder / "profile")
    session.run(None, feeds)
    placement = read_placement(Path(session.end_profiling()))
    return {"nodes": placement.total, "on_the_cpu": placement.count("CPUExecutionProvider")}


def measure(bundle: Bundle, record: ComponentRecord, folder: Path) -> dict[str, Any]:
    """One network in every way."""
    graph = locate(bundle, f"{record.role}/{record.parts[0].graph}")
    session = open_cuda(graph, {})
    feeds = make_feeds(session, record)
    wanted = session.run(None, feeds)[0].astype(np.float64)
    rows: dict[str, Any] = count_nodes(graph, feeds, folder)
    for name, options in WAYS.items():
        try:
            session = open_cuda(graph, options)
            binding = bind(session, feeds)
            rows[name] = time_runs(session, binding)
            found = binding.copy_outputs_to_cpu()[0].astype(np.float64)
            rows[name]["relative_difference"] = float(np.abs(found - wanted).max() / np.abs(wanted).max())
            if "replayed" not in name:
                rows[name] |= list_kernels(session, binding)
        except Exception as error:  # what ONNX Runtime raises of a way it cannot go is its own
            rows[name] = {"refused": str(error).splitlines()[0][:300]}
        print(record.role, name, json.dumps({key: value for key, value in rows[name].items() if key != "longest"}), flush=True)
    return rows


def main() -> None:
    """Measure every network of a bundle, and write what is found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    ort.preload_dlls()
    bundle = read_bundle(chosen.bundle, verify=False)
    found: dict[str, Any] = {
        "command": f"python benchmarks/cuda_provider.py {chosen.bundle}",
        "bundle": f"{bundle.source}, {bundle.target}-{bundle.precision}",
        "machine": f"{torch.cuda.get_device_name()}; {describe_machine()}",
        "libraries": {"onnxruntime": ort.__version__, "torch": torch.__version__, "cuda": torch.version.cuda},
        "networks": {},
    }
    for record in bundle.components:
        found["networks"][record.role] = measure(bundle, record, chosen.bundle.parent)
        if chosen.out:
            chosen.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
