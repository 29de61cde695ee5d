"""`convert` beside other people's files, damaged bundles and other runs: nothing is lost, and what is wrong is said at once."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sprint_export import conversion, students
from sprint_export.bundle_files import CARD, PAGE, REPORT, SHEET, sort_contents
from sprint_export.conversion import convert
from sprint_export.errors import BundleError, InputError, MachineError
from sprint_export.export.bundle import read_bundle
from sprint_export.files import write_text
from sprint_export.nouns.student import Student
from sprint_export.work_folder import find_work_folder
from tests.attack import full_disks
from tests.attack.fresh import run_campaign
from tests.attack.kill_runs import read_state
from tests.bundles import check_refused, copy_bundle, list_files, run_command
from tests.command_server import COMMAND
from tests.test_locks import start_holder

ONE = ("vae_decoder",)
RUN = ("--target", "onnx-fp32", "--component", "vae_decoder", "--out", "out")


@pytest.fixture(scope="module")
def made_bundle(tiny_student: Student, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One float component of a two-layer student."""
    folder = tmp_path_factory.mktemp("lost") / "bundle"
    convert(tiny_student, "onnx-fp32", folder, components=ONE)
    return folder


def refuse_work(*_: object, **__: object) -> Any:
    raise AssertionError("work was begun")


def test_a_folder_with_a_manifest_of_another_program_is_left_alone(
    tiny_student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "_make_bundle", refuse_work)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "bundle.json").write_text("{}")
    (tmp_path / "notes" / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match=r"notes holds what is not a bundle's: bundle\.json, thesis\.tex; nothing was touched"):
        convert(tiny_student, "onnx-fp32", tmp_path / "notes", components=ONE, overwrite=True)
    assert list_files(tmp_path) == {"notes/bundle.json", "notes/thesis.tex"}


def test_a_users_file_in_a_bundle_is_refused_before_any_work(
    tiny_student: Student, made_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_bundle(made_bundle, tmp_path / "bundle")
    (folder / "vae_decoder" / "notes.txt").write_text("mine")
    before = read_state(folder)
    convert(tiny_student, "onnx-fp32", folder, components=ONE)  # nothing to do, and nothing to lose
    monkeypatch.setattr(conversion, "_make_bundle", refuse_work)
    with pytest.raises(InputError, match=r"bundle holds what is not a bundle's: vae_decoder/notes\.txt; nothing was touched"):
        convert(tiny_student, "onnx-fp32", folder, components=ONE, overwrite=True, guidance=7.0)
    assert read_state(folder) == before


def test_a_damaged_bundle_is_said_before_any_work_and_made_anew_with_overwrite(
    tiny_student: Student, made_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for damage in ("vae_decoder/model.onnx.data", "vae_decoder/config.json", "bundle.json", "tokenizer/tokenizer.json"):
        folder = copy_bundle(made_bundle, tmp_path / "bundle")
        (folder / damage).write_bytes(bytes((folder / damage).stat().st_size))
        with monkeypatch.context() as patch:
            patch.setattr(conversion, "keep_components", refuse_work)
            with pytest.raises(BundleError, match=r"; to replace it, add --overwrite"):
                convert(tiny_student, "onnx-fp32", folder, components=ONE)
        convert(tiny_student, "onnx-fp32", folder, components=ONE, overwrite=True)
        assert read_state(folder) == read_state(made_bundle)
        assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
        shutil.rmtree(folder)


def test_all_that_a_validated_bundle_holds_is_the_bundles_and_open_to_others(tiny_student: Student, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    convert(tiny_student, "onnx-int8", folder, count=1)
    assert {REPORT, PAGE, SHEET} <= list_files(folder)
    assert sort_contents(folder).foreign == ()
    mask = os.umask(0)
    os.umask(mask)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()} == {0o666 & ~mask}
    named = {artifact.path for artifact in read_bundle(folder).artifacts}
    assert list_files(folder) == named | {"bundle.json", CARD, REPORT, PAGE, SHEET}


def test_a_run_meets_another_before_the_student_is_loaded(
    tiny_student: Student, made_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sprint_export.runtimes import build_bundle
    from sprint_export.validate import validate_bundle

    monkeypatch.setattr(students, "load_student", refuse_work)
    folder = copy_bundle(made_bundle, tmp_path / "out")
    with start_holder(find_work_folder(folder) / "lock") as holder:
        for act in (
            lambda: convert("sprint-tiny", "onnx-fp32", folder, components=ONE),
            lambda: validate_bundle(folder),
            lambda: build_bundle(folder),
        ):
            with pytest.raises(MachineError, match=rf"another run works on {folder}: process {holder.pid} since .*; wait for it"):
                act()
        holder.kill()
    convert(tiny_student, "onnx-fp32", folder, components=ONE)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_second_of_two_commands_says_who_works_there_and_the_first_is_right(made_bundle: Path, tmp_path: Path) -> None:
    with subprocess.Popen([COMMAND, *RUN], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as first:
        deadline = time.monotonic() + 120
        while not (tmp_path / ".out.partial" / "lock").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        first.send_signal(signal.SIGSTOP)
        second = run_command(*RUN, folder=tmp_path)
        first.send_signal(signal.SIGCONT)
        _, said = first.communicate()
    check_refused(second, 3, f"another run works on {tmp_path}/out: process {first.pid} since", "wait for it, or end it")
    assert first.returncode == 0, said
    read_bundle(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_cache_that_cannot_be_written_to_is_named(
    tiny_student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("SPRINT_EXPORT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(MachineError, match=r"cannot write to .*file/cache.*; set SPRINT_EXPORT_CACHE to a folder"):
        convert(tiny_student, "onnx-int8", tmp_path / "out", components=ONE)


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full and /proc are Linux's")
@pytest.mark.parametrize("out", ["/proc/x", "/proc/x/deep/out", "/dev/null/out", "/dev/full"])
def test_a_place_where_no_folder_can_be_is_one_line(tiny_student: Student, out: str) -> None:
    with pytest.raises(InputError, match=r"/proc/\.?x|/dev/(null|full) is "):
        convert(tiny_student, "onnx-fp32", out, components=ONE)


def test_killed_runs_are_taken_up() -> None:
    tally = run_campaign("kill_runs", 4, 7)
    assert not tally.faults
    assert tally.total == 4


def test_full_disks_are_the_machines() -> None:
    if not full_disks.can_mount():
        pytest.skip("a full disk needs the right to mount a small one; tests/test_cli.py sets a quota on files instead")
    tally = run_campaign("full_disks", 2, 3)
    assert not tally.faults
    assert tally.total == 2


def test_a_picture_on_a_full_disk_is_the_machines(tmp_path: Path) -> None:
    from sprint_export.picture_files import save_picture

    if not full_disks.can_mount():
        pytest.skip("a full disk needs the right to mount a small one")
    picture = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    with full_disks.mount_disk(tmp_path / "disk", "4k") as make_room:
        with pytest.raises(MachineError, match=r"the disk is full \(.*while writing .*a\.png"):
            save_picture(picture, tmp_path / "disk" / "a.png")
        assert list((tmp_path / "disk").iterdir()) == []
        make_room()
        save_picture(picture, tmp_path / "disk" / "a.png")
    write_text(tmp_path / "file", "x")
    for path in (tmp_path / "file" / "a.png", tmp_path / "a.odd"):
        with pytest.raises(InputError, match=r"cannot write to .*file/a\.png \(|-o .*a\.odd: cannot be written as a picture"):
            save_picture(picture, path)
    assert [path.name for path in tmp_path.iterdir() if path.name != "disk"] == ["file"]
