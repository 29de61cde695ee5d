"""Damaged Core ML packages whose bundle says they are whole: the package's own reader is attacked.

A file of a small package is changed (bits, cuts, numbers in the protobuf, the manifest's nesting, links), the hash in bundle.json
is not in the way, and the checker opens it and runs. It ends right, or in one line; a wrong result is allowed, for the hash that
would have told is bypassed.
"""

from __future__ import annotations

import functools
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sprint_export.libraries import hush
from sprint_export.runtimes.coreml.mil.evaluate import Evaluator
from sprint_export.runtimes.coreml.mil.program import find_model, read_model
from tests.attack.forks import run_forked
from tests.attack.outcomes import CLEAN, HANG, OUTSIDE, RIGHT, SIGNAL, TRACEBACK, Tally
from tests.runtimes.coreml.mil.mil_programs import list_operations, save_module
from tests.runtimes.coreml.mil.toy_module import Toy, draw_input

NAME = "damaged Core ML packages"
SECONDS = 20.0
NUMBERS = (0, 1, -1, 2, 63, 2**31 - 1, 2**31, 2**40, 2**62, 2**64 - 1)
Mutation = Callable[[Path, random.Random], str]


def _pick(package: Path, dice: random.Random) -> Path:
    return dice.choice(sorted(path for path in package.rglob("*") if path.is_file()))


def flip_bits(package: Path, dice: random.Random) -> str:
    """One to eight bits of one file."""
    path = _pick(package, dice)
    data = bytearray(path.read_bytes())
    places = [dice.randrange(len(data)) for _ in range(dice.randint(1, 8))]
    for place in places:
        data[place] ^= 1 << dice.randrange(8)
    path.write_bytes(data)
    return f"{path.name} bits at {places}"


def cut_file(package: Path, dice: random.Random) -> str:
    """A file ends early, or a piece is missing from its middle, or stands twice."""
    path = _pick(package, dice)
    data = path.read_bytes()
    start, end = sorted(dice.randrange(len(data) + 1) for _ in range(2))
    path.write_bytes(dice.choice([data[:start], data[:start] + data[end:], data[:end] + data[start:]]))
    return f"{path.name} cut {start}:{end}"


def remove_file(package: Path, dice: random.Random) -> str:
    """A file is gone, or a folder stands in its place."""
    path = _pick(package, dice)
    path.unlink()
    if dice.random() < 0.5:
        path.mkdir()
    return f"{path.name} removed"


def edit_manifest(package: Path, dice: random.Random) -> str:
    """Manifest.json in other forms."""
    path = package / "Manifest.json"
    held = json.loads(path.read_text())
    root = held["rootModelIdentifier"]
    place: Any = dice.choice(
        ["", ".", "..", "../../..", "/etc/passwd", "com.apple.CoreML", "x" * 5000, "\x00", "\ud800", 7, None, [], {}]
    )
    forms = [
        "[" * 100_000,
        '{"a":' * 100_000,
        "null",
        "[]",
        json.dumps(held | {"itemInfoEntries": {root: {"path": place}}}),
        json.dumps(held | {"rootModelIdentifier": dice.choice([None, 3, [], {}, "other"])}),
        json.dumps(held | {"itemInfoEntries": dice.choice([None, 3, [], "x", {root: None}, {root: "x"}])}),
        "1" * 10_000,
    ]
    path.write_bytes(dice.choice(forms).encode("utf-8", "surrogatepass"))
    return f"Manifest.json is {path.read_bytes()[:60]!r}"


def link_outside(package: Path, dice: random.Random) -> str:
    """A file becomes a link to a whole copy of it outside, to a device, or to itself."""
    path = _pick(package, dice)
    outside = package.parent / "outside" / path.name
    outside.parent.mkdir(exist_ok=True)
    shutil.copyfile(path, outside)
    os.utime(outside, (0, 0))
    path.unlink()
    target = dice.choice([str(outside), "/dev/zero", path.name])
    path.symlink_to(target)
    return f"{path.name} links to {target}"


def edit_program(package: Path, dice: random.Random) -> str:
    """One field of the protobuf takes a value of its type that does not belong there."""
    model, file = read_model(package), find_model(package)
    operations = list_operations(model)
    op = dice.choice(list(operations))
    edits: dict[str, Callable[[], None]] = {
        "type": functools.partial(setattr, op, "type", dice.choice(["", "x", "const", "while_loop", "conv"]))
    }
    for output in op.outputs:
        tensor = output.type.tensorType
        edits["rank"] = functools.partial(setattr, tensor, "rank", dice.choice(NUMBERS[:7]))
        edits["dtype"] = functools.partial(setattr, tensor, "dataType", dice.choice([0, 1, 2, 10, 11, 12, 23, 25, 999]))
        if tensor.dimensions:
            size = abs(dice.choice(NUMBERS))
            edits["size"] = functools.partial(setattr, dice.choice(list(tensor.dimensions)).constant, "size", size)
    for literal in op.attributes.values():
        if literal.WhichOneof("value") == "blobFileValue":
            edits["offset"] = functools.partial(setattr, literal.blobFileValue, "offset", abs(dice.choice(NUMBERS)))
            name = dice.choice(
                ["", "@model_path/weights/../x", "@model_path/weights/", "/etc/passwd", "@model_path/weights/\x00"]
            )
            edits["file"] = functools.partial(setattr, literal.blobFileValue, "fileName", name)
        else:
            tensor = literal.immediateValue.tensor
            edits["ints"] = functools.partial(tensor.ints.values.extend, [1, 2])
            edits["bytes"] = functools.partial(setattr, tensor.bytes, "values", b"\x01")
    for argument in op.inputs.values():
        if argument.arguments:
            edits["operand"] = functools.partial(
                setattr, argument.arguments[0], "name", dice.choice(["", "x", op.outputs[0].name])
            )
            edits["no operand"] = functools.partial(argument.ClearField, "arguments")
    what = dice.choice(sorted(edits))
    name = op.outputs[0].name if op.outputs else ""
    edits[what]()
    file.write_bytes(model.SerializeToString())
    return f"{what} of {name}"


MUTATIONS: dict[str, tuple[Mutation, int]] = {  # with weights
    "bits": (flip_bits, 4),
    "cuts": (cut_file, 2),
    "removals": (remove_file, 1),
    "manifest": (edit_manifest, 2),
    "links": (link_outside, 1),
    "program": (edit_program, 6),
}


def run(count: int, seed: int, tally: Tally) -> None:
    """The campaign as benchmarks/attack.py runs it."""
    with tempfile.TemporaryDirectory() as folder, hush():
        healthy = Path(folder) / "healthy.mlpackage"
        save_module(healthy, Toy(), (draw_input(),), "FLOAT16")
        open_and_run(healthy)
        kinds, weights = list(MUTATIONS), [weight for _, weight in MUTATIONS.values()]
        for number in range(count):
            dice = random.Random(f"{seed} {number}")
            kind = dice.choices(kinds, weights)[0]
            work = Path(folder) / str(number)
            package = Path(shutil.copytree(healthy, work / "model.mlpackage"))
            said = MUTATIONS[kind][0](package, dice)
            ended = run_forked(functools.partial(open_and_run, package), SECONDS)
            outside = [path for path in (work / "outside").glob("*") if path.stat().st_atime > 0]
            names = {"returned": RIGHT, "clean": CLEAN, "traceback": TRACEBACK, "signal": SIGNAL, "hang": HANG}
            outcome = OUTSIDE if outside else names[ended.kind]
            tally.add(kind, outcome, f"number {number}: {said}: {ended.text}")
            shutil.rmtree(work)


def open_and_run(package: Path) -> str:
    """What the checker's session does with a package."""
    (found,) = Evaluator(package).run({"x": draw_input().numpy()}).values()
    return f"{float(np.abs(found).max()):.3g}"
