"""Campaign: faults of the machine and of whoever types, for the verbs that look at bundles: the real command.

A process each, but where values alone are wrong: then a fork of one that has loaded the libraries, which takes a hundredth.
    validate, validate --reference, compare, bench, plan, report, report --merge, check, serve
What is broken is as in machine_faults.py; beside it places that cannot be written, and after a signal what the run left: each
report is whole or not there, nothing half-written lies beside it, and the same command then ends well.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from sprint_export.cli import entry
from tests.attack.forks import Ended, run_forked
from tests.attack.machine_faults import MOST_S, Fault, judge, make_inputs, make_world, run_fault
from tests.attack.mutate_bundles import warm_up
from tests.attack.outcomes import CLEAN, LOST, OF_KINDS, RIGHT, Tally

NAME = "faults of verbs"
PROMPTS = ("a red circle", "a blue square")
LOADED = ("argument", "place")  # kinds that a fork can tell
GIGABYTES = 8.0
PROGRESSES = (0, 1, 130, 143)  # of a run that a signal meets: it may be over


@dataclass(frozen=True)
class Inputs:
    """What verbs are given: absolute paths."""

    bundle: Path
    student: Path
    pictures: Path  # a folder of another program's
    result: Path  # of a device
    bench: Path
    prompts: Path

    @property
    def verbs(self) -> dict[str, list[str]]:
        """The verbs, each in a form that ends well."""
        bundle, student = str(self.bundle), ["--student", str(self.student)]
        return {
            "validate": ["validate", bundle, *student, "--count", "1", "--allow-undecided"],
            "reference": ["validate", bundle, "--reference", "--out", "device.json"],
            "compare": ["compare", bundle, *student, "--count", "2", "--allow-undecided"],
            "bench": ["bench", bundle, "--runs", "2", "--cold-starts", "0"],
            "plan bundle": ["plan", bundle],
            "plan student": ["plan", str(self.student), "--device", "rtx-4090", "--target", "trt-fp8"],
            "merge": ["report", "--merge", bundle, str(self.result), str(self.bench)],
            "check": ["check", bundle],
        }


def make_faults(seed: int, inputs: Inputs) -> Iterator[Fault]:
    """Faults without end: every kind in turn, each drawn from its own list in an order that the seed gives."""
    rng = random.Random(seed)
    kinds: list[list[Fault]] = [
        list(list_missing(inputs)),
        list(list_short(rng, inputs)),
        list(list_streams(inputs)),
        list(list_signals(rng, inputs)),
        list(list_arguments(inputs)),
        list(list_arguments(inputs)),
        list(list_places(inputs)),
    ]
    for faults in kinds:
        rng.shuffle(faults)
    for i in itertools.count():
        yield from (faults[i % len(faults)] for faults in kinds)


def list_missing(inputs: Inputs) -> Iterator[Fault]:
    """Libraries that are not installed."""
    needed = {
        "validate": ("torch", "jinja2", "PIL", "skimage", "scipy", "diffusers"),
        "reference": ("numpy", "PIL", "tokenizers", "onnxruntime"),
        "compare": ("torch", "jinja2", "PIL", "scipy", "onnxruntime"),
        "bench": ("numpy", "tokenizers", "onnxruntime"),
        "plan student": ("torch", "diffusers", "transformers"),
        "merge": ("jinja2", "numpy", "PIL"),
        "check": ("numpy", "onnxruntime"),
    }
    for name, modules in needed.items():
        for module in modules:
            yield Fault("missing library", inputs.verbs[name], (3,), (module,))
    for verb, module in (
        ([*inputs.verbs["validate"], "--ray", "local"], "ray"),
        ([*inputs.verbs["bench"], "--protocol", "mlperf-single-stream"], "mlperf_loadgen"),
        (["bench", str(inputs.bundle), "--against", "pytorch", "--student", str(inputs.student)], "torch"),
        (["serve", str(inputs.bundle), "--port", "0"], "uvicorn"),
        (["serve", str(inputs.bundle), "--port", "0"], "starlette"),
    ):
        yield Fault("missing library", verb, (3,), (module,))
    yield Fault("missing library", inputs.verbs["reference"], (0,), ("torch", "diffusers", "onnx", "scipy", "skimage"))
    yield Fault("missing library", inputs.verbs["merge"], (0,), ("torch", "onnxruntime", "scipy"))
    yield Fault("missing library", ["report", str(inputs.bundle)], (0, 2), ("torch", "numpy", "jinja2"))
    yield Fault("missing library", inputs.verbs["plan bundle"], (0,), ("torch", "diffusers"))


def list_short(rng: random.Random, inputs: Inputs) -> Iterator[Fault]:
    """Address space from what Python takes to what the run takes."""
    for name, most in (
        ("validate", 1500),
        ("reference", 600),
        ("compare", 1500),
        ("bench", 600),
        ("merge", 500),
        ("plan bundle", 500),
    ):
        for _ in range(4):
            yield Fault("memory", inputs.verbs[name], (0, 1, 3), megabytes=rng.randrange(60, most))


def list_streams(inputs: Inputs) -> Iterator[Fault]:
    """Streams that cannot be written, with results as tables and as JSON."""
    for name in ("reference", "bench", "plan bundle", "merge", "check"):
        for more in ((), ("--json",)):
            verb = [*inputs.verbs[name], *more]
            yield Fault("stream", verb, (0,), stream="stdout closed")
            yield Fault("stream", verb, (3,), stream="stdout full")
            yield Fault("stream", verb, (0, 141), stream="stdout pipe")
            yield Fault("stream", verb, (0,), stream="stderr full")


def list_signals(rng: random.Random, inputs: Inputs) -> Iterator[Fault]:
    """Ctrl-C and SIGTERM at any moment."""
    for name, most in (
        ("validate", 7.0),
        ("compare", 7.0),
        ("bench", 3.0),
        ("plan student", 4.0),
        ("merge", 1.0),
        ("reference", 2.0),
    ):
        for _ in range(8):
            moment, number = round(rng.uniform(0.0, most), 3), rng.choice((signal.SIGINT, signal.SIGTERM))
            yield Fault("signal", inputs.verbs[name], PROGRESSES, signals=((moment, number),))


ODD_FILES = ("none", ".", "loop", "/dev/zero", "/dev/null", "binary", "x" * 5000, "/proc/self/mem", b"\xff", "~nosuchuser/x")
VALUES: dict[str, dict[str, Sequence[str | bytes]]] = {
    "validate": {
        "--prompts": (*ODD_FILES, "geneval:none", "mjhq30k:.", "dpg:.", "geneval2:loop", "evil:x", "geneval:", ":", "dpg:/dev"),
        "--metrics": ("", ",", "lpps", "fid,", "x" * 5000),
        "--scorer": ("", "x", "=", "x=", "X=true", "x=nosuchprogram", "x='", "psnr_db=true", "fid=true"),
        "--metric-weights": ("none", "binary", "loop"),
        "--budget": ("0", "-1", "nan", "1e9999", "x", "1 year"),
        "--gate": ("lpips_x>=1", "psnr_db>=", "psnr_db>=1e", "adherence_percent>=50"),
        "--student": ("x" * 5000, "/dev/zero", "random:x", b"\xff"),
        "--lora": ("none", "none:nan", ":", "x:inf"),
        "--ray": ("", "nosuchhost:1", "http://x", "127.0.0.1:1", "ray://127.0.0.1:1"),
        "--junit": (".", "none/x", "/dev/null", "loop"),
        "--count": ("0", "1e3"),
        "--runs": ("1",),
    },
    "reference": {
        "--runs": ("-1", "x"),
        "--label": ("x" * 201,),
        "--out": (".",),
        "--gate": ("psnr_db>=1", "latency_p50_ms<=1"),
        "--student": ("sprint-tiny",),
        "--count": ("3",),
        "--runtime": ("tr", "openvino"),
        "--provider": ("nosuch",),
    },
    "compare": {
        "--prompts": ODD_FILES,
        "--count": ("0", "-1"),
        "--steps": ("3", "0", "-1"),
        "--seed": ("-1", "1.5"),
        "--rank-by": ("psnr", ""),
        "--metrics": ("lpps", ","),
        "--gate": ("ssim=1", "nodes_on_cpu<=0"),
        "--out": ("binary", "/dev/null", "loop", "x" * 5000),
        "--student": ("sprint-tiny", "random:x"),
    },
    "bench": {
        "--against": ("none", "binary", ".", "pytorch:fp8", "pytorch:", "", "loop"),
        "--minutes": ("0", "-1", "nan", "inf", "1e9", "x"),
        "--batch": ("0", "-1", "1,1", "1,,2", "x", "9999999", "²"),
        "--protocol": ("mlperf", "", "own,own"),
        "--spread": ("-1", "nan", "1e9"),
        "--warm-up": ("-1",),
        "--cold-starts": ("-1",),
        "--gate": ("psnr_db>=1", "latency_p50_ms<=x"),
        "--runtime": ("tr",),
        "--junit": (".", "none/x"),
    },
    "plan bundle": {
        "--device": ("rtx-409", "", ",", "rtx-4090,rtx-4090", "x" * 5000),
        "--target": ("trt-fp9", "", "onnx-int8", ","),
        "--measured": ODD_FILES,
        "--prices": ODD_FILES,
        "--fit": ODD_FILES,
        "--save": ("x.json",),
        "--steps": ("2",),
        "--decoder": ("x",),
    },
    "plan student": {
        "--steps": ("0", "5", "-1"),
        "--prompt-tokens": ("0", "-1"),
        "--decoder": ODD_FILES[:3],
        "--target": ("onnx-x", "coreml-fp8"),
    },
    "merge": {"--gate": ("ssim>=1", "x"), "--out": ("binary", "loop", "x" * 5000)},
    "check": {"--tolerance": ("-1", "256", "x"), "--runtime": ("tr",)},
}


def list_arguments(inputs: Inputs) -> Iterator[Fault]:
    """Values that cannot be; exit status 2, and 3 where what is missing is the machine's."""
    for name, options in VALUES.items():
        for option, values in options.items():
            for value in values:
                yield Fault(
                    "argument", [*inputs.verbs[name], option, value], (2,) if option not in ("--ray", "--provider") else (2, 3)
                )
    for value in ODD_FILES:
        for verb in (
            ["report", "--merge", str(inputs.bundle)],
            ["compare"],
            ["plan"],
            ["bench"],
            ["report"],
            ["check"],
            ["validate"],
        ):
            yield Fault("argument", [*verb, value], (2,))
    for verb in (
        ["report", str(inputs.bundle), str(inputs.result)],
        ["report", "--merge", str(inputs.bundle)],
        ["report", "--merge", str(inputs.bundle), *[str(inputs.result)] * 201],
        ["report", "--merge", str(inputs.bundle), str(inputs.bundle / "bundle.json")],
        ["report", "--merge", str(inputs.bundle), str(inputs.result), "--out", str(inputs.bundle)],
        ["compare", str(inputs.bundle), str(inputs.bundle), "--student", str(inputs.student)],
        ["compare", f"x={inputs.bundle}", f"x={inputs.pictures}", "--student", str(inputs.student)],
        ["compare", str(inputs.student / "vae"), "--student", str(inputs.student)],
        ["plan", "--fit", str(inputs.bench), "--measured", str(inputs.bench)],
        ["plan"],
        ["compare"],
        ["serve", str(inputs.bundle), "--port", "99999"],
        ["serve", str(inputs.bundle), "--host", "203.0.113.9", "--port", "0"],
        ["serve", str(inputs.bundle), "--api-key", "ü"],
        ["serve", "none"],
        ["demo", "none"],
        ["pack", "none", "--for", "web"],
        ["pack", str(inputs.bundle), "--for", "amiga"],
        ["upload", str(inputs.bundle), "../x"],
    ):
        yield Fault("argument", verb, (2,))


def list_places(inputs: Inputs) -> Iterator[Fault]:
    """Files that cannot be written: said in one line, and where it is known before, before any work."""
    verbs = inputs.verbs
    for name in ("validate", "bench", "reference"):
        for option in ("--junit", "--markdown"):
            for value in ("/proc/x.xml", "/dev/full", "none/x", "x" * 5000, "/sys/x"):
                yield Fault("place", [*verbs[name], option, value], (2, 3))
    for value in ("/proc/x", "/proc/self/x", "/dev/full", "/sys/x", "x" * 300):
        yield Fault("place", [*verbs["merge"], "--out", value], (2, 3))
        yield Fault("place", [*verbs["compare"], "--out", value], (2, 3))
        yield Fault("place", ["validate", str(inputs.bundle), "--reference", "--out", f"{value}/x.json"], (2, 3))
        yield Fault("place", ["plan", str(inputs.bundle), "--fit", str(inputs.bench), "--save", f"{value}/x.json"], (2, 3))


def look_after(fault: Fault, folder: Path, inputs: Inputs) -> str:
    """What a stopped run left that it should not have; "" where all is whole."""
    litter = [path.name for place in (folder, inputs.bundle) for path in place.rglob("*") if ".part" in path.name]
    if litter:
        return f"litter: {litter}"
    for path in [*folder.rglob("*.json"), *inputs.bundle.glob("report.json")]:
        try:
            json.loads(path.read_text("utf-8"))
        except ValueError:
            return f"half of {path.name}"
    again, seen = run_fault(replace(fault, signals=(), statuses=(0, 1)), _make_world(folder))
    return "" if again in (RIGHT, CLEAN) or "status 0" in seen else f"the next run: {seen}"


def _make_world(folder: Path) -> Path:
    again = folder.with_name(f"{folder.name}-again")
    again.mkdir()
    return again


def run_loaded(fault: Fault, folder: Path, tell: Callable[[Ended], object] = lambda ended: None) -> tuple[str, str]:
    """(outcome, what was seen) of the command in a fork of this process; how that ended is told too."""
    make_world(folder)
    said = folder.with_name(f"{folder.name}.err")

    def command() -> str:
        os.chdir(folder)
        number = os.open(said, os.O_WRONLY | os.O_CREAT)
        os.dup2(number, 2)
        sys.argv = ["sprint-export", *map(os.fsdecode, fault.arguments)]
        try:
            status = entry.run()
        except BaseException:
            traceback.print_exc()
            status = 1
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        return str(status)

    ended = run_forked(command, MOST_S, GIGABYTES)
    tell(ended)
    text = said.read_text("utf-8", "replace") if said.exists() else ""
    seen = f"{ended.kind} {ended.text} after {ended.seconds:.1f} s: {text.strip()[-300:]}"
    if ended.kind != "returned":
        return OF_KINDS[ended.kind], seen
    return judge(fault, int(ended.text), text), seen


def load_command() -> None:
    """What forks then have; no session is opened here."""
    warm_up()
    for name in (
        "cli.app",
        "validate.comparing.compare",
        "validate.merging.merge",
        "validate.latency",
        "planning.asking",
        "server.app",
    ):
        importlib.import_module(f"sprint_export.{name}")


def make_all(folder: Path) -> Inputs:
    """A small bundle, its student, pictures, results of a device and of a bench."""
    from sprint_export.validate.against_reference import validate_against_reference
    from sprint_export.validate.latency import bench_bundle
    from sprint_export.validate.latency.results import describe_bench
    from sprint_export.validate.merging.result import format_result

    bundle, student = make_inputs(folder)
    pictures = folder / "pictures"
    pictures.mkdir()
    for i in range(len(PROMPTS)):
        Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(pictures / f"{i}.png")
    (pictures / "prompts.txt").write_text("\n".join(PROMPTS), "utf-8")
    (folder / "result.json").write_text(format_result(validate_against_reference(bundle)), "utf-8")
    found = describe_bench(bench_bundle(bundle, runs=2, cold_starts=0))
    (folder / "bench.json").write_text(json.dumps(found), "utf-8")
    (folder / "prompts.txt").write_text("\n".join(PROMPTS), "utf-8")
    return Inputs(bundle, student, pictures, folder / "result.json", folder / "bench.json", folder / "prompts.txt")


def describe_all(folder: Path) -> str:
    """`make_all` in a fork: sessions of ONNX Runtime are not to be in its parent."""
    return json.dumps({name: str(path) for name, path in vars(make_all(folder)).items()})


def read_inputs(ended: Ended) -> Inputs:
    """What such a fork made."""
    assert ended.kind == "returned", ended
    return Inputs(**{name: Path(path) for name, path in json.loads(ended.text).items()})


def run(count: int, seed: int, tally: Tally, kinds: Sequence[str] = ()) -> None:
    """Make `count` runs with a fault, of these kinds; none: of all."""
    with tempfile.TemporaryDirectory(prefix="verbs-") as name:
        base = Path(name)
        load_command()
        ended = run_forked(partial(describe_all, base), MOST_S, GIGABYTES)
        inputs = read_inputs(ended)
        faults = (fault for fault in make_faults(seed, inputs) if fault.kind in kinds or not kinds)
        for i, fault in zip(range(count), faults, strict=False):
            world = base / f"world-{i}"
            world.mkdir()
            outcome, seen = run_loaded(fault, world) if fault.kind in LOADED else run_fault(fault, world)
            if fault.kind == "signal" and outcome in (RIGHT, CLEAN) and (left := look_after(fault, world, inputs)):
                outcome, seen = LOST, left
            verb = " ".join(str(each) for each in fault.arguments[:1])
            tally.add(f"{verb}: {fault.kind}", outcome, f"{seed}-{i} {fault.sample} -> {seen}")
            for each in (world, world.with_name(f"{world.name}-again")):
                shutil.rmtree(each, ignore_errors=True)
