"""One run at a time per bundle, in a folder that only a killed run leaves behind."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from sprint_export.errors import InputError, MachineError
from sprint_export.work_folder import claim_bundle, find_work_folder
from tests.test_locks import start_holder


def test_a_claim_leaves_nothing_and_makes_temporary_files_within(tmp_path: Path) -> None:
    with claim_bundle(tmp_path / "deep" / "out") as work:
        assert work == tmp_path / "deep" / ".out.partial"
        assert Path(tempfile.gettempdir()) == work / "temporary"
        with claim_bundle(tmp_path / "deep" / "out") as again:
            assert again == work
            Path(tempfile.mkdtemp())
        assert (work / "temporary").exists(), "the inner claim ends nothing"
    assert list(tmp_path.iterdir()) == [], "the folders around it were made for nothing, too"


def test_unfinished_work_stays(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), claim_bundle(tmp_path / "out") as work:
        (work / "bundle").mkdir()
        raise KeyboardInterrupt
    assert [path.name for path in (tmp_path / ".out.partial").iterdir()] == ["bundle"]
    with claim_bundle(tmp_path / "out"):
        pass


def test_a_link_and_what_it_leads_to_have_one_work_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with claim_bundle(tmp_path / "link") as work:
        assert work == tmp_path / ".real.partial"


def test_a_bundle_in_its_work_folder_has_the_same_claim(tmp_path: Path) -> None:
    with claim_bundle(tmp_path / "out") as work, claim_bundle(work / "bundle") as again:
        assert again == work
    assert find_work_folder(tmp_path / "bundle") == tmp_path / ".bundle.partial"


def test_another_run_is_met_before_anything_is_touched(tmp_path: Path) -> None:
    work = tmp_path / ".out.partial"
    (work / "temporary").mkdir(parents=True)
    (work / "temporary" / "theirs").touch()
    with start_holder(work / "lock") as holder:
        with pytest.raises(MachineError, match=rf"another run works on {tmp_path}/out: process {holder.pid} since .*; wait"):
            claim_bundle(tmp_path / "out").__enter__()
        holder.kill()
    assert (work / "temporary" / "theirs").exists()


@pytest.mark.parametrize("what", ["file", "dangling", "link", "loop"])
def test_what_no_run_made_is_left_alone(tmp_path: Path, what: str) -> None:
    work, mine = tmp_path / ".out.partial", tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("mine")
    if what == "file":
        work.write_text("mine")
    else:
        work.symlink_to({"dangling": tmp_path / "nowhere", "link": mine, "loop": work}[what])
    with pytest.raises(InputError, match=r"\.out\.partial is where this bundle is worked on, and is no folder; move it away"):
        claim_bundle(tmp_path / "out").__enter__()
    assert os.path.lexists(work)
    assert not (tmp_path / "nowhere").exists()
    assert [path.name for path in mine.iterdir()] == ["thesis.tex"]


def test_a_file_of_another_name_in_a_work_folder_is_left_alone(tmp_path: Path) -> None:
    work = tmp_path / ".out.partial"
    work.mkdir()
    (work / "thesis.tex").write_text("mine")
    with claim_bundle(tmp_path / "out"):
        pass
    assert [path.name for path in work.iterdir()] == ["thesis.tex"]


def test_an_old_bundle_that_was_set_aside_comes_back(tmp_path: Path) -> None:
    old = tmp_path / ".out.partial" / "old"
    old.mkdir(parents=True)
    (old / "bundle.json").write_text("{}")
    with claim_bundle(tmp_path / "out"):
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["bundle.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_stray_file_in_a_bundle_that_was_set_aside_is_kept(tmp_path: Path) -> None:
    old = tmp_path / ".out.partial" / "old"
    old.mkdir(parents=True)
    (old / "thesis.tex").write_text("mine")
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match=r"thesis\.tex came into the old bundle while it was replaced, and is kept at .*old"):
        claim_bundle(tmp_path / "out").__enter__()
    assert (old / "thesis.tex").read_text() == "mine"
