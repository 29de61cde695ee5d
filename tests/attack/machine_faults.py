"""Faults of the machine and of whoever types: the real command in a process of its own, in a world that lacks something.

    missing library   a meta-path finder refuses one package, so that it is as if it were not installed
    memory            RLIMIT_AS, from what Python itself needs to what the run needs
    stream            stdout closed, full, or a pipe whose reader leaves; stderr full or closed
    signal            SIGINT once or twice, or SIGTERM, at a moment of a real run after its first 0.1 s, when main() begins
    argument          values, names and paths that cannot be
    environment       no home, a locale without UTF-8, a folder that is gone
Right is the exit status that README names and one line; a traceback, another status, a signal or a hang is a fault.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.attack.outcomes import CLEAN, GATE, HANG, RIGHT, SIGNAL, TRACEBACK, WRONG, Tally

NAME = "machine faults"
MOST_S = 240.0
EXPORTS = (
    *("torch", "diffusers", "transformers", "safetensors", "onnx", "onnx_ir", "onnxscript", "ml_dtypes"),
    *("numpy", "tokenizers", "PIL", "skimage", "scipy", "onnxruntime", "rich", "typer"),
)
START = (
    "import sys\n"
    "class Blocker:\n"
    "    def find_spec(self, name, path=None, target=None):\n"
    "        if name.partition('.')[0] in {blocked!r}: raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)\n"
    "sys.meta_path.insert(0, Blocker())\n"
    "from sprint_export.cli.entry import main\n"
    "sys.argv[0] = 'sprint-export'\n"
    "main()\n"
)


@dataclass(frozen=True)
class Fault:
    """One attacked run: what is typed, what is broken, and the exit statuses that are right."""

    kind: str
    arguments: Sequence[str | bytes]
    statuses: tuple[int, ...]
    blocked: tuple[str, ...] = ()
    megabytes: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    stream: str = ""  # "stdout closed", "stdout full", "stdout pipe", "stderr full", "stderr closed"
    signals: tuple[tuple[float, int], ...] = ()  # seconds after the start, and after the one before

    @property
    def sample(self) -> str:
        """How to make it again."""
        broken = [f"without {', '.join(self.blocked)}" if self.blocked else "", f"{self.megabytes} MB" if self.megabytes else ""]
        broken += [self.stream, f"signals {self.signals}" if self.signals else "", str(dict(self.environment) or "")]
        typed = " ".join(a if isinstance(a, str) else repr(a) for a in self.arguments)
        return f"{typed[:200]} ({'; '.join(part for part in broken if part)})"


def make_faults(seed: int, bundle: Path, student: Path) -> Iterator[Fault]:
    """Faults without end: every kind in turn, each drawn from its own list in an order that the seed gives."""
    rng = random.Random(seed)
    kinds: list[list[Fault]] = [
        list(_missing_libraries(bundle, student)),
        list(_short_memory(rng, bundle, student)),
        list(_broken_streams(bundle)),
        list(_signals(rng, student)),
        list(_bad_arguments(bundle, student)),
        list(_odd_environments(bundle)),
    ]
    for faults in kinds:
        rng.shuffle(faults)
    for i in range(10**9):
        for faults in kinds:
            yield faults[i % len(faults)]


def _export(target: str, student: Path | str = "sprint-tiny", *more: str) -> list[str]:
    return ["--student", str(student), "--target", target, *more]


def _missing_libraries(bundle: Path, student: Path) -> Iterator[Fault]:
    draws = ["run", str(bundle), "a red circle", "-o", "x.png"]
    judges = ["validate", str(bundle), "--student", str(student), "--count", "1"]
    needed = {
        "onnx-int8": EXPORTS,
        "trt-fp8": ("torch", "tensorrt_rtx", "onnx"),
        "coreml-int8": ("coremltools", "torch"),
        "coreai-int8": ("coreai_torch", "coreai"),
        "openvino-int8": ("openvino", "onnx_ir"),
    }
    for target, modules in needed.items():
        for module in modules:
            yield Fault("missing library", _export(target), (3,), (module,))
    for verb, modules in (
        (draws, ("numpy", "PIL", "tokenizers", "onnxruntime")),
        (judges, ("torch", "transformers", "diffusers", "safetensors", "skimage", "scipy", "PIL", "onnxruntime")),
        (["bench", str(bundle), "--runs", "1"], ("numpy", "tokenizers", "onnxruntime")),
    ):
        for module in modules:
            yield Fault("missing library", verb, (3,), (module,))
    for what in ("students", "targets", "precisions", "recipes", "devices"):
        yield Fault("missing library", ["list", what], (0,), ("torch", "numpy", "diffusers", "onnx"))
    yield Fault("missing library", ["inspect", str(bundle)], (0,), ("torch", "numpy", "tokenizers", "onnxruntime"))


def _short_memory(rng: random.Random, bundle: Path, student: Path) -> Iterator[Fault]:
    part = ("--component", "vae_decoder", "--no-validate", "--out", "out")
    for _ in range(20):
        yield Fault("memory", _export("onnx-fp32", student, *part), (0, 3), megabytes=rng.randrange(50, 1300))
        yield Fault("memory", ["run", str(bundle), "a red circle", "-o", "x.png"], (0, 3), megabytes=rng.randrange(50, 500))
        judges = ["validate", str(bundle), "--student", str(student), "--count", "1"]
        yield Fault("memory", judges, (0, 3), megabytes=rng.randrange(50, 1300))


def _broken_streams(bundle: Path) -> Iterator[Fault]:
    says = (["list", "devices"], ["list", "recipes", "--json"], ["inspect", str(bundle)], ["inspect", str(bundle), "--json"])
    for verb in (*says, ["--help"], ["--version"], ["run", "-h"]):
        yield Fault("stream", verb, (0,), stream="stdout closed")
        yield Fault("stream", verb, (3,), stream="stdout full")
        yield Fault("stream", verb, (0, 141), stream="stdout pipe")
        for stream in ("stderr full", "stderr closed"):
            yield Fault("stream", verb, (0,), stream=stream)
    for stream in ("stdout closed", "stdout full", "stderr full", "stderr closed"):
        yield Fault("stream", ["--target", "trt-fp9"], (2,), stream=stream)


def _signals(rng: random.Random, student: Path) -> Iterator[Fault]:
    verb = _export("onnx-fp32", student, "--component", "vae_decoder", "--no-validate", "--out", "out")
    for _ in range(40):
        moment = round(rng.choice((rng.uniform(0.0, 1.0), rng.uniform(0.0, 5.0))), 3)
        yield Fault("signal", verb, (0, 130), signals=((moment, signal.SIGINT),))
        gap = round(rng.uniform(0.0, 0.3), 3)
        yield Fault("signal", verb, (0, 130), signals=((moment, signal.SIGINT), (gap, signal.SIGINT)))
        yield Fault("signal", verb, (0, 143), signals=((moment, signal.SIGTERM),))


BAD_VALUES = {
    "--steps": ("5", "0", "", "1,", "-1", "1.5", "many", "9" * 400),
    "--student": ("x" * 5000, "~nosuchuser/x", "random:sana", "random:", "/dev/zero", "a\nb", ".", "", b"\xff\xfe"),
    "--out": ("loop", "/proc/x", "x" * 300, "/dev/null", ".", "/", b"\xff"),
    "--prompts": ("/dev/zero", "none", ".", "loop", "/dev/null", "binary", "x" * 5000),
    "--guidance": ("nan", "inf", "x"),
    "--gate": ("psnr>=30", "psnr_db", "psnr_db>=nan", "", "infinities<=0", "engine_mb<=1"),
    "--recipe": ("fats", "x" * 5000, "/dev/zero", "binary", "loop", ""),
    "--count": ("0", "-1", "x"),
    "--part-mb": ("0", "-1"),
    "--prompt-tokens": ("0", "1"),
    "--device": ("rtx-409", ""),
    "--component": ("unet", ""),
    "--max-mb": ("nan", "0"),
    "--cost": ("time", "money"),
    "--deployment-target": ("iOS17",),
}
BAD_PAIRS: tuple[Sequence[str | bytes], ...] = (
    ("--gate", "psnr_db>=3", "--no-validate"),
    ("--gate", "psnr_db>=3", "--component", "vae_decoder"),
    (b"--\xff",),
)


def _bad_values() -> Iterator[Sequence[str | bytes]]:
    for option, values in BAD_VALUES.items():
        yield from ((option, value) for value in values)


def _bad_arguments(bundle: Path, student: Path) -> Iterator[Fault]:
    for more in (*_bad_values(), *BAD_PAIRS):
        yield Fault("argument", ["--target", "onnx-int8", *more], (2,))
    for target in ("trt-fp9", "", "x" * 5000, "coreml-fp8", "TRT-FP8", "trt"):
        yield Fault("argument", ["--target", target], (2,))
    draws = ["run", str(bundle), "a red circle", "-o", "x.png"]
    for more in (["--seed", "-1"], ["--seed", "1.5"], ["--steps", "3"], ["--runtime", "trt"], ["--height", "7"], ["-o", "."]):
        yield Fault("argument", [*draws, *more], (2,))
    for verb in (["bench", str(bundle), "--runs", text] for text in ("0", "10000000", "x")):
        yield Fault("argument", verb, (2,))
    judges = ["validate", str(bundle), "--student", str(student)]
    for more in (
        ["--gate", "psnr>=3"],
        ["--count", "0"],
        ["--prompts", "/dev/zero"],
        ["--runtime", "tr"],
        ["--student", "x" * 5000],
    ):
        yield Fault("argument", [*judges, *more], (2,))
    yield Fault("argument", ["run", str(bundle), b"\xff\xfe"], (2,))
    for verb in (["lst"], ["list", "target"], ["inspect", "none"], ["inspect", "x" * 5000], ["inspect", "loop"], []):
        yield Fault("argument", verb, (2,))


def _odd_environments(bundle: Path) -> Iterator[Fault]:
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for environment in (ascii_only, {"HOME": ""}, {"HOME": "/proc/x"}, {"TERM": "dumb"}, {"COLUMNS": "0"}, {"LANG": "xx_YY"}):
        environment = {"SPRINT_EXPORT_CACHE": ""} | environment
        yield Fault("environment", ["run", str(bundle), "café ünd 圆", "-o", "x.png"], (0,), environment=environment)
        yield Fault("environment", ["inspect", str(bundle)], (0,), environment=environment)
        yield Fault("environment", ["--help"], (0,), environment=environment)
        yield Fault("environment", ["--target", "trt-fp9"], (2,), environment=environment)


def make_world(folder: Path) -> None:
    """The working directory of a fault: what arguments point at."""
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "binary").write_bytes(b"\xff\xfe\x00\x80")


def run_fault(fault: Fault, folder: Path) -> tuple[str, str]:
    """(outcome, what was seen) of one fault, in an empty folder."""
    make_world(folder)
    command = [sys.executable, "-c", START.format(blocked=set(fault.blocked)), *fault.arguments]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **fault.environment}
    out, err = folder.parent / f"{folder.name}.out", folder.parent / f"{folder.name}.err"
    start = time.monotonic()
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, preexec_fn=_break(fault),
            stdout=_open_stdout(fault, stdout.fileno()), stderr=stderr,
        )  # fmt: skip
        if fault.signals:
            _wait_for_handler(process.pid)
        for seconds, number in fault.signals:
            time.sleep(seconds)
            process.send_signal(number)
        try:
            status = process.wait(MOST_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return HANG, f"killed after {MOST_S:.0f} s"
    text = err.read_text("utf-8", "replace")
    seen = f"status {status} after {time.monotonic() - start:.1f} s: {text.strip()[-300:]}"
    return judge(fault, status, text), seen


def _wait_for_handler(process: int) -> None:
    """Until the command hears signals (it catches SIGTERM): before that Python itself starts, and answers for itself."""
    bit, deadline = 1 << (signal.SIGTERM - 1), time.monotonic() + 30
    while time.monotonic() < deadline:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        caught = next((int(line.split()[1], 16) for line in lines if line.startswith("SigCgt")), bit)
        if caught & bit:
            return
        time.sleep(0.001)


def judge(fault: Fault, status: int, text: str) -> str:
    """What an ended run counts as."""
    if "Traceback" in text or "Exception ignored" in text:
        return TRACEBACK
    if status < 0:
        return SIGNAL
    if status not in fault.statuses:
        return WRONG
    if status == 1:
        return GATE
    said = [line for line in text.splitlines() if line.startswith(("error: ", "stopped;"))]
    is_heard = not fault.stream.startswith("stderr")
    if status in (2, 3, 130, 143) and is_heard and len(said) != 1:
        return WRONG
    return RIGHT if status in (0, 141) else CLEAN


def _break(fault: Fault) -> Callable[[], None]:
    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a test runner in the background may ignore it
        if fault.megabytes is not None:
            resource.setrlimit(resource.RLIMIT_AS, (fault.megabytes << 20, fault.megabytes << 20))
        name, _, how = fault.stream.partition(" ")
        number = {"stdout": 1, "stderr": 2}.get(name)
        if number is not None and how == "closed":
            os.close(number)
        elif number is not None and how == "full":
            os.dup2(os.open("/dev/full", os.O_WRONLY), number)

    return prepare


def _open_stdout(fault: Fault, default: int) -> int:
    """A pipe without a reader where the fault is one."""
    if fault.stream != "stdout pipe":
        return default
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def make_inputs(folder: Path) -> tuple[Path, Path]:
    """A small bundle and the student it was made from."""
    from sprint_export.conversion import convert
    from tests.made_student import PROMPTS, make_pipeline

    make_pipeline().save_pretrained(folder / "student")
    convert(folder / "student", "onnx-fp32", folder / "bundle", prompts=PROMPTS, validate=False)
    return folder / "bundle", folder / "student"


def run(count: int, seed: int, tally: Tally) -> None:
    """Attack `count` times."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle, student = make_inputs(folder)
        for i, fault in zip(range(count), make_faults(seed, bundle, student), strict=False):
            world = folder / f"world-{i}"
            world.mkdir()
            outcome, seen = run_fault(fault, world)
            tally.add(fault.kind, outcome, f"{fault.sample} -> {seen}")
