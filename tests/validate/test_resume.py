"""A validation that is killed goes on where it was; larger pictures are drawn in fewer passes that tell the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sprint_export.nouns.report import Report
from sprint_export.nouns.student import Student
from sprint_export.progress import Progress, Step, quiet
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.runtimes.onnx_cpu.runtime import OnnxRuntimeSession
from sprint_export.validate import drawing, kept, validate_bundle
from sprint_export.validate.blocks.compare import Found as Blocks
from sprint_export.validate.kept import Kept
from sprint_export.validate.pace import Pace
from sprint_export.validate.reference_cache import KIND
from sprint_export.validate.side_by_side import UNFINISHED
from tests.bundles import read_rows
from tests.made_student import PROMPTS
from tests.tree import ROLES

PICTURES = (*PROMPTS, "a small blue circle")
OUTPUTS = {"prompt_embeds": "text_encoder", "denoised": "transformer", "image": "vae_decoder"}
COLORS = ("red", "green", "blue")
STAGES = {
    "PyTorch reference: pictures": 1,
    "exported: transformer": 2,
    "exported: vae_decoder": 1,
    "torch, rounded: vae_decoder": 0,
}

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def folder(made_bundle: Path) -> Path:
    return made_bundle


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, str]]:
    """How often networks ran, by side and role; what they give is worth keeping, and pictures are taken for large ones."""
    counted: Counter[tuple[str, str]] = Counter()
    for side, session in (("torch", TorchSession), ("onnx", OnnxRuntimeSession)):
        original: Any = session.run

        def run(self: Any, feeds: Any, side: str = side, original: Any = original) -> Any:
            result = original(self, feeds)
            counted[side, OUTPUTS[next(iter(result))]] += 1
            return result

        monkeypatch.setattr(session, "run", run)
    monkeypatch.setattr(kept, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(drawing, "SMALL_PICTURE", 0)
    monkeypatch.setattr(drawing, "compare_blocks", lambda *asked: Blocks())  # runs torch once more, and keeps nothing
    return counted


def validate(folder: Path, student: Student, progress: Progress = quiet, count: int = 3) -> Report:
    return validate_bundle(folder, student, PICTURES, progress, count=count)


def values(report: Report) -> dict[tuple[str, str], float]:
    """All that no clock decides."""
    return {(row.component, row.metric): row.value for row in report.rows if "latency" not in row.metric}


@pytest.mark.parametrize(("stage", "done"), STAGES.items())
def test_a_killed_validation_draws_only_the_rest(
    folder: Path, made: Student, calls: Counter[tuple[str, str]], stage: str, done: int
) -> None:
    told: dict[str, int] = {}

    def kill(step: Step, number: int, total: int) -> None:
        if (str(step), number) == (stage, done):
            raise KeyboardInterrupt

    def note(step: Step, number: int, total: int) -> None:
        told[str(step)] = total

    with pytest.raises(KeyboardInterrupt):
        validate(folder, made, kill)
    before = Counter(calls)
    again = validate(folder, made, note)
    assert not Kept(UNFINISHED).folder.exists(), "nothing but the reference stays once there is a report"
    assert calls == {("onnx", role): 3 for role in ROLES} | {("torch", role): 1 for role in ROLES}, "no network ran twice"
    assert sum(before.values()) < sum(calls.values())
    if "reference" in stage:
        assert told[stage] == 2, "the first picture was kept"
        assert "PyTorch reference: prompts" in told
    else:
        assert not [name for name in told if "reference" in name]
    whole = validate(folder, made)
    assert values(whole) == values(again), "a picture that was kept is the picture"
    timed = {row.component: row.metric for row in whole.rows if row.metric == "latency_p50_ms"}
    assert set(timed) == set(ROLES), "a finished validation keeps nothing of the exported side: its seconds are of this run"


def test_seconds_are_of_this_run(folder: Path, made: Student, calls: Counter[tuple[str, str]]) -> None:
    def kill(step: Step, number: int, total: int) -> None:
        if str(step) == "torch, rounded: text_encoder":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        validate(folder, made, kill)
    report = validate(folder, made)
    assert not [row.metric for row in report.rows if "latency" in row.metric], "all pictures were kept: there is nothing to time"
    assert report.runtime.startswith("ONNX Runtime"), "what ran the networks is kept with what they gave"


def test_a_damaged_file_is_drawn_again(folder: Path, made: Student, calls: Counter[tuple[str, str]]) -> None:
    def kill(step: Step, number: int, total: int) -> None:
        if str(step) == "torch, rounded: text_encoder":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        validate(folder, made, kill, count=1)
    files = [path for kind in (KIND, UNFINISHED) for path in Kept(kind).folder.rglob("*") if path.is_file()]
    assert len(files) == 1 + 1 + 3, "a picture and its prompt of the reference, three networks"
    for path in files:
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    before = Counter(calls)
    damaged = validate(folder, made, count=1)
    assert calls - before == {(side, role): 1 for side in ("onnx", "torch") for role in ROLES}
    assert values(validate(folder, made, count=1)) == values(damaged)


def test_a_larger_count_draws_what_is_new_of_the_reference(folder: Path, made: Student, calls: Counter[tuple[str, str]]) -> None:
    told: dict[str, int] = {}
    validate(folder, made, count=1)
    validate(folder, made, lambda step, number, total: told.update({str(step): total}))
    assert told["PyTorch reference: pictures"] == 2
    assert told["exported: vae_decoder"] == 3
    assert calls["torch", "vae_decoder"] == 2


def test_fewer_passes_tell_the_same(
    folder: Path, made: Student, calls: Counter[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each network exactly the same question is asked on inputs that differ by the converter's error alone."""
    few = validate(folder, made)
    passes = sum(calls.values())
    monkeypatch.undo()
    found = values(few)
    for row in few.rows:
        if row.metric in ("converter_image_psnr_db", "recipe_image_psnr_db"):
            assert "1 picture" in row.note
            assert "fed what the exported one was" in row.note
            assert row.interval is None
    assert passes == 3 * 3 + 3
    many = values(validate(folder, made))
    print({name: (value, many[name]) for name, value in found.items() if many[name] != value})
    for role in ROLES:
        assert abs(found[role, "converter_psnr_db"] - many[role, "converter_psnr_db"]) < 10
    assert found["text_encoder", "converter_relative_error"] <= many["text_encoder", "converter_relative_error"]
    assert {name for name in many if found.get(name) != many[name]} <= {
        *((role, f"converter_{metric}") for role in ROLES for metric in ("psnr_db", "relative_error")),
        ("", "converter_image_psnr_db"),
        ("", "recipe_image_psnr_db"),
        *((role, "departing_blocks") for role in ROLES),  # nobody compared them: `calls` keeps them out
    }
    assert abs(found["", "recipe_image_psnr_db"] - many["", "recipe_image_psnr_db"]) < 10


def test_a_budget_is_held_and_said(
    folder: Path, made: Student, calls: Counter[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that counts networks' runs."""
    prompts = [f"a {size} {color} {shape}" for size in ("small", "large") for color in COLORS for shape in ("circle", "square")]

    class CountingPace(Pace):
        def __post_init__(self) -> None:
            self.clock = lambda: float(sum(calls.values()))
            super().__post_init__()

    monkeypatch.setattr("sprint_export.validate.inquiry.Pace", CountingPace)
    report = validate_bundle(folder, made, prompts, budget="30s")
    # 12 runs of graphs and 3 of torch for the first four, then 3 a picture; PyTorch's own pictures cost nothing here
    assert (report.prompts, report.seconds) == (9, 30)
    rows = read_rows(folder)
    assert rows["", "psnr_db"]["note"] == "exported vs PyTorch float32, mean over 9 pictures"
    low, high = rows["", "psnr_db"]["interval"]
    assert low < rows["", "psnr_db"]["value"] < high
    assert np.isfinite([low, high]).all()
    assert validate_bundle(folder, made, prompts, budget="30s", count=5).prompts == 5, "a count beside it is the most"
    assert validate_bundle(folder, made, prompts, budget="1s").prompts == 4, "four at least"
