"""Campaign: bundles that were altered, by accident or by somebody, are read, drawn with and validated.

What must come out: the undisturbed picture, or one line. Where nobody signed again, another picture is silently wrong; who signs
again is the maker of another bundle, and may have another picture, but no traceback, no hang, no read outside.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from tests.attack.bundle_mutations import ACCIDENTS, LINKS, Mutation, edit_field, sign
from tests.attack.crafted_bundles import CRAFTED
from tests.attack.forks import Ended, run_forked, was_read, watch_reads
from tests.attack.outcomes import CLEAN, GATE, HANG, OUTSIDE, RIGHT, SIGNAL, TRACEBACK, WRONG, Tally

NAME = "mutated bundles"
TARGETS = ("onnx-int8", "onnx-fp32", "openvino-int8", "trt-fp8", "coreml-fp16")
WEIGHTS = (40, 20, 20, 15, 5)  # how often each is attacked; a Core ML picture takes seconds here
LIBRARIES = ("numpy", "torch", "tokenizers", "onnxruntime", "openvino", "coremltools", "safetensors.torch", "rich.console")
PROMPT = "a red circle"
VALIDATED = 15  # every so many-th bundle is validated as well
OTHERS_EVERY = 3  # every so many-th is read by another verb, in turn
SECONDS, GIGABYTES = 120.0, 6.0  # the machine may have other work
NOT_SIGNED = "not signed again"
Act = tuple[str, Callable[[Path], str]]


def run(count: int, seed: int, tally: Tally, targets: Sequence[str] = TARGETS) -> None:
    """Attack `count` bundles of the two-layer student."""
    with tempfile.TemporaryDirectory(prefix="mutated-") as name:
        base = Path(name)
        warm_up()
        right = {target: make_bundle(base / target, target) for target in targets}
        weights = [WEIGHTS[TARGETS.index(target)] for target in targets]
        for i in range(count):
            rng = Random(f"{seed}-{i}")
            target = rng.choices(targets, weights)[0]
            acts: list[Act] = [("inspect", inspect), ("draw", draw)]
            acts += [("validate", validate)] if i % VALIDATED == 0 else []
            acts += [OTHERS[i // OTHERS_EVERY % len(OTHERS)]] if i % OTHERS_EVERY == 1 else []
            attack_one(base, target, right[target], rng, f"{seed}-{i}", tally, acts)


def warm_up() -> None:
    """Import what children need; no session is opened here, because its threads would not survive a fork."""
    for library in (
        *LIBRARIES,
        "sprint_export.validate.bundle",
        "sprint_export.inspection",
        "sprint_export.students.sana_sprint.presets",
    ):
        importlib.import_module(library)


def make_bundle(folder: Path, target: str) -> str:
    """Export the student there; returns the hash of the picture it draws."""
    ended = run_forked(lambda: _convert(folder, target), seconds=400, gigabytes=16)
    assert ended.kind == "returned", ended
    ended = run_forked(lambda: draw(folder), seconds=100, gigabytes=GIGABYTES)
    assert ended.kind == "returned", ended
    return ended.text


def _convert(folder: Path, target: str) -> str:
    from sprint_export.conversion import convert
    from sprint_export.students.sana_sprint.presets import tiny

    convert(tiny(), target, folder, prompts=[PROMPT], validate=False)
    return ""


def draw(folder: Path) -> str:
    """Open a bundle as anybody does; the hash of one picture."""
    from sprint_export.runtimes import open_bundle

    return hashlib.sha256(open_bundle(folder)([PROMPT], seed=1).tobytes()).hexdigest()


def inspect(folder: Path) -> str:
    """What `sprint-export inspect` says, as text that a terminal takes."""
    from sprint_export.export.bundle import read_bundle
    from sprint_export.inspection import describe_bundle

    "\n".join(describe_bundle(read_bundle(folder), True)).encode("utf-8")
    return "read"


def validate(folder: Path) -> str:
    """Beside the student it was made from, on one prompt."""
    from sprint_export.students.sana_sprint.presets import tiny
    from sprint_export.validate import validate_bundle

    return "passed" if validate_bundle(folder, tiny(), [PROMPT]).passed else "gate"


def validate_alone(folder: Path) -> str:
    """Beside what its reference/ holds."""
    from sprint_export.validate.against_reference import validate_against_reference
    from sprint_export.validate.merging.result import format_result

    return format_result(validate_against_reference(folder))[:1]


def check(folder: Path) -> str:
    """Whether it draws its reference here."""
    from sprint_export.runtimes.checking import check_bundle

    return "checked" if check_bundle(folder) else "nothing"


def bench(folder: Path) -> str:
    """Two pictures, and no fresh process."""
    from sprint_export.validate.latency import time_bundle

    return f"{len(time_bundle(folder, 2).rows)} rows"


def plan(folder: Path) -> str:
    """For its own device, by its graphs or its engines' tables."""
    from sprint_export.planning.asking import Wanted, find_bundle, find_devices, plan_devices
    from sprint_export.planning.plan import Question
    from sprint_export.planning.tables import describe_answer

    found = find_bundle(str(folder))
    assert found is not None, "a bundle"
    plans = plan_devices(Wanted(str(folder)), Question(find_devices(found.device)))
    return str(len([line for answer, advices in plans for line in describe_answer(answer, advices)]))


def merge(folder: Path) -> str:
    """A device's result of it, into a page with its reference's pictures."""
    from sprint_export.export.bundle import read_bundle
    from sprint_export.validate.merging.files import write_merged
    from sprint_export.validate.merging.merge import merge_results
    from sprint_export.validate.merging.result import format_result
    from tests.validate.merging.made_results import make_result

    result = folder.parent / "result.json"
    made = dataclasses.replace(make_result("one", read_bundle(folder, verify=False).identity), checks=())
    result.write_text(format_result(made), "utf-8")
    return str(len(write_merged(merge_results(folder, [result]), folder.parent / "merged")))


def compare(folder: Path) -> str:
    """One prompt beside PyTorch."""
    from sprint_export.students.sana_sprint.presets import tiny
    from sprint_export.validate.comparing.compare import compare_entries

    return compare_entries({"it": folder}, folder.parent / "compared", tiny(), prompts=[PROMPT]).entries[0].verdict


OTHERS: tuple[Act, ...] = (
    ("plan", plan),
    ("check", check),
    ("merge", merge),
    ("bench", bench),
    ("reference", validate_alone),
    ("plan", plan),
    ("compare", compare),
)


def choose_attack(rng: Random) -> tuple[str, Mutation, bool]:
    """(its row in the table, the mutation, whether all is signed again)."""
    return rng.choices(
        [
            (f"accident, {NOT_SIGNED}", rng.choice(ACCIDENTS), False),
            (f"edited manifest, {NOT_SIGNED}", edit_field, False),
            ("edited manifest, signed again", edit_field, True),
            ("accident, signed again", rng.choice(ACCIDENTS), True),
            ("link, FIFO or folder", rng.choice(LINKS), False),
            ("crafted, signed again", rng.choice(CRAFTED), True),
        ],
        (28, 12, 25, 15, 12, 8),
    )[0]


def attack_one(base: Path, target: str, right: str, rng: Random, name: str, tally: Tally, acts: Sequence[Act]) -> None:
    """Alter a copy and read, draw and perhaps validate it."""
    attack, mutate, is_signed = choose_attack(rng)
    folder, outside = base / "attacked", base / "outside"
    for place in (folder, outside):
        shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(base / target, folder)
    outside.mkdir()
    (outside / "secret").write_text('{"secret": 1}')
    what = mutate(folder, rng, outside)
    if is_signed:
        sign(folder)
    for verb, act in acts:
        watch_reads(outside)
        ended = run_forked(lambda act=act: act(folder), SECONDS, GIGABYTES)  # type: ignore[misc]
        outcome = judge(ended, verb, right, is_signed)
        if was_read(outside):
            outcome = OUTSIDE
        row = f"{verb}: {attack}"
        if outcome == RIGHT and verb == "draw" and ended.text != right:
            row += ", drew another picture as signed"
        tally.add(row, outcome, f"{name} {target} {what}: {ended.kind} {ended.text[:300]} ({ended.seconds:.1f} s)")


def judge(ended: Ended, verb: str, right: str, is_signed: bool) -> str:
    """The outcome's name."""
    kinds = {"clean": CLEAN, "traceback": TRACEBACK, "signal": SIGNAL, "hang": HANG}
    if ended.kind in kinds:
        return kinds[ended.kind]
    if verb == "draw" and ended.text != right and not is_signed:
        return WRONG
    return GATE if verb == "validate" and ended.text == "gate" else RIGHT
