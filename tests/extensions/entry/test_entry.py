"""A kind of entry in one file: found, opened, drawn and ranked, with no edit anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sprint_export.validate.comparing.entries
from sprint_export.nouns.student import Student
from sprint_export.registry import list_members
from sprint_export.validate.comparing.compare import compare_entries
from tests.made_student import PROMPTS

ROOM = Path(__file__).parent / "entries"


@pytest.fixture(scope="module", autouse=True)
def _room() -> Iterator[None]:
    """As if the folder lay in validate/comparing/entries."""
    places = sprint_export.validate.comparing.entries.__path__
    places.append(str(ROOM))
    list_members.cache_clear()
    yield
    places.remove(str(ROOM))
    list_members.cache_clear()
    sys.modules.pop("sprint_export.validate.comparing.entries.mirror", None)


def test_a_new_kind_takes_one_file(made: Student, tmp_path: Path) -> None:
    folder = tmp_path / "glass"
    folder.mkdir()
    (folder / "mirror.txt").write_text("12345")
    found = compare_entries({"glass": folder}, tmp_path / "out", made, prompts=PROMPTS[:2])
    (entry,) = found.entries
    assert (entry.kind, entry.description, entry.value("blank_pictures")) == ("a mirror", "mirror", 0)
    assert entry.value("disk_mb") == 5e-6
    assert 0 < (entry.value("psnr_db") or 0) < 20
