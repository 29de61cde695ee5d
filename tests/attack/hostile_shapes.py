"""Campaign: bundles of every shape, altered and signed again with their app.json, under every verb, as it is typed.

    shapes   --dynamic, --steps, --batch, --layout, ControlNet, image-to-image, 4 bits, for browsers, for GPUs, packed, one graph
    what     graphs (graph_mutations.py), the manifest, app.json, what reference/ says, stages, text that no writer makes
Right: one line and a status that README names, or it ends well; no traceback, no hang, no memory beyond MOST_MB, no read outside.
What was not signed draws the undisturbed picture or is refused.
"""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from sprint_export.bundle_files import APP, MANIFEST, REFERENCE
from tests.attack import bundle_mutations, file_mutations
from tests.attack.bundle_mutations import sign
from tests.attack.forks import Ended, run_forked, was_read, watch_reads
from tests.attack.graph_mutations import alter_graph
from tests.attack.machine_faults import Fault
from tests.attack.outcomes import HANG, OUTSIDE, RIGHT, WRONG, Tally, judge
from tests.attack.verb_faults import Inputs, describe_all, load_command, read_inputs, run_loaded
from tests.students.sana_sprint.test_controlnet import make_controlnet

NAME = "hostile shapes"
GIGABYTES = 16.0
MOST_MB, MOST_S = 3000.0, 120.0  # of a command, the libraries among it; the machine may have other work
STATUSES = (0, 1, 2, 3)
PROMPT = "a red circle"
VERBS_EACH = 3
SERVE = "serve"  # which does not end: opened as it opens one, by its function
Value = Any


@dataclass(frozen=True)
class Shape:
    """A kind of bundle: the target, what else `convert` takes, how it is packed, and what `run` takes."""

    target: str
    options: Mapping[str, Any] = field(default_factory=dict)
    is_controlled: bool = False
    packing: Mapping[str, Any] = field(default_factory=dict)
    draws: Sequence[str] = ()


SHAPES: Mapping[str, Shape] = {
    "dynamic": Shape("onnx-fp32", {"dynamic": True}, draws=("--height", "96", "--width", "32")),
    "steps": Shape("onnx-int8", {"steps": (1, 2, 4)}, draws=("--steps", "2")),
    "batch": Shape("onnx-int8", {"batch": 2}),
    "control": Shape("onnx-fp32", {"steps": (1, 2)}, is_controlled=True, draws=("--control", "given.png")),
    "image": Shape("onnx-fp32", {"steps": 2, "image_to_image": True}, draws=("--image", "given.png")),
    "w4a16": Shape("onnx-w4a16"),
    "web": Shape("web-int8"),
    "gpu": Shape("gpu-int8"),
    "trt": Shape("trt-int8"),
    "layout": Shape("openvino-fp16", {"layout": "optimum"}),
    "one graph": Shape("onnx-fp32", packing={"destination": "node", "one_graph": True}),
    "packed": Shape("web-w4a16", packing={"destination": "web"}),
}


def make_shape(shape: Shape, inputs: Inputs, folder: Path) -> str:
    """A bundle of that shape, of the made student."""
    from sprint_export.conversion import convert
    from sprint_export.packing import pack_bundle
    from tests.made_student import PROMPTS

    asked = {**shape.options, **({"controlnet": inputs.bundle.parent / "control"} if shape.is_controlled else {})}
    made = folder.with_name(f"{folder.name} before") if shape.packing else folder
    convert(str(inputs.student), shape.target, made, prompts=PROMPTS, validate=False, **asked)
    if shape.packing:
        pack_bundle(made, out=folder, **shape.packing)
        shutil.rmtree(made)
    return ""


# ---- what is altered


def edit_app(folder: Path, rng: Random, outside: Path) -> str:
    """One to three fields of app.json."""
    return _edit(folder / APP, rng)


def edit_reference(folder: Path, rng: Random, outside: Path) -> str:
    """Likewise of what reference/ says."""
    return _edit(folder / REFERENCE, rng)


def _edit(path: Path, rng: Random) -> str:
    if not path.exists():
        return "nothing"
    value = json.loads(path.read_text("utf-8"))
    said = [file_mutations.alter_value(value, rng) for _ in range(rng.choice([1, 1, 2, 3]))]
    path.write_text(json.dumps(value), "utf-8", errors="surrogatepass")
    return f"{path.name}: {'; '.join(said)}"


def edit_texts(folder: Path, rng: Random, outside: Path) -> str:
    """Text that no writer of JSON makes, in the manifest, app.json, the reference or the tokenizer."""
    paths = [path for path in (folder / MANIFEST, folder / APP, folder / REFERENCE) if path.exists()]
    return file_mutations.edit_text(rng.choice(paths), rng, outside)


def edit_graph(folder: Path, rng: Random, outside: Path) -> str:
    """A graph of ONNX, or the text and weights of another."""
    graphs = sorted(folder.rglob("*.onnx"))
    if graphs:
        return alter_graph(rng.choice(graphs), rng)
    return file_mutations.edit_bytes(rng.choice(sorted(folder.rglob("*.xml")) or [folder / MANIFEST]), rng, outside)


def edit_stages(folder: Path, rng: Random, outside: Path) -> str:
    """Stages that replace each other in a circle, come twice, are missing; names that are one; a million entries."""
    path = folder / MANIFEST
    value = json.loads(path.read_text("utf-8"))
    name = rng.choice(sorted(STAGE_EDITS))
    STAGE_EDITS[name](value, rng)
    path.write_text(json.dumps(value), "utf-8")
    return f"stages: {name}"


def _circle(value: Value, rng: Random) -> None:
    stages = value["chain"]["stages"]
    for stage, other in zip(stages, [*stages[1:], stages[0]], strict=True):
        stage["replaces"] = other["role"]


def _read_own(value: Value, rng: Random) -> None:
    record = rng.choice(value["components"])
    record["inputs"] = [*record["inputs"], *record["outputs"]]
    for part in record["parts"]:
        part["inputs"] = record["inputs"]


def _size(value: Value, rng: Random) -> None:
    size = rng.choice([0, -1, 2**63, 2**63 - 1, 1e300, "0*height", "9" * 400 + "*height", "height*width", None, [1]])
    spec = rng.choice([spec for record in value["components"] for side in ("inputs", "outputs") for spec in record[side]])
    spec["shape"] = [size, *spec["shape"][1:]] if rng.random() < 0.5 else [*spec["shape"][:-1], size]


def _repeat(value: Value, rng: Random) -> None:
    key = rng.choice(["artifacts", "components", "latent_shape"])
    value[key] = value[key] * rng.choice([2, 1000])


def _everywhere(value: Value, rng: Random) -> None:
    """The same size of every spec, as one who means it would write it."""
    old, new = rng.choice([16, 64, 4, 300]), rng.choice([0, -1, 1, 2**20, 2**31, 2**40])
    for key in ("components", "latent_shape"):
        value[key] = json.loads(json.dumps(value[key]).replace(f"{old},", f"{new},").replace(f"{old}]", f"{new}]"))


STAGE_EDITS: Mapping[str, Callable[[Value, Random], object]] = {
    "a circle": _circle,
    "twice": lambda value, rng: value["chain"]["stages"].append(value["chain"]["stages"][0]),
    "one gone": lambda value, rng: value["chain"]["stages"].pop(rng.randrange(len(value["chain"]["stages"]))),
    "all gone": lambda value, rng: value["chain"].update(stages=[]),
    "itself": lambda value, rng: value["chain"]["stages"][0].update(replaces=value["chain"]["stages"][0]["role"]),
    "all optional": lambda value, rng: [stage.update(optional=True) for stage in value["chain"]["stages"]],
    "turned": lambda value, rng: value["chain"]["stages"].reverse(),
    "each step": lambda value, rng: [stage.update(when="each step") for stage in value["chain"]["stages"]],
    "once": lambda value, rng: [stage.update(when="once") for stage in value["chain"]["stages"]],
    "one name": lambda value, rng: value["chain"].update(names=dict.fromkeys(value["chain"]["names"], "image")),
    "reads its own": _read_own,
    "a size": _size,
    "repeated": _repeat,
    "a size everywhere": _everywhere,
    "options": lambda value, rng: value.update(
        options=rng.choice([{}, {"dynamic": True}, {"batch": 2**40}, {"batch": -1}, {"x": 1}])
    ),
    "a million notes": lambda value, rng: value["components"][0].update(notes=["x"] * 1_000_000),
    "a million layers": lambda value, rng: value["components"][0].update(precision_counts={f"x{i}": 1 for i in range(300_000)}),
    "counts": lambda value, rng: value["plan"].update(counts=rng.choice([[0], [-1], [2**63 - 1], [1, 1], [5], [4, 4, 4, 4]])),
}

EDITS: tuple[tuple[str, Callable[[Path, Random, Path], str], int], ...] = (
    ("graph", edit_graph, 10),
    ("app.json", edit_app, 5),
    ("reference", edit_reference, 3),
    ("stages", edit_stages, 6),
    ("manifest", bundle_mutations.edit_field, 4),
    ("text", edit_texts, 3),
    ("link, FIFO or folder", bundle_mutations.put_link, 2),
)
NOT_SIGNED = ("text", "link, FIFO or folder")


def sign_all(folder: Path) -> None:
    """Sizes and hashes in app.json fit what lies there, then those of the manifest; both stay what they otherwise are."""
    path = folder / APP
    try:
        value = json.loads(path.read_text("utf-8"))
        for entry in value["files"]:
            data = (folder / entry["path"]).read_bytes()
            entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        path.write_text(json.dumps(value), "utf-8", errors="surrogatepass")
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        pass  # it is no such file any more
    sign(folder)


# ---- what is done with it


def list_verbs(bundle: str, shape: Shape, inputs: Inputs) -> dict[str, list[str]]:
    """Every verb that takes a bundle, by name."""
    student = ["--student", str(inputs.student)]
    controls = ["--controlnet", str(inputs.bundle.parent / "control")] if shape.is_controlled else []
    return {
        "inspect": ["inspect", bundle],
        "inspect --layers": ["inspect", bundle, "--layers", "--json"],
        "inspect --recipe": ["inspect", bundle, "--recipe"],
        "run": ["run", bundle, PROMPT, "-o", "x.png"],
        "run with more": ["run", bundle, PROMPT, "-o", "y.png", *shape.draws],
        "check": ["check", bundle],
        "validate --reference": ["validate", bundle, "--reference", "--out", "d.json"],
        "validate": ["validate", bundle, *student, *controls, "--count", "2", "--allow-undecided"],
        "bench": ["bench", bundle, "--runs", "1", "--cold-starts", "0"],
        "compare": ["compare", bundle, *student, "--count", "1", "--allow-undecided"],
        "plan": ["plan", bundle, "--device", "rtx-4090,cpu"],
        "pack": ["pack", bundle, "--for", "web" if "web" in shape.target else "node", "--out", "packed"],
        "pack --one-graph": ["pack", bundle, "--for", "cpp", "--one-graph", "--out", "packed"],
        "demo": ["demo", bundle, "--out", "site", "--node-modules", str(inputs.bundle.parent)],
        "build": ["build", bundle, "--device", "rtx-5090"],
        "report": ["report", bundle],
        "report --merge": ["report", "--merge", bundle, str(inputs.result)],
        SERVE: [bundle],
    }


def attack_one(base: Path, name: str, right: str, inputs: Inputs, rng: Random, tally: Tally) -> None:
    """Alter a copy, and type some verbs."""
    shape, work = SHAPES[name], base / "work"
    shutil.rmtree(work, ignore_errors=True)
    folder, outside = work / "bundle", work / "outside"
    shutil.copytree(base / name, folder)
    outside.mkdir()
    (outside / "secret").write_text('{"secret": 1}')
    kind, edit, _ = rng.choices(EDITS, [weight for _, _, weight in EDITS])[0]
    said = edit(folder, rng, outside)
    is_signed = kind not in NOT_SIGNED
    if is_signed:
        sign_all(folder)
    verbs = list_verbs(str(folder), shape, inputs)
    for verb in ["run", *rng.sample(sorted(set(verbs) - {"run"}), VERBS_EACH)]:
        watch_reads(outside)
        world = work / verb
        world.mkdir()
        shutil.copyfile(base / "given.png", world / "given.png")
        fault = Fault("hostile", verbs[verb], STATUSES)
        outcome, seen, ended = type_verb(fault, world)
        if was_read(outside):
            outcome = OUTSIDE
        elif ended.megabytes > MOST_MB:
            outcome, seen = HANG, f"{ended.megabytes:.0f} MB: {seen}"
        elif verb == "run" and outcome == RIGHT and not is_signed and hash_picture(world / "x.png") != right:
            outcome = WRONG
        tally.add(f"{verb}: {kind}", outcome, f"{name}, {said} -> {seen[:600]}")


def type_verb(fault: Fault, world: Path) -> tuple[str, str, Ended]:
    """The outcome of a command, what was seen, and how its process ended."""
    if len(fault.arguments) == 1:
        ended = run_forked(functools.partial(_open_service, Path(str(fault.arguments[0]))), MOST_S, GIGABYTES)
        return judge(ended.kind, ended.text), f"{ended.kind} {ended.text}", ended
    ends: list[Ended] = []
    outcome, seen = run_loaded(fault, world, ends.append)
    return outcome, seen, ends[0]


def _open_service(folder: Path) -> str:
    from sprint_export.server import Settings
    from sprint_export.server.listening import make_service

    make_service(folder, Settings())
    return ""


def hash_picture(path: Path) -> str:
    """Of its pixels; "" where there is none."""
    if not path.exists():
        return ""
    with Image.open(path) as picture:
        return hashlib.sha256(np.asarray(picture).tobytes()).hexdigest()


def prepare(base: Path, names: Sequence[str]) -> tuple[Inputs, dict[str, str]]:
    """Inputs, a bundle of each shape below `base`, and the picture that each draws."""
    load_command()
    (base / "inputs").mkdir()
    inputs = read_inputs(run_forked(functools.partial(describe_all, base / "inputs"), 600, GIGABYTES))
    make_controlnet().save_pretrained(base / "inputs" / "control")
    Image.fromarray(np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)).save(base / "given.png")
    pictures = {}
    for name in names:
        ended = run_forked(functools.partial(make_shape, SHAPES[name], inputs, base / name), 600, GIGABYTES)
        assert (ended.kind, ended.text) == ("returned", ""), f"{name}: {ended}"
        pictures[name] = _draw_first(base, name, inputs)
    return inputs, pictures


def _draw_first(base: Path, name: str, inputs: Inputs) -> str:
    """What the undisturbed bundle draws; every verb ends well or is refused for what it is."""
    if SHAPES[name].target.startswith("openvino"):
        return ""  # another program's pipeline draws with it
    for verb in ("run with more", "run"):
        world = base / f"first {name} {verb}"
        world.mkdir()
        shutil.copyfile(base / "given.png", world / "given.png")
        outcome, seen, _ = type_verb(Fault("first", list_verbs(str(base / name), SHAPES[name], inputs)[verb], (0,)), world)
        assert outcome == RIGHT, f"{name}, {verb}: {seen}"
    return hash_picture(world / "x.png")


def run(count: int, seed: int, tally: Tally, names: Sequence[str] = tuple(SHAPES)) -> None:
    """Attack `count` bundles."""
    with tempfile.TemporaryDirectory(prefix="shapes-") as temporary:
        base = Path(temporary)
        inputs, pictures = prepare(base, names)
        for i in range(count):
            rng = Random(f"{seed}-{i}")
            attack_one(base, names[i % len(names)], pictures[names[i % len(names)]], inputs, rng, tally)
