"""What calibration needs: prompts, pixels, and what recording costs beside the forward pass.

    python benchmarks/calibration_prompts.py pictures --count 128     # sprint-tiny: PSNR by the number of prompts
    python benchmarks/calibration_prompts.py pictures --count 512 --noises 4
    python benchmarks/calibration_prompts.py planted --count 128      # the same with outliers (tests/planted.py)
    python benchmarks/calibration_prompts.py growth                   # how far its ranges grow when prompts double
    python benchmarks/calibration_prompts.py cost                     # full size: forward pass and recording, network by network
    python benchmarks/calibration_prompts.py quarters --side 16       # the full-size decoder's ranges, of a picture and quarters
    python benchmarks/calibration_prompts.py kernels                  # a core's speed in what the networks are made of

Each puts its figures into benchmarks/results/calibration_prompts.json. Seconds are processor seconds: other jobs ran beside. Of
random weights is seen what arithmetic costs and how far extreme values grow by chance, nothing of what texts and pictures differ
in; sprint-tiny is trained, and has 64 px. `cost` takes two layers of the text encoder and the transformer and says what all take.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from sprint_export.linear_kernels import use_onednn
from sprint_export.nouns.student import Student
from sprint_export.progress import quiet
from sprint_export.quantize import student as quantizing
from sprint_export.quantize.measure import calibrate as calibrating
from sprint_export.quantize.measure import walk
from sprint_export.quantize.measure.records import Record, record_rows
from sprint_export.quantize.measure.streaming import Listener, StreamedNetwork
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.students.sana_sprint.presets import LONG_PREFIX, build_preset
from sprint_export.students.sana_sprint.published import PRESETS
from sprint_export.thread_count import THREADS, fixed_threads
from sprint_export.validate.machine import describe_machine

RESULTS = Path(__file__).parent / "results" / "calibration_prompts.json"
TINY, FULL = "sprint-tiny", "sana-sprint-0.6b"
COUNTS = (2, 4, 8, 16, 32)
ALL = COUNTS[-1]
ROLES = ("text_encoder", "transformer", "vae_decoder")
LAYERS = 2
SIDE = 32  # of the latents of 1024 px


def measure_pictures(count: int, noises: int, is_planted: bool = False) -> dict[str, Any]:
    """PSNR of sprint-tiny's pictures, rounded in torch, against float, by the number of prompts that ranges are of."""
    import quality_sprint_tiny as quality

    from sprint_export.quantize.torch_session import open_torch

    student, draws = quality.specialized(is_planted), quality.Draws(count, noises)
    captions, noise, pipeline = draws.captions(student), draws.noise(student), open_torch(student)
    parts = [slice(i, i + quality.BATCH) for i in range(0, count * noises, quality.BATCH)]
    exact = np.concatenate([pipeline(captions[part], noise=noise[:, part]) for part in parts])
    records = {n: _calibrate_all(student, n) for n in COUNTS}
    found = {}
    for precision in ("int8", "fp8"):
        for n in COUNTS:
            changes = {"prompts": student.calibration_prompts[:n]}
            with mock.patch.object(quantizing, "calibrate", lambda *_, n=n: records[n]):
                drawn = quality.draw_recipe(precision, changes, is_planted, draws)
            found[f"{precision}, {n} prompts"] = quality.compare(drawn.pictures, exact, captions)
            print(precision, n, found[f"{precision}, {n} prompts"], flush=True)
    return {"pictures": count * noises} | found


def _calibrate_all(student: Student, count: int) -> dict[str, Record]:
    """Records of exactly so many prompts."""
    with mock.patch.object(calibrating, "has_settled", lambda *_: False), fixed_threads():
        return calibrating.calibrate(student, student.calibration_prompts[:count], 0)


class _Maxima:
    """The visitor that keeps the largest values of every prompt, a prompt a chunk."""

    is_divisible = True

    def __init__(self) -> None:
        self.seen: dict[str, list[torch.Tensor]] = {}

    def visit(self, chunk: walk.Chunk, run: Callable[[Listener], Any]) -> Any:
        """Record it."""
        watcher = calibrating._Watcher(chunk, quiet)
        output = run(watcher.listen)
        for layer, record in watcher.gather().items():
            self.seen.setdefault(layer, []).append(record.amax)
        return output


def measure_growth() -> dict[str, Any]:
    """By network and number of prompts, the most that any range had grown since half of them, plainly and smoothed."""
    student, maxima = specialize_student(load_student(TINY)), _Maxima()
    with mock.patch.object(walk, "count_rows_at_once", lambda _: 1), fixed_threads():
        walk.walk_networks(student, student.calibration_prompts[: 2 * ALL], 0, maxima)
    smoothed = calibrating._Recorder(student, Path(), quiet)._smoothed
    found: dict[str, Any] = {}
    for role in ROLES:
        layers = {layer: torch.stack(seen) for layer, seen in maxima.seen.items() if layer.startswith(role)}
        for n in (*COUNTS[1:], 2 * ALL):
            pairs = {layer: (seen[: n // 2].amax(0), seen[:n].amax(0)) for layer, seen in layers.items()}
            found.setdefault(role, {})[f"{n} prompts"] = {
                "range": round(max(float(b.max() / a.max()) - 1 for a, b in pairs.values()), 3),
                "smoothed": round(max(_grow_smoothed(*pair) for layer, pair in pairs.items() if layer in smoothed), 3),
            }
    return found


def _grow_smoothed(before: torch.Tensor, after: torch.Tensor) -> float:
    factors = torch.where(before > 0, before, before[before > 0].median()).sqrt()
    return float((after / factors).max() / (before / factors).max()) - 1


def open_full(role: str) -> tuple[StreamedNetwork, int]:
    """One network of the full-size student, and how many of its layers each of its own stands for."""
    preset = PRESETS[FULL]
    text, transformer = dict(preset.text_encoder), dict(preset.transformer)
    depth = {"text_encoder": text["num_hidden_layers"], "transformer": transformer["num_layers"]}.get(role, LAYERS)
    text["num_hidden_layers"] = transformer["num_layers"] = LAYERS
    cut = dataclasses.replace(preset, text_encoder=text, transformer=transformer)
    student = specialize_student(build_preset(cut, f"random:{FULL}, {LAYERS} layers", 0, LONG_PREFIX))
    return StreamedNetwork(student.components[role]), depth // LAYERS


def make_feeds(network: StreamedNetwork, rows: int, side: int) -> dict[str, np.ndarray]:
    """Unit noise and ids 1, of so many prompts and latents."""
    draw, feeds = np.random.default_rng(0).standard_normal, {}
    for spec in network.component.inputs:
        shape = [rows, *map(int, spec.shape[1:])]
        if spec.name == "latents":
            shape[2:] = [side, side]
        feeds[spec.name] = draw(shape, np.float32) if spec.dtype == "float32" else np.ones(shape, np.int64)
    return feeds


class _Clock:
    """A listener that records, and counts the processor seconds of it."""

    def __init__(self) -> None:
        self.seconds, self.largest, self._last = 0.0, dict[str, torch.Tensor](), None

    def listen(self, name: str, layer: torch.nn.Module, x: torch.Tensor) -> None:
        """Record what is read."""
        start = time.process_time()
        if self._last is not x:
            self.largest[name] = record_rows(x.flatten(2).transpose(1, 2) if isinstance(layer, torch.nn.Conv2d) else x).amax
        self._last = x
        self.seconds += time.process_time() - start


def measure_cost() -> dict[str, Any]:
    """Processor seconds a prompt, of the forward pass and of recording."""
    found = {}
    for role, rows, side in (("text_encoder", 2, SIDE), ("transformer", 2, SIDE), ("vae_decoder", 1, SIDE // 2)):
        network, times = open_full(role)
        clock = _Clock()
        network.tell(clock.listen)
        start = time.process_time()
        network.run(make_feeds(network, rows, side))
        forward = time.process_time() - start - clock.seconds
        found[role] = {
            "forward_cpu_s": round(forward * times / rows, 2),
            "recording_cpu_s": round(clock.seconds * times / rows, 2),
            "share": round(clock.seconds / forward, 3),
        }
        print(role, found[role], flush=True)
    return found


def measure_quarters(side: int) -> dict[str, Any]:
    """How far the largest values of a picture of so many latents a side are beyond those of its quarters: of one, of all four."""
    network, _ = open_full("vae_decoder")
    (latents,) = make_feeds(network, 1, side).values()
    clocks = []
    for part in (latents, *(walk.cut_quarter(latents, i) for i in range(4))):
        clocks.append(_Clock())
        network.tell(clocks[-1].listen)
        network.run({"latents": part})
    seen = {layer: [float(clock.largest[layer].max()) for clock in clocks] for layer in clocks[0].largest}
    return {"layers": len(seen)} | {
        name: _describe({layer: whole / max(parts[:count]) - 1 for layer, (whole, *parts) in seen.items()})
        for name, count in (("beyond one quarter", 1), ("beyond all four", 4))
    }


def _describe(shares: Mapping[str, float]) -> dict[str, Any]:
    worst = max(shares, key=lambda layer: shares[layer])
    found = {
        "mean": np.mean([*shares.values()]),
        "nine_in_ten_below": np.quantile([*shares.values()], 0.9),
        "most": shares[worst],
    }
    return {name: round(float(value), 3) for name, value in found.items()} | {"layer": worst}


def measure_kernels() -> dict[str, Any]:
    """GFLOP/s of one core, and how far results are from the default's."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    with torch.no_grad():
        for rows, read, given in ((600, 2304, 9216), (4096, 1152, 1152), (1024, 1152, 5760)):
            stock = torch.nn.Linear(read, given)
            fast = torch.nn.Linear(read, given)
            fast.load_state_dict(stock.state_dict())
            use_onednn(fast)
            x = torch.randn(rows, read)
            wanted = stock(x)
            found[f"Linear {read} -> {given}, {rows} rows"] = {
                "torch_gflops": _clock_gflops(lambda stock=stock, x=x: stock(x), 2 * rows * read * given),
                "onednn_gflops": _clock_gflops(lambda fast=fast, x=x: fast(x), 2 * rows * read * given),
                "deviation": float(f"{float((fast(x) - wanted).abs().max() / wanted.abs().max()):.1e}"),
            }
        for channels, side in ((128, 128), (256, 128), (512, 64)):
            layer, x = torch.nn.Conv2d(channels, channels, 3, padding=1), torch.randn(1, channels, side, side)
            flop, last = 2 * 9 * channels * channels * side * side, torch.channels_last
            row = {"torch_gflops": _clock_gflops(lambda layer=layer, x=x: layer(x), flop)}
            torch.backends.mkldnn.conv.fp32_precision = "bf16"
            row["bf16_gflops"] = _clock_gflops(lambda layer=layer, x=x: layer(x), flop)
            torch.backends.mkldnn.conv.fp32_precision = "none"
            layer, x = layer.to(memory_format=last), x.to(memory_format=last)
            row["channels_last_gflops"] = _clock_gflops(lambda layer=layer, x=x: layer(x), flop)
            found[f"Conv2d 3x3, {channels} channels, {side} x {side}"] = row
    return found


def _clock_gflops(run: Callable[[], Any], flop: int) -> int:
    run()
    seconds = []
    for _ in range(3):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return round(flop / min(seconds) / 1e9)


def main() -> None:
    """Measure one of these and put it beside the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("pictures", "planted", "growth", "cost", "quarters", "kernels"))
    parser.add_argument("--count", type=int, default=128, help="captions")
    parser.add_argument("--noises", type=int, default=1, help="of each caption")
    parser.add_argument("--side", type=int, default=SIDE, help="of the latents")
    chosen = parser.parse_args()
    torch.set_num_threads(THREADS)
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "pictures": lambda: measure_pictures(chosen.count, chosen.noises),
        "planted": lambda: measure_pictures(chosen.count, chosen.noises, is_planted=True),
        "growth": measure_growth,
        "cost": measure_cost,
        "quarters": lambda: measure_quarters(chosen.side),
        "kernels": measure_kernels,
    }
    measured = measures[chosen.what]()
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    found[chosen.what] = {
        "command": " ".join(["python benchmarks/calibration_prompts.py", *sys.argv[1:]]),
        "machine": describe_machine(),
    } | measured
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
