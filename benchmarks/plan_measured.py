"""What `plan` prices beside what was measured: SANA-Sprint 0.6B on an H200 and on a CPU, and a builder's kernel tables.

    python benchmarks/plan_measured.py --out benchmarks/results/plan_measured.json
    python benchmarks/plan_measured.py --bundles onnx-fp32 onnx-int8 trt-bf16 --runs 40     # bundles of sprint-tiny, this CPU

Four tables, each with the ratio measured / priced:
    h200      bfloat16, compiled by Inductor, replayed as a CUDA graph (`MEASURED`, median of 20, 2026-11-27), beside the peaks'
              price, the price that one factor on all rates gives, and the price of a network with the factor of the other two;
              then the same networks without a compiler, and in ONNX Runtime's CUDA provider
    tables    counted kernels, bytes and milliseconds on an RTX 4090's peaks beside the kernel tables of TensorRT for RTX
              (benchmarks/results/rtx_*.json); both are priced, nothing ran
    cpu       SANA-Sprint 0.6B's networks as benchmarks/cpu_engines.py timed them, by a list fitted to an engine's; and
              bundles that are timed here in seconds of the processor, on one core, so that what else runs there is not counted;
              each network beside a list fitted to all, and to all the others
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sprint_export.devices import find_device
from sprint_export.nouns.work import Work
from sprint_export.planning.fitting import Fit, Point, fit_prices
from sprint_export.planning.measured import Measured
from sprint_export.planning.prices import REACHED, expect_reached, list_peaks, price_work

STUDENT, PIXELS = "random:sana-sprint-0.6b", 1024
# Milliseconds on one NVIDIA H200, torch 2.11, batch 1, 1024 px: the specialized module of commit 05986be.
MEASURED = {"text_encoder": 3.8, "transformer": 6.75, "vae_decoder": 18.7}
STOCK = {"text_encoder": 5.9, "transformer": 5.9, "vae_decoder": 23.6}  # the unchanged modules, likewise compiled and replayed
EAGER = {"transformer": 13.6, "vae_decoder": 49.8, "text_encoder": 8.0}  # the specialized modules, replayed without a compiler
ONNX_RUNTIME = {"transformer": 10.9, "vae_decoder": 54.0}  # onnx-fp16, 1.31.1, enable_cuda_graph
TABLES = {"bf16": "trt-bf16", "fp8": "trt-fp8", "int8": "trt-int8"}


def count_networks(precisions: tuple[str, ...]) -> dict[tuple[str, str], tuple[Work, ...]]:
    """Kernels by (precision of trt, role)."""
    from sprint_export.nouns.order import Deployment
    from sprint_export.nouns.parts import NO_PARTS
    from sprint_export.planning.asking import Wanted, load_subject
    from sprint_export.registry import load_target

    subject, card = load_subject(Wanted(STUDENT), NO_PARTS), find_device("rtx-4090")
    found = {}
    for precision in precisions:
        for network in subject.list_networks(Deployment(load_target("trt"), precision, card), {*card.tflops}):
            found[precision, network.role] = network.kernels or ()
    return found


def compare_h200(kernels: dict[tuple[str, str], tuple[Work, ...]]) -> dict[str, Any]:
    """The compiled networks beside three prices, and other ways to run them beside the factor's."""
    peaks = list_peaks(find_device("h200"), "gpu")
    assert peaks is not None
    points = [Point(role, kernels["bf16", role], ms) for role, ms in MEASURED.items()]
    factor = math.exp(sum(math.log(price_work(p.kernels, peaks).milliseconds / p.milliseconds) for p in points) / len(points))
    rows = {}
    for point in points:
        at_peaks = price_work(point.kernels, peaks).milliseconds
        expected = price_work(point.kernels, expect_reached(peaks)).milliseconds
        held_out = math.exp(
            sum(math.log(p.milliseconds / price_work(p.kernels, peaks).milliseconds) for p in points if p is not point) / 2
        )
        rows[point.name] = {
            "measured_ms": point.milliseconds,
            "at_peaks_ms": round(at_peaks, 2),
            "measured / at peaks": round(point.milliseconds / at_peaks, 2),
            "expected_ms": round(expected, 2),
            "measured / expected": round(point.milliseconds / expected, 2),
            "by the other two's factor_ms": round(at_peaks * held_out, 2),
            "measured / by the other two's": round(point.milliseconds / (at_peaks * held_out), 2),
            "stock measured_ms": STOCK[point.name],
        }
    fit = fit_prices(points, "h200", "gpu", peaks)
    ways = {"eager, replayed": EAGER, "ONNX Runtime's CUDA provider": ONNX_RUNTIME}
    other = {
        way: {role: round(ms / rows[role]["expected_ms"], 2) for role, ms in measured.items()} for way, measured in ways.items()
    }
    return {
        "networks": rows,
        "picture": {
            "measured_ms": round(sum(MEASURED.values()), 2),
            "expected_ms": round(sum(row["expected_ms"] for row in rows.values()), 2),
        },
        "factor of these three": round(factor, 3),
        "factor in planning/prices.py": REACHED,
        "fitted, two constants": {"basis": fit.prices.basis, "residuals": [vars(each) for each in fit.residuals]},
        "measured / expected, run otherwise": other,
    }


def compare_tables(kernels: dict[tuple[str, str], tuple[Work, ...]], results: Path) -> dict[str, Any]:
    """Counted kernels beside the builder's, for an RTX 4090."""
    peaks = list_peaks(find_device("rtx-4090"), "gpu")
    assert peaks is not None
    rows = {}
    for (precision, role), works in kernels.items():
        table = json.loads((results / f"rtx_{role}.json").read_text())["graphs"].get(TABLES[precision])
        if table is None or "priced_ms" not in table:
            continue
        counted = price_work(works, peaks).milliseconds
        rows[f"{role} {TABLES[precision]}"] = {
            "kernels": [len(works), table["kernels"]],
            "moved_gb": [round(sum(work.bytes for work in works) / 1e9, 2), table["moved_gb"]],
            "priced_ms": [round(counted, 2), table["priced_ms"]],
            "table / counted": round(table["priced_ms"] / counted, 2),
        }
    return rows


def compare_large_cpu(results: Path) -> dict[str, Any]:
    """benchmarks/results/cpu_engines.json (two Xeon cores, the least seconds): an engine's networks by a list fitted to them."""
    from sprint_export.nouns.parts import NO_PARTS
    from sprint_export.planning.asking import Wanted, load_subject
    from sprint_export.planning.plan import list_deployments

    value = json.loads((results / "cpu_engines.json").read_text())
    subject, cpu, found = load_subject(Wanted(STUDENT), NO_PARTS), find_device("cpu"), {}
    for engine, targets in {"ONNX Runtime": ("onnx-fp32", "onnx-int8"), "OpenVINO": ("openvino-int8",)}.items():
        points = []
        for target in targets:
            deployment = list_deployments(cpu, [target])[0]
            for network in subject.list_networks(deployment, {"fp32", "16-bit", "int8"}):
                row = value["networks"].get(network.role, {}).get(target)
                side = value["pixels"].get(network.role, PIXELS) / PIXELS
                kernels = [replace(work, flop=work.flop * side**2, bytes=work.bytes * side**2) for work in network.kernels or ()]
                points += [Point(f"{target} {network.role}", kernels, 1e3 * row["min_s"])] if row is not None else []
        found[engine] = describe_fit(fit_prices(points, "cpu", "cpu", None))
    return found


def time_bundle(folder: str, runs: int) -> Measured:
    """The least milliseconds of the processor by network, on one core: a virtual machine counts what its host takes away."""
    from sprint_export import executor
    from sprint_export.export.bundle import read_bundle
    from sprint_export.runtimes.open import open_bundle

    executor.time = SimpleNamespace(perf_counter=time.process_time)  # type: ignore[attr-defined]  # what a stage is timed by
    bundle, pipeline = read_bundle(Path(folder)), open_bundle(folder)
    for seed in range(runs + 2):
        if seed == 2:
            pipeline.seconds.clear()
        pipeline(["a small red circle above a large blue square"], seed=seed)
    medians = {role: 1e3 * min(seconds) for role, seconds in pipeline.seconds.items()}
    return Measured(Path(folder), folder, f"{bundle.target}-{bundle.precision}", "", medians, {})


def compare_cpu(folders: list[str], runs: int) -> dict[str, Any]:
    """Bundles that are timed here: fitted to all, and each network by the others' fit."""
    from sprint_export.planning.asking import fit_measured
    from sprint_export.progress import quiet

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    measured = [time_bundle(folder, runs) for folder in folders]
    fit = fit_measured(None, measured, "cpu", quiet, lambda text: print(text, file=sys.stderr))
    return describe_fit(fit)


def describe_fit(fit: Fit) -> dict[str, Any]:
    """Rates, and each network beside its price and beside the price of a list fitted without it."""
    rows = {
        each.name: {
            "measured_ms": round(each.measured_ms, 3),
            "fitted_ms": round(each.after_ms, 3),
            "measured / fitted": round(each.measured_ms / each.after_ms, 2),
            "without it": None if each.left_out_ms is None else round(each.measured_ms / each.left_out_ms, 2),
        }
        for each in fit.residuals
    }
    prices = fit.prices
    rates = {**prices.tflops, "memory_gb_s": prices.gigabytes_per_s, "kernel_us": prices.kernel_us}
    return {"basis": prices.basis, "rates": rates, "kept": list(fit.kept), "networks": rows}


def main() -> None:
    """Print the tables, and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundles", nargs="+", default=[], help="folders of bundles to time here")
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    from sprint_export.validate.machine import describe_machine

    found: dict[str, Any] = {"command": " ".join(["python", "benchmarks/plan_measured.py", *sys.argv[1:]])}
    found["machine"] = describe_machine()
    kernels = count_networks(tuple(TABLES))
    found["h200"] = compare_h200(kernels)
    found["tables"] = compare_tables(kernels, chosen.results)
    found["cpu, kept results"] = compare_large_cpu(chosen.results)
    if chosen.bundles:
        found["cpu"] = compare_cpu(chosen.bundles, chosen.runs)
    text = json.dumps(found, indent=1) + "\n"
    print(text)
    if chosen.out:
        chosen.out.write_text(text)


if __name__ == "__main__":
    main()
