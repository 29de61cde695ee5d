"""Files are whole or absent, have the modes of new ones, and what dead processes left is swept."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sprint_export.files import (
    STALE_SECONDS,
    is_stale_part,
    list_tree,
    name_part,
    read_signed,
    remove,
    settle_folder,
    sign_text,
    sweep_parts,
    temporary_files_in,
    temporary_folder,
    write_text,
    write_whole,
)


@pytest.fixture(params=[0o022, 0o002, 0o077, 0o027], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def part_of_a_dead_process(path: Path) -> Path:
    """A part beside `path` whose process is gone."""
    code = f"from pathlib import Path; from sprint_export.files import name_part; print(name_part(Path({str(path)!r})))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return Path(found.stdout.strip())


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_text(path, "first")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "second")
    assert path.read_text() == "first"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"], "nothing half-written beside it"


@pytest.mark.parametrize("kind", ["a pipe", "a device", "a socket", "a folder"])
def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path, kind: str) -> None:
    """Who may write to /dev would make a file of /dev/null for all programs of this machine."""
    path = tmp_path / "there"
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        if os.getuid() != 0:
            pytest.skip("only root makes devices")
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    elif kind == "a socket":
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as made:
            made.bind(os.path.relpath(path))
    else:
        path.mkdir()
    before = path.lstat().st_mode
    with pytest.raises(OSError, match="Is a directory" if kind == "a folder" else "a device, a pipe or a socket is there"):
        write_text(path, "text")
    assert path.lstat().st_mode == before
    assert [each.name for each in tmp_path.iterdir()] == ["there"]


def test_what_a_killed_run_left_beside_a_file_goes_with_the_next_run(tmp_path: Path) -> None:
    part = part_of_a_dead_process(tmp_path / "result.json")
    part.write_text("{")
    write_text(tmp_path / "result.json", "{}")
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_a_part_that_cannot_be_removed_does_not_keep_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [part_of_a_dead_process(tmp_path / name) for name in "abc"]
    for part in parts:
        part.write_text("")
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path == parts[1]:
            raise PermissionError(1, "another user's")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    sweep_parts(tmp_path)
    assert list(tmp_path.iterdir()) == [parts[1]]


def test_the_folder_is_made_and_made_again_when_another_run_takes_it_away(tmp_path: Path) -> None:
    calls = []

    def write(part: Path) -> None:
        calls.append(part)
        if len(calls) < 3:
            remove(part.parent)
        if len(calls) == 2:
            raise RuntimeError("a library's own word for it")
        part.write_text("whole")

    write_whole(tmp_path / "deep" / "er" / "a.txt", write)
    assert (tmp_path / "deep" / "er" / "a.txt").read_text() == "whole"
    assert len({part.name for part in calls}) == 3, "no name is used twice"


def test_a_file_of_any_library_has_the_mode_of_a_new_one(tmp_path: Path, umask: int) -> None:
    write_whole(tmp_path / "a.safetensors", lambda part: save_file({"a": torch.ones(2)}, part))
    write_text(tmp_path / "b.json", "{}")
    assert {mode(path) for path in tmp_path.iterdir()} == {0o666 & ~umask}


def test_a_folder_of_any_library_has_the_modes_of_new_ones(tmp_path: Path, umask: int) -> None:
    folder = tmp_path / "bundle"
    (folder / "deep").mkdir(parents=True, mode=0o700)
    (folder / "deep" / "weights").touch(mode=0o600)
    (folder / "run.sh").touch(mode=0o755)
    outside = tmp_path / "outside"
    outside.touch(mode=0o600)
    (folder / "link").symlink_to(outside)
    settle_folder(folder)
    assert {mode(path) for path in folder.rglob("*") if path.is_file() and not path.is_symlink()} == {0o666 & ~umask}
    assert {mode(folder), mode(folder / "deep")} == {0o777 & ~umask}
    assert mode(outside) == 0o600 & ~umask, "a link was followed"


def test_the_parts_of_dead_processes_are_swept_and_of_living_ones_kept(tmp_path: Path) -> None:
    dead, mine = part_of_a_dead_process(tmp_path / "model.sm89.layers.txt"), name_part(tmp_path / "report.json")
    foreign = tmp_path / ".a.0123abcd.999999-0123abcd.part.txt"  # of another machine: its pids mean nothing here
    old = tmp_path / ".b.0123abcd.999999-0123abcd.part.txt"
    others = [tmp_path / name for name in ("thesis.part", ".hidden", ".x.part", "report.json")]
    for path in (dead, mine, foreign, old, *others):
        path.write_text("x")
    os.utime(old, (0, time.time() - STALE_SECONDS - 60))
    assert is_stale_part(dead)
    sweep_parts(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in (mine, foreign, *others)}


def test_a_part_keeps_the_suffix_and_fits_any_name(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 240 + ".png")
    write_text(path, "x")
    part = name_part(path)
    assert part.suffix == ".png"
    assert part.parent == tmp_path


def test_removing_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "dangling", "pipe", "absent"):
        remove(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("damage", [b"", b"\n", b"x", b"\xff\xfe", b"0" * 64 + b"\ncontent"])
def test_a_damaged_text_is_told_from_a_whole_one(damage: bytes) -> None:
    assert read_signed(sign_text("größe\n[1]").encode()) == "größe\n[1]"
    with pytest.raises(ValueError, match="sha256"):
        read_signed(damage)


def test_libraries_make_their_temporary_files_where_they_are_told(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "left").touch()
    before = tempfile.gettempdir()
    with temporary_files_in(tmp_path / "work"):
        made = Path(tempfile.mkdtemp(suffix=".mlpackage"))
        assert made.parent == tmp_path / "work"
        assert not (tmp_path / "work" / "left").exists(), "of a run that was killed"
    assert not (tmp_path / "work").exists()
    assert tempfile.gettempdir() == before


def test_a_temporary_folder_sweeps_those_of_dead_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = part_of_a_dead_process(tmp_path / "sprint-export")
    (dead / "deep").mkdir(parents=True)
    with temporary_folder() as folder:
        assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert list(tmp_path.iterdir()) == []


def test_a_tree_as_deep_as_names_may_be_long_is_listed_in_order(tmp_path: Path) -> None:
    folder = tmp_path
    for _ in range(1100):  # deeper than Python recurses
        folder = folder / "a"
        folder.mkdir()
    (folder / "b").write_text("x")
    found = [path for path, _ in list_tree(tmp_path)]
    assert found == sorted(found, key=lambda path: len(path.parts))
    assert (len(found), found[-1]) == (1101, folder / "b")
    subprocess.run(["rm", "-r", tmp_path / "a"], check=True)  # shutil and pytest recurse
