"""Where figures are kept, what is said when they cannot be, and what killed runs leave there."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from sprint_export.cache import cache_folder, open_cache, write_cached
from sprint_export.errors import MachineError
from tests.test_files import part_of_a_dead_process


def test_the_cache_is_the_homes_unless_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPRINT_EXPORT_CACHE", str(tmp_path / "told"))
    assert cache_folder() == tmp_path / "told"
    monkeypatch.delenv("SPRINT_EXPORT_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "sprint-export"


@pytest.mark.parametrize("home", ["", "relative", None])
def test_a_home_that_is_none_is_the_users_own_and_never_where_one_works(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPRINT_EXPORT_CACHE")
    if home is None:
        monkeypatch.delenv("HOME")
    else:
        monkeypatch.setenv("HOME", home)
    assert cache_folder() == Path(pwd.getpwuid(os.getuid()).pw_dir) / ".cache" / "sprint-export"


@pytest.mark.parametrize("kind", ["file", "proc", "loop"])
def test_a_cache_that_cannot_be_written_to_is_named_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    place = Path("/proc/x/cache") if kind == "proc" else tmp_path / kind / "cache"
    monkeypatch.setenv("SPRINT_EXPORT_CACHE", str(place))
    message = r"cannot write to .*; measured figures are kept there; set SPRINT_EXPORT_CACHE to a folder that can be written to"
    with pytest.raises(MachineError, match=message):
        open_cache("calibration")


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    with pytest.raises(MachineError, match=r"cannot write to .*/a\.json \(Is a directory\); measured figures"):
        write_cached(tmp_path / "a.json", lambda part: part.write_text("x"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_parts_of_dead_processes_are_swept_from_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPRINT_EXPORT_CACHE", str(tmp_path))
    (tmp_path / "gptq" / "0123").mkdir(parents=True)
    for path in (tmp_path / "gptq" / "a.json", tmp_path / "gptq" / "0123" / "b.safetensors"):
        part_of_a_dead_process(path).write_text("half")
    assert open_cache("gptq") == tmp_path / "gptq"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
