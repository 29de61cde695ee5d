"""Where ONNX Runtime's time goes, by operator: one component in onnx-fp32 and onnx-int8, random weights of published shapes.

    python benchmarks/ort_nodes.py transformer --layers 2 --out benchmarks/results
    python benchmarks/ort_nodes.py vae_decoder --layers 1 --pixels 512
    python benchmarks/ort_nodes.py text_encoder --layers 2

Latency is the least of interleaved runs of both graphs in one process, without the profiler; a node's time is its least over
the profiler's runs. `--layers` cuts the network short (blocks; for the decoder, blocks a level), `--pixels` sets the picture's
side. Export and measurement have a process each.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from sprint_export.students.sana_sprint.family import FAMILY
from sprint_export.validate.machine import describe_machine

ROLES = FAMILY.chain.list_missing(())  # without which there is no picture

PRESET, PRECISIONS, PROMPTS = "sana-sprint-0.6b", ("fp32", "int8"), 1
VOCABULARY = 32_000  # of 256,000 rows: the embedding is a table look-up, its size is not what is measured


def shorten(role: str, layers: int | None, pixels: int) -> Any:
    """The preset with fewer layers in one component; the others are as small as they can be."""
    from sprint_export.students.sana_sprint.published import PRESETS

    preset = PRESETS[PRESET]
    latent = pixels // 2 ** (len(preset.vae["decoder_block_types"]) - 1)
    blocks = preset.transformer["num_layers"] if layers is None else layers
    transformer = {**preset.transformer, "num_layers": blocks if role == "transformer" else 1, "sample_size": latent}
    vae, text = {**preset.vae}, {**preset.text_encoder, "vocab_size": VOCABULARY}
    if role == "vae_decoder" and layers is not None:
        vae["decoder_layers_per_block"] = (layers,) * len(vae["decoder_block_types"])
    if role == "text_encoder" and layers is not None:
        text["num_hidden_layers"] = layers
    return dataclasses.replace(preset, transformer=transformer, vae=vae, text_encoder=text)


def export(role: str, layers: int | None, pixels: int, folder: Path) -> None:
    """Both graphs, calibrated on one prompt."""
    from sprint_export.conversion import keep_components
    from sprint_export.export.to_onnx.writer import EXPORTER
    from sprint_export.quantize import quantize_student
    from sprint_export.registry import load_target
    from sprint_export.specialize import specialize_student
    from sprint_export.students.sana_sprint.presets import build_preset

    source = f"random:{PRESET} {role} {layers} {pixels}"
    student = keep_components(specialize_student(build_preset(shorten(role, layers, pixels), source, 0)), [role])
    student = dataclasses.replace(student, calibration_prompts=student.calibration_prompts[:PROMPTS])
    target = load_target("onnx")
    for precision in PRECISIONS:
        (folder / precision).mkdir()
        component = quantize_student(student, precision, target).components[role]
        EXPORTER.write_component(component, target, precision, {}, folder / precision)


def measure(folder: Path, runs: int, threads: int) -> dict[str, Any]:
    """Latency of both graphs, interleaved; then each with the profiler."""
    sessions = {precision: _open(folder / precision, threads, profile=False) for precision in PRECISIONS}
    feeds = _make_feeds(sessions["fp32"])
    seconds: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    for _ in range(runs):
        for precision, session in sessions.items():
            start = time.perf_counter()
            session.run(None, feeds)
            seconds[precision].append(time.perf_counter() - start)
    sessions.clear()
    least = {precision: round(min(values) * 1e3, 2) for precision, values in seconds.items()}
    nodes = {precision: profile(folder / precision, feeds, runs, threads) for precision in PRECISIONS}
    return {"latency_ms": least, "int8_over_fp32": round(least["int8"] / least["fp32"], 3), "ms_by_op": nodes}


def profile(folder: Path, feeds: dict[str, Any], runs: int, threads: int) -> dict[str, dict[str, float]]:
    """Operator -> how many nodes, and the sum of their least milliseconds; the costliest first."""
    session = _open(folder, threads, profile=True)
    for _ in range(runs):
        session.run(None, feeds)
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in json.loads(Path(session.end_profiling()).read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            found[event["args"]["op_name"], event["name"]].append(event["dur"] / 1e3)
    totals: dict[str, dict[str, float]] = {}
    for (op, _), values in found.items():
        total = totals.setdefault(op, {"nodes": 0, "ms": 0.0})
        total["nodes"] += 1
        total["ms"] += min(values)
    ranked = sorted(totals.items(), key=lambda item: -item[1]["ms"])
    return {op: {"nodes": total["nodes"], "ms": round(total["ms"], 2)} for op, total in ranked}


def _open(folder: Path, threads: int, profile: bool) -> Any:
    import onnxruntime

    from sprint_export.runtimes.onnx_cpu.runtime import make_options

    options = make_options()
    options.intra_op_num_threads = threads
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, str(folder / "profile")
    return onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])


def _make_feeds(session: Any) -> dict[str, Any]:
    """Unit noise for floats; ids from the vocabulary's start; every text row valid."""
    rng, feeds = np.random.default_rng(0), {}
    for value in session.get_inputs():
        if value.type == "tensor(float)":
            feeds[value.name] = rng.standard_normal(value.shape, np.float32)
        else:
            feeds[value.name] = np.ones(value.shape, np.int64) if "mask" in value.name else rng.integers(1, 200, value.shape)
    return feeds


def main() -> None:
    """Export in a process of its own, measure in this one, write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", choices=ROLES)
    parser.add_argument("--layers", type=int, help="default: all")
    parser.add_argument("--pixels", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=0, help="default: as many as there are cores")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sprint-export-") as folder:
        call = f"import ort_nodes, pathlib; ort_nodes.export({options.role!r}, {options.layers}, {options.pixels}, "
        script = f"{call}pathlib.Path({folder!r}))"
        subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parent, check=True)
        found = {
            "command": f"python benchmarks/ort_nodes.py {' '.join(sys.argv[1:])}",
            "machine": describe_machine(),
            "student": f"random:{PRESET}",
            **measure(Path(folder), options.runs, options.threads),
        }
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"ort_nodes_{options.role}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(path.read_text())


if __name__ == "__main__":
    main()
