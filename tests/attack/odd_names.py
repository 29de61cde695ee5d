"""Campaign: bundles, students, outputs and files of prompts under names that shells, URLs, patterns and terminals trip over.

A name that the system can hold works as any other does: the same files, the same picture. One that cannot be is one line.
"""

from __future__ import annotations

import functools
import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from sprint_export.export.bundle import hash_file
from tests.attack.forks import run_forked
from tests.attack.machine_faults import Fault
from tests.attack.outcomes import CLEAN, LOST, RIGHT, WRONG, Tally
from tests.attack.verb_faults import Inputs, describe_all, load_command, read_inputs, run_loaded

NAME = "odd names"
GOOD = (
    *("with space", "ünï 圆 🙂", "a\nb", "a\tb", "-dash", "--out", "a=b", "%s{0}%(x)s", "$HOME", "a;b&c|d", 'it\'s "quoted"'),
    *(
        "*?[x]",
        "~tilde",
        "CON",
        "dot.",
        "blank ",
        ".hidden",
        "..x",
        "\u202eabc",
        "e\u0301",
        "#hash?query=1",
        "100%25",
        "back\\slash",
    ),
    *("a:0.5", "\x7f", "[/]", "[red]x", "owner", "x" * 200, "圆" * 60, "bundle.json", "a.part", "x.onnx", "{index}", "NUL.png"),
    *("a,b", "\x1b[2J"),
)
BAD = ("x" * 250, "y" * 300, b"\xff\xfe", "")
LINE, ESCAPE = 3000, "\x1b[2J"


def list_commands(bundle: str, inputs: Inputs) -> dict[str, tuple[list[str], str]]:
    """What is typed in the folder where `bundle` lies, and what it leaves, under names that begin with the bundle's."""
    student, out, made = str(inputs.student), f"./{bundle} out", f"{bundle} out"
    part = ["--target", "onnx-fp32", "--component", "vae_decoder", "--no-validate"]
    own = ["--student", student, "--count", "1", "--allow-undecided", "--out", out]
    return {
        "inspect": (["inspect", "--", bundle], ""),
        "run": (["run", "-o", f"./{bundle}.png", "--", bundle, "a red circle"], f"{bundle}.png"),
        "check": (["check", "--", bundle], ""),
        "plan": (["plan", "--", bundle], ""),
        "reference": (["validate", "--reference", "--out", f"{out}.json", "--", bundle], f"{made}.json"),
        "bench": (["bench", "--runs", "1", "--cold-starts", "1", "--junit", f"{out}.xml", "--", bundle], f"{made}.xml"),
        "compare": (["compare", *own, "--", bundle], made),
        "merge": (["report", "--merge", "--out", out, "--", bundle, str(inputs.result)], made),
        "pack": (["pack", "--for", "node", "--out", out, "--", bundle], made),
        "export": (["--student", student, *part, "--out", out], made),
        "student": (["--student", f"./{bundle} student", *part], ""),
        "prompts": (["run", "--prompts", f"./{bundle} prompts", "-o", "p.png", "--", bundle], ""),
    }


def list_attempts(rng: random.Random, verbs: Sequence[str]) -> Iterator[tuple[str | bytes, str]]:
    """Names with a verb each, without end."""
    while True:
        pairs = [(name, verb) for name in (*GOOD, *BAD) for verb in verbs if (name, verb) != ("{index}", "run")]  # a field there
        rng.shuffle(pairs)
        yield from pairs


def attempt(name: str | bytes, verb: str, inputs: Inputs, known: dict[str, dict[str, str]], world: Path) -> tuple[str, str]:
    """Outcome and what was seen."""
    is_good = name in GOOD
    is_refused = (verb == "student" and any(letter in os.fsdecode(name) for letter in "\n\t\x7f\x1b")) or (name, verb) == (
        "~tilde",
        "export",
    )
    spelt = os.fsdecode(name)
    if is_good:
        shutil.copytree(inputs.bundle, world / spelt)
        if verb == "student":
            shutil.copytree(inputs.student, world / f"{spelt} student")
        (world / f"{spelt} prompts").write_text("a red circle\n", "utf-8")
    typed, made = list_commands(spelt, inputs)[verb]
    before = _list_all(world)
    outcome, seen = run_loaded(
        Fault("name", [os.fsencode(each) for each in typed], (0, 1) if is_good and not is_refused else (0, 2, 3)), world
    )
    after = _list_all(world)
    lost = {path for path in before if before[path] != after.get(path) and not path.endswith(("report.json", "report.html"))}
    if lost:
        return LOST, f"{sorted(lost)[:3]}; {seen}"
    if not is_good or is_refused:  # no bundle comes of a name that cannot be printed; ~ in a new name is a home
        return outcome, seen
    if outcome not in (RIGHT, "gate"):
        return (WRONG if outcome == CLEAN else outcome), seen
    if ESCAPE in world.with_name(f"{world.name}.err").read_text("utf-8", "replace"):
        return WRONG, f"the name steers the terminal: {seen!r}"
    if made and not (world / made).exists():
        return WRONG, f"no {made!r}: {seen}"
    parts = [path.name for path in world.rglob("*") if ".part" in path.name and path.name != "a.part" and spelt != "a.part"]
    if parts:
        return WRONG, f"litter: {parts[:3]}"
    files = _list_exact(world / made) if verb in ("run", "pack", "export") else {}
    if known.setdefault(verb, files) != files:
        return WRONG, f"other files than under another name: {seen}"
    return RIGHT, seen


def _list_all(folder: Path) -> dict[str, str]:
    """Hashes of all files, by path; links are none."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return {path.relative_to(folder).as_posix(): hash_file(path) for path in paths}


def _list_exact(path: Path) -> dict[str, str]:
    """Likewise of what does not depend on its name."""
    return {"": hash_file(path)} if path.is_file() else _list_all(path)


def run(count: int, seed: int, tally: Tally) -> None:
    """Type `count` commands."""
    with tempfile.TemporaryDirectory(prefix="names-") as temporary:
        base = Path(temporary)
        load_command()
        inputs = read_inputs(run_forked(functools.partial(describe_all, base), 600, 16))
        known: dict[str, dict[str, str]] = {}
        rng, verbs = random.Random(seed), list(list_commands("", inputs))
        for i, (name, verb) in zip(range(count), list_attempts(rng, verbs), strict=False):
            world = base / f"world-{i}"
            world.mkdir()
            outcome, seen = attempt(name, verb, inputs, known, world)
            tally.add(verb, outcome, f"{seed}-{i} {json.dumps(os.fsdecode(name))[:60]}: {seen[:LINE]}")
            shutil.rmtree(world, ignore_errors=True)
