"""What --out may be, and that a mistake in it is said before any work."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from sprint_export.errors import InputError
from sprint_export.out_folder import check_out
from tests.bundles import list_files


def test_out_may_be_new_deep_or_empty(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "new", tmp_path / "deep" / "er" / "new", tmp_path / "empty"):
        assert check_out(out) == out
    assert not (tmp_path / "deep").exists()


def test_out_may_be_a_link_to_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert check_out(tmp_path / "link") == tmp_path / "real"


def test_out_that_cannot_become_a_bundle_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    (tmp_path / "here").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path / "here")
    for out, message in (
        (tmp_path / "file", "file is a file; expected a folder that is new, empty or holds a bundle"),
        (tmp_path / "file" / "out", f"{tmp_path / 'file'} is not a folder that can be written to; choose another"),
        (tmp_path / "full", "full holds files but no bundle.json, so it is not a bundle and is left alone"),
        (Path(), "--out . is where you are working, or around it"),
        (Path(".."), "--out .. is where you are working, or around it"),
        (tmp_path, "is where you are working, or around it"),
        (tmp_path / "loop", "loop leads through links that lead to themselves; choose another"),
        (tmp_path / "loop" / "deep", "leads through links that lead to themselves; choose another"),
        (tmp_path / "pipe", "pipe is a file; expected a folder"),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            check_out(out)
    assert list_files(tmp_path) == {"file", "full/thesis.txt"}
