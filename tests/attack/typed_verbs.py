"""The verbs that write, as they are typed, each with what it leaves: what kill_verbs.py kills.

Inputs are made once and lie outside the folder that a verb writes to. A verb that promises bytes makes the same files each time;
of the others (they measure seconds, or draw a date) names and forms are compared.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from sprint_export import interrupts
from sprint_export.bundle_files import MANIFEST
from sprint_export.cli import entry
from sprint_export.demo.site_files import Site, SiteFile
from sprint_export.demo.static_copy import write_site
from sprint_export.errors import SprintExportError
from sprint_export.export.bundle import read_bundle
from tests.attack.verb_faults import Inputs, make_all
from tests.students.sana_sprint.test_controlnet import make_controlnet

SAID = "said"  # beside the home of a run: its stderr


@dataclass(frozen=True)
class Verb:
    """One command.

    Args:
        name: in the table.
        arguments: of the command; or `act`, which is given the folder to write to.
        makes: what it leaves in the folder.
        copies: what lies in the folder before, by name: a path to copy.
        is_exact: whether it makes the same bytes each time.
        seconds: roughly, where it is not warm; dear ones are killed less often.
    """

    name: str
    arguments: Sequence[str] = ()
    makes: tuple[str, ...] = ("out",)
    copies: Mapping[str, Path] = field(default_factory=dict)
    is_exact: bool = True
    seconds: float = 3.0
    act: Callable[[Path], object] | None = None

    def run(self, home: Path) -> str:
        """Run it in a process of its own, whose signals it takes; its exit status, or what it said where it is none of the known.

        Raises:
            AssertionError: a traceback, or a status that no command leaves with.
        """
        said = home.with_name(SAID)
        os.chdir(home)
        number = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(number, 2)
        interrupts.listen()
        if self.act is not None:
            status = _act(self.act, home)
        else:
            sys.argv = ["sprint-export", *self.arguments]
            status = entry.run()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        text = said.read_text("utf-8", "replace")
        assert status in (0, 1, 2, 3, 130, 143), f"status {status}: {text[-300:]}"
        assert "Traceback" not in text, text[-1500:]
        assert status in (0, 1) or len(text) < 20_000, f"{len(text)} letters"
        lines = [line for line in text.splitlines() if line.startswith(("error: ", "stopped;"))]
        return f"{status} {lines[-1] if lines else ''}"


def _act(act: Callable[[Path], object], home: Path) -> int:
    """An act that is no command, its end as the command's would be."""
    try:
        act(home)
    except SprintExportError as error:
        os.write(2, f"error: {error}\n".encode())
        return error.exit_status
    except KeyboardInterrupt:
        interrupts.say_stopped()
        return interrupts.exit_status()
    return 0


def make_verb_inputs(folder: Path) -> dict[str, str]:
    """All inputs of all verbs, in a process of its own."""
    inputs = make_all(folder)
    make_controlnet().save_pretrained(folder / "control")
    from sprint_export.conversion import convert
    from tests.made_student import PROMPTS

    convert(inputs.student, "web-int8", folder / "web", prompts=PROMPTS, validate=False)
    (folder / "model.onnx").write_bytes(b"graph" * 1000)
    return {name: str(path) for name, path in vars(inputs).items()}


def list_verbs(inputs: Inputs) -> tuple[Verb, ...]:
    """All of them, the cheap ones first."""
    bundle, student, folder = str(inputs.bundle), str(inputs.student), inputs.bundle.parent
    few = ("--student", student, "--count", "2", "--allow-undecided")
    asked = ("--prompts", str(inputs.prompts), "--no-validate", "--out", "out")
    part = ("--student", student, "--component", "vae_decoder", "--no-validate", "--out", "out")

    def export(target: str, *more: str) -> tuple[str, ...]:
        return ("--student", student, "--target", target, *more, *asked)

    ci = ("--junit", "tests.xml", "--markdown", "summary.md")
    own = {"mine": inputs.bundle}
    return (
        Verb("pack", ("pack", bundle, "--for", "node", "--out", "out", "--no-draw"), seconds=1),
        Verb("pack over another", ("pack", bundle, "--for", "cpp", "--out", "mine", "--overwrite"), ("mine",), own, seconds=1),
        Verb("pack --one-graph", ("pack", bundle, "--for", "node", "--one-graph", "--out", "out"), seconds=2),
        Verb("pack web", ("pack", str(folder / "web"), "--for", "web", "--out", "out"), seconds=2),
        Verb("demo --out", act=lambda home: write_site(make_site(folder), home / "out"), seconds=0.1),
        Verb("report --merge", ("report", "--merge", bundle, str(inputs.result), str(inputs.bench), "--out", "out"), seconds=1),
        Verb("plan --fit --save", ("plan", bundle, "--fit", str(inputs.bench), "--save", "prices.json"), ("prices.json",)),
        Verb("run", ("run", bundle, "a red circle", "a blue square", "-o", "p.png"), ("p-0.png", "p-1.png"), seconds=1),
        Verb("run --grid", ("run", bundle, "a red circle", "--count", "4", "--grid", "-o", "p.png"), ("p.png",), seconds=1),
        Verb("validate --reference", ("validate", bundle, "--reference", "--out", "d.json"), ("d.json",), is_exact=False),
        Verb("bench", ("bench", bundle, "--runs", "2", "--cold-starts", "0", *ci), ci[1::2], is_exact=False),
        Verb("compare", ("compare", bundle, *few, "--out", "out"), is_exact=False),
        Verb(
            "validate", ("validate", "mine", *few, *ci),
            ("mine", *ci[1::2]), own, is_exact=False, seconds=5,
        ),
        Verb("several targets", ("--target", "onnx-fp32,onnx-fp16", *part)),
        Verb("over another", ("--target", "onnx-int8", "--overwrite", *part[:-1], "mine"), ("mine",), own),
        Verb("--dynamic", export("onnx-fp32", "--dynamic"), seconds=8),
        Verb("--steps 1,2,4", export("onnx-fp32", "--steps", "1,2,4"), seconds=8),
        Verb("--batch", export("onnx-int8", "--batch", "2"), seconds=12),
        Verb("--controlnet", export("onnx-fp32", "--controlnet", str(folder / "control")), seconds=10),
        Verb("--image-to-image", export("onnx-fp32", "--image-to-image"), seconds=10),
        Verb("onnx-w4a16", export("onnx-w4a16"), seconds=12),
        Verb("web-int8", export("web-int8"), seconds=12),
        Verb("openvino --layout", export("openvino-fp16", "--layout", "optimum"), seconds=12),
        Verb("--recipe auto", export("onnx-int8", "--recipe", "auto", "--cost", "bytes"), seconds=20),
    )  # fmt: skip


def list_dear_verbs(inputs: Inputs) -> tuple[Verb, ...]:
    """Those that build engines: a minute each."""
    student = ("--student", str(inputs.student), "--prompts", str(inputs.prompts), "--no-validate", "--out", "out")
    return (
        Verb("--drop-unpaid", ("--target", "trt-fp8", "--drop-unpaid", *student), seconds=60),
        Verb("trt-fp8", ("--target", "trt-fp8", *student), seconds=30),
    )


def make_site(folder: Path) -> Site:
    """A page of a few files, one of them on the disk."""
    files = [SiteFile(f"package/{i}.js", "page", 4, f"{i}" * 64, content=b"page") for i in range(3)]
    files.append(SiteFile("bundle/model.onnx", "bundle", 5000, "a" * 64, folder, "model.onnx"))
    return Site("made", {file.url: file for file in files})


def find_half(path: Path, is_bundle: bool = False) -> str:
    """What is half-written at an output or below it; "" where it is whole, or not there."""
    if not path.exists():
        return ""
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file() and not is_working(each))
    for file in files:
        try:
            _read_whole(file)
        except (OSError, ValueError, SyntaxError, AssertionError) as error:
            return f"half of {file.name}: {error!r}"
    for manifest in path.rglob(MANIFEST) if path.is_dir() and is_bundle else ():
        try:
            read_bundle(manifest.parent)
        except SprintExportError as error:
            return str(error)
    return ""


def is_working(path: Path) -> bool:
    """Whether a file is still being made: a part, or in the work folder of a bundle."""
    return any(part.endswith(".partial") or ".part" in part for part in path.parts)


def _read_whole(file: Path) -> None:
    if file.suffix == ".json":
        json.loads(file.read_text("utf-8"))
    elif file.suffix == ".html":
        assert file.read_text("utf-8").rstrip().endswith("</html>"), "no end"
    elif file.suffix == ".xml" and file.parent.name not in ("text_encoder", "transformer", "vae_decoder"):
        ET.fromstring(file.read_text("utf-8"))
    elif file.suffix == ".png":
        with Image.open(file) as picture:
            picture.load()


def prepare_home(verb: Verb, home: Path) -> None:
    """What lies there before the verb runs."""
    for name, path in verb.copies.items():
        shutil.copytree(path, home / name)
