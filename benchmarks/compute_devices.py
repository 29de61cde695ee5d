"""The same student measured and drawn on two devices: seconds by network, and how far ranges, scales and pictures differ.

    python benchmarks/compute_devices.py                                # the CPU and the first GPU; JSON on stdout
    python benchmarks/compute_devices.py --devices cpu:1,cpu:8 --student sprint-tiny --prompts 8
    python benchmarks/compute_devices.py --student sprint-tiny --noise 1e-6 --draws 200
    python benchmarks/compute_devices.py --student /tmp/students/0.6b --skip-cpu-decoder

A device may name a number of threads. Each has a cache of its own. Random weights are made once, in 16 bits, and stay in memory;
seconds are of networks with what is recorded of them and the loading of their weights, the first call apart from the others.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from sprint_export import thread_count
from sprint_export.compute import Compute, choose_compute
from sprint_export.conversion import keep_components
from sprint_export.noise import make_noise
from sprint_export.nouns.student import Component, Student
from sprint_export.psnr import psnr_images
from sprint_export.quantize import quantize_student
from sprint_export.quantize import student as quantizing
from sprint_export.quantize.measure import streaming
from sprint_export.quantize.measure.records import Record
from sprint_export.quantize.recipes import default_recipe
from sprint_export.registry import load_target
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.students.family import Draws, Reference, load_family
from sprint_export.validate.machine import describe_machine
from sprint_export.weights import Handle, LazyHandle

DECODER, DRAWN = "vae_decoder", "fp8"
TARGET = load_target("trt")


def remember(handle: Handle) -> LazyHandle:
    """A handle whose values are made once and kept in bf16, as a checkpoint has them."""
    kept: list[torch.Tensor] = []

    def load() -> torch.Tensor:
        if not kept:
            kept.append(handle.load().bfloat16())
        return kept[0]

    return LazyHandle(handle.shape, torch.bfloat16, load)


def load(source: str) -> Student:
    """The student; random weights are remembered, and made now by as many threads as there are."""
    student = load_student(source)
    if student.folder is not None:
        return student
    components: dict[str, Component] = {}
    for role, component in student.components.items():
        weights = {name: remember(handle) for name, handle in component.weights.items()}
        components[role] = dataclasses.replace(component, weights=weights)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for component in components.values():
            wanted = [handle for name, handle in component.weights.items() if not name.startswith("encoder.")]
            list(threads.map(lambda handle: handle.load(), wanted))
    return dataclasses.replace(student, components=components)


@contextlib.contextmanager
def timed_networks(seconds: dict[str, list[float]], compute: Compute) -> Iterator[None]:
    """Note how long each run of a streamed network takes."""
    original = streaming.StreamedNetwork.run

    def run(network: Any, feeds: Any) -> Any:
        start = compute.read_clock()
        result = original(network, feeds)
        seconds.setdefault(network.component.role, []).append(compute.read_clock() - start)
        return result

    streaming.StreamedNetwork.run = run  # type: ignore[method-assign]
    try:
        yield
    finally:
        streaming.StreamedNetwork.run = original  # type: ignore[method-assign]


@dataclasses.dataclass
class Found:
    """What one device made of the student."""

    rows: dict[str, Any]
    records: Mapping[str, Record]
    quantized: Student
    reference: Reference | None


def measure(student: Student, compute: Compute, prompts: Sequence[str], is_partial: bool) -> Found:
    """Calibrate, smooth and choose ranges; draw the reference unless the decoder is left out."""
    specialized = specialize_student(student)
    if is_partial:
        specialized = keep_components(specialized, [role for role in specialized.components if role != DECODER])
    seconds: dict[str, list[float]] = {}
    records: dict[str, Record] = {}
    original = quantizing.calibrate

    def calibrate(*given: Any, **named: Any) -> dict[str, Record]:
        records.update(original(*given, **named))
        return records

    recipe = dataclasses.replace(default_recipe(DRAWN, specialized, TARGET), prompts=tuple(prompts))
    quantizing.calibrate = calibrate
    start = time.perf_counter()
    with timed_networks(seconds, compute), tempfile.TemporaryDirectory() as cache:
        os.environ["SPRINT_EXPORT_CACHE"] = cache
        quantized = quantize_student(specialized, DRAWN, TARGET, recipe, compute=compute)
    quantizing.calibrate = original
    rows: dict[str, Any] = {"computes_with": compute.description, "threads": torch.get_num_threads()}
    rows["quantize_s"] = round(time.perf_counter() - start, 1)
    rows["calibration_s"] = {role: describe(values) for role, values in seconds.items()}
    reference = None
    if not is_partial:
        start = time.perf_counter()
        assert specialized.plan is not None
        noise = make_noise(0, specialized.plan.steps, len(prompts), student.latent_shape)
        draws = Draws(list(prompts), noise, specialized.plan.guidance, compute=compute)
        reference = load_family(student.family).draw_reference(student, draws)
        rows["reference_all_s"] = round(time.perf_counter() - start, 1)
        rows["reference_s"] = {role: describe(values) for role, values in reference.seconds.items()}
    if compute.device == "cuda":
        rows["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    return Found(rows, records, quantized, reference)


def describe(seconds: Sequence[float]) -> dict[str, float]:
    """The first call, and the median of the others."""
    others = {"others": round(float(np.median(seconds[1:])), 4)} if len(seconds) > 1 else {}
    return {"calls": len(seconds), "first": round(seconds[0], 4), **others}


def compare_records(first: Mapping[str, Record], second: Mapping[str, Record], role: str) -> dict[str, Any]:
    """How far largest magnitudes of channels and of layers, and means, differ between two devices."""
    worst, layers, spread, mean, count = ("", 0.0), [], [], 0.0, 0
    for name in sorted(set(first) & set(second)):
        if name.partition(".")[0] != role:
            continue
        a, b = first[name], second[name]
        relative = ((a.amax - b.amax).abs() / a.amax.clamp_min(1e-30)).nan_to_num()
        spread.append(relative)
        count += a.amax.numel()
        layers.append(abs(float(a.amax.max() / b.amax.max()) - 1))
        worst = max(worst, (name, float(relative.max())), key=lambda each: each[1])
        mean = max(mean, float((a.mean - b.mean).abs().max() / a.amax.max()))
    every = torch.cat(spread).double()
    return {
        "layers": len(layers),
        "channels": count,
        "amax_of_layers_relative": {"largest": max(layers), "median": float(np.median(layers))},
        "amax_of_channels_relative": {"largest": worst[1], "in": worst[0], "median": float(every.median())}
        | {"rms": float(every.square().mean().sqrt())},
        "mean_relative_to_amax": mean,
    }


def compare_decisions(first: Component, second: Component) -> dict[str, Any]:
    """How many numbers of the bundle differ: ranges, as they are in the manifest, and what smoothing multiplies by."""
    ranges = [name for name, layer in first.layers.items() if layer != second.layers.get(name)]
    edits = {name: int((value != second.edits[name]).sum()) for name, value in first.edits.items() if name in second.edits}
    return {
        "quantized_layers": len(first.layers),
        "ranges_that_differ": len(ranges),
        "first": ranges[:3],
        "smoothing_factors": sum(value.numel() for name, value in first.edits.items() if name.endswith("/columns")),
        "smoothing_factors_that_differ": sum(count for name, count in edits.items() if name.endswith("/columns")),
    }


def compare(first: Found, second: Found) -> dict[str, Any]:
    """By network, and the pictures."""
    found: dict[str, Any] = {}
    for role, component in first.quantized.components.items():
        if role in second.quantized.components:
            other = second.quantized.components[role]
            found[role] = compare_records(first.records, second.records, role) | compare_decisions(component, other)
    if first.reference is not None and second.reference is not None:
        a, b = first.reference, second.reference
        deviation = np.abs(a.latents - b.latents).max() / np.abs(a.latents).max()
        found["pictures"] = {
            "psnr_db": [round(float(db), 2) for db in psnr_images(a.pictures, b.pictures)],
            "latents_relative": float(deviation),
            "pixels_that_differ": float((a.pictures != b.pictures).mean()),
            "largest_difference_of_255": int(np.abs(a.pictures.astype(int) - b.pictures).max()),
        }
    return found


def simulate(student: Student, prompts: Sequence[str], noise: float, draws: int) -> dict[str, Any]:
    """How many bundles have another range or factor where largest magnitudes are off by normal noise of a relative size.

    In each draw all of a layer's magnitudes are first multiplied by a number from 1 to 2: this student's own may be far from
    where a rounding turns, or near.
    """
    exact, random = measure(student, choose_compute("cpu"), prompts, False), torch.Generator().manual_seed(0)
    original, specialized, recipe = quantizing.calibrate, specialize_student(student), exact.quantized.recipe

    def quantize(amax: Mapping[str, torch.Tensor]) -> Mapping[str, Component]:
        records = {name: dataclasses.replace(record, amax=amax[name]) for name, record in exact.records.items()}
        quantizing.calibrate = lambda *_, **__: records
        return quantize_student(specialized, DRAWN, TARGET, recipe).components

    counts: dict[str, int] = {"bundles_that_differ": 0}
    for _ in range(draws):
        amax = {name: record.amax * (1 + torch.rand(1, generator=random)) for name, record in exact.records.items()}
        noisy = {name: value * (1 + noise * torch.randn(value.shape, generator=random)) for name, value in amax.items()}
        first, second = quantize(amax), quantize(noisy)
        rows = [compare_decisions(component, second[role]) for role, component in first.items()]
        moved = {key: sum(row[key] for row in rows) for key in rows[0] if key.endswith("differ")}
        counts["bundles_that_differ"] += any(moved.values())
        counts |= {key: counts.get(key, 0) + count for key, count in moved.items()}
    quantizing.calibrate = original
    of = {key: sum(row[key] for row in rows) for key in ("quantized_layers", "smoothing_factors")}
    return {"noise": noise, "draws": draws, **of, **counts}


def main() -> None:
    """Measure on both devices and print what is found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", default="random:sana-sprint-0.6b")
    parser.add_argument("--devices", default="cpu,auto")
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--skip-cpu-decoder", action="store_true", help="where the CPU would take too long: nor does it draw")
    parser.add_argument("--noise", type=float, default=0.0, help="instead: how often bundles differ by so much noise on records")
    parser.add_argument("--draws", type=int, default=100)
    chosen = parser.parse_args()
    start = time.perf_counter()
    student = load(chosen.student)
    out: dict[str, Any] = {
        "student": chosen.student,
        "machine": describe_machine(),
        "load_s": round(time.perf_counter() - start, 1),
    }
    if chosen.noise:
        out["simulated"] = simulate(student, student.calibration_prompts[: chosen.prompts], chosen.noise, chosen.draws)
        print(json.dumps(out, indent=1))
        return
    found: dict[str, Found] = {}
    for name in chosen.devices.split(","):
        device, _, count = name.partition(":")
        compute = choose_compute(device, lambda text: print(text, file=sys.stderr))
        if count:
            thread_count.THREADS = int(count)
            torch.set_num_threads(int(count))
        prompts, is_partial = student.calibration_prompts[: chosen.prompts], compute.is_cpu and chosen.skip_cpu_decoder
        found[f"{len(found)} {name}"] = measure(student, compute, prompts, is_partial)
        print(f"{name}: {time.perf_counter() - start:.1f} s", file=sys.stderr)
    first, *others = found
    out["devices"] = {name: each.rows for name, each in found.items()}
    out["compared"] = {f"{first} | {other}": compare(found[first], found[other]) for other in others}
    out["all_s"] = round(time.perf_counter() - start, 1)
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
