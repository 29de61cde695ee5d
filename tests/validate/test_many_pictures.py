"""A validation of more pictures than stay in memory: they lie on a disk, drawn in portions, and its figures are the same."""

from __future__ import annotations

import shutil
from collections import namedtuple
from collections.abc import Sequence
from pathlib import Path

import pytest

from sprint_export.errors import InputError, MachineError
from sprint_export.nouns.report import Report
from sprint_export.nouns.student import Student
from sprint_export.progress import Progress, Step, quiet
from sprint_export.prompt_reader import PromptReader
from sprint_export.validate import inquiry, portions, validate_bundle
from sprint_export.validate.kept import Kept
from sprint_export.validate.portions import LaterDraws, make_draws, plan_portions
from sprint_export.validate.reference_cache import KIND
from sprint_export.validate.rows import Array
from sprint_export.validate.side_by_side import UNFINISHED

COUNT, FIRST, AT_ONCE = 8, 3, 2  # pictures, those of the first look, and those of a portion
PICTURES = [f"a {size} {color} circle" for size in ("small", "large") for color in ("red", "green", "blue", "red")]
Usage = namedtuple("Usage", "total used free")

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def folder(made_bundle: Path) -> Path:
    return made_bundle


@pytest.fixture
def few_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inquiry, "LOOKS", (FIRST, 512))


@pytest.fixture
def on_disk(few_looks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are too many for memory, and prompts for one portion."""
    monkeypatch.setattr(portions, "HELD_BYTES", 0)
    monkeypatch.setattr(portions, "MOST_AT_ONCE", AT_ONCE)


def validate(folder: Path, student: Student, progress: Progress = quiet) -> Report:
    return validate_bundle(folder, student, PICTURES, progress)


def describe(report: Report) -> dict[str, object]:
    """All that no clock decides."""
    rows = [row for row in report.rows if "latency" not in row.metric]
    return {"rows": rows, "pictures": report.pictures, "blocks": report.blocks, "unchecked": report.unchecked}


def test_figures_and_pages_are_those_of_pictures_in_memory(
    folder: Path, made: Student, few_looks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = validate(folder, made)
    pages = [(folder / name).read_bytes() for name in ("contact_sheet.png", "report.html")]
    monkeypatch.setenv("SPRINT_EXPORT_CACHE", str(tmp_path / "another"))
    monkeypatch.setattr(portions, "HELD_BYTES", 0)
    monkeypatch.setattr(portions, "MOST_AT_ONCE", AT_ONCE)
    told: dict[str, list[tuple[int, int]]] = {}
    kept = validate(folder, made, lambda step, done, total: told.setdefault(str(step), []).append((done, total)))
    assert describe(kept) == describe(held)
    assert (folder / "contact_sheet.png").read_bytes() == pages[0]
    pictures = [page.count(b"data:image/png") for page in (pages[1], (folder / "report.html").read_bytes())]
    assert pictures[0] == pictures[1] == 3 * COUNT
    timed = {(row.metric, row.component) for row in held.rows if "latency" in row.metric}
    assert {(row.metric, row.component) for row in kept.rows if "latency" in row.metric} == timed
    (disk,) = [name for name in told if name.startswith("disk: ")]
    assert list(told)[1] == disk, "behind the check of the files, before anything is drawn"
    decoded = told["exported: vae_decoder"]
    assert decoded == sorted(decoded)
    assert decoded[-1] == (COUNT, COUNT)
    assert {total for _, total in decoded} == {FIRST, COUNT}, "a chunk is told as one stage, not each portion"
    files = [path for path in Kept(KIND).folder.rglob("*") if path.is_file()]
    assert len(files) == COUNT, "the reference stays for the next validation"
    assert not Kept(UNFINISHED).folder.exists(), "and nothing else"


@pytest.mark.parametrize("stage", ["PyTorch reference: pictures", "exported: transformer"])
def test_a_killed_validation_draws_only_what_is_missing(folder: Path, made: Student, on_disk: None, stage: str) -> None:
    told: list[tuple[str, int, int]] = []

    def kill(step: Step, done: int, total: int) -> None:
        if (str(step), done, total) == (stage, FIRST + 2 + 1, COUNT):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        validate(folder, made, kill)
    results = [path for path in Kept(UNFINISHED).folder.rglob("*") if path.is_file()]
    assert len(results) == (FIRST if "reference" in stage else FIRST + 2), "of whole portions; what their networks gave is gone"
    again = validate(folder, made, lambda step, done, total: told.append((str(step), done, total)))
    drawn = [done for name, done, _ in told if name == "exported: transformer" and done > FIRST]
    assert min(drawn) == (FIRST + 1 if "reference" in stage else FIRST + 2), "where the first portion that is missing begins"
    assert len([name for name, *_ in told if name == "PyTorch reference: pictures"]) <= (1 + 2 + 1 if "reference" in stage else 0)
    whole = validate(folder, made)
    assert describe(whole) == describe(again)


def test_disks_that_are_too_small_are_refused_before_anything_is_drawn(
    folder: Path, made: Student, on_disk: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**6, 0, 30_000))
    with pytest.raises(MachineError, match=r"the pictures of 8 prompts take 0.00 GB of the disk at .*or draw fewer \(--count\)"):
        validate(folder, made, lambda step, done, total: told.append(str(step)))
    assert not [name for name in told if "reference" in name or "exported" in name]


def test_pictures_that_are_there_take_no_more_room(
    folder: Path, made: Student, on_disk: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference's, of another validation: they are counted only where room is short."""
    validate(folder, made)
    needed = plan_portions_of(folder).count_bytes(2)
    there = sum(path.stat().st_size for path in Kept(KIND).folder.rglob("*") if path.is_file())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 0, needed - there))
    assert validate(folder, made).prompts == COUNT


def test_a_cache_that_cannot_be_written_is_refused(
    folder: Path, made: Student, on_disk: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPRINT_EXPORT_CACHE", "/dev/null/x")
    with pytest.raises(MachineError, match=r"kept at /dev/null/x, which cannot be written to; .*SPRINT_EXPORT_CACHE"):
        validate(folder, made)


def test_a_prompt_that_cannot_be_read_is_refused_before_anything_is_drawn(
    folder: Path, made: Student, on_disk: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    original = PromptReader.read

    def read(self: PromptReader, prompts: Sequence[str]) -> tuple[Array, Array]:
        if PICTURES[-1] in prompts:
            raise InputError("too long")
        return original(self, prompts)

    monkeypatch.setattr(PromptReader, "read", read)
    with pytest.raises(InputError, match="too long"):
        validate(folder, made, lambda step, done, total: told.append(str(step)))
    assert not [name for name in told if "reference" in name or "exported" in name]


def plan_portions_of(folder: Path) -> portions.Portions:
    from sprint_export.export.bundle import read_bundle

    return plan_portions(read_bundle(folder), COUNT)


def test_portions_are_as_large_as_memory_allows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = plan_portions_of(folder)
    assert not found.is_kept
    assert found.row_bytes == 64 * 64 * 3 + 4 * 4 * 16 * 16
    assert found.at_once == portions.MOST_AT_ONCE
    monkeypatch.setattr(portions, "PORTION_BYTES", 5 * (found.handed_bytes + 2 * found.row_bytes) + 1)
    found = plan_portions_of(folder)
    assert found.at_once == 5
    assert found.split(range(3, 14)) == [range(3, 8), range(8, 13), range(13, 14)]
    monkeypatch.setattr(portions, "PORTION_BYTES", 1)
    assert plan_portions_of(folder).at_once == 1


def test_draws_of_a_portion_are_those_of_all(made: Student) -> None:
    from sprint_export.specialize import specialize_student

    specialized = specialize_student(made)
    later, whole = (
        LaterDraws(specialized, specialized.components, PICTURES),
        make_draws(specialized, specialized.components, PICTURES),
    )
    for places in (range(8), range(2, 5), [7, 0, 3]):
        part = later.take(places) if isinstance(places, range) else later.pick(places)
        wanted = whole.take(list(places))
        assert list(part.prompts) == list(wanted.prompts)
        assert (part.noise == wanted.noise).all()
