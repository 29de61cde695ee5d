"""Two processes with other hash seeds, temporary folders and days write the same bytes, and leave nothing in those folders."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("coremltools")
pytest.importorskip("coreai_torch", reason="needs the extra 'coreai'")

from tests.export import export_all_forms
from tests.tree import ROOT

ANOTHER_DAY = """
import datetime, runpy, sys, time
real = time.time
time.time = lambda: real() + 40 * 86400
class Later(datetime.datetime):
    @classmethod
    def now(cls, tz=None): return super().now(tz) + datetime.timedelta(40)
class LaterDay(datetime.date):
    @classmethod
    def today(cls): return super().today() + datetime.timedelta(40)
datetime.datetime, datetime.date = Later, LaterDay
runpy.run_module("tests.export.export_all_forms", run_name="__main__", alter_sys=True)
"""


def hash_files(out: Path, temporary: Path) -> dict[str, str]:
    """Hashes by path of what was written; nothing is left in the folder for temporary files."""
    left = [path for path in temporary.rglob("*") if path.suffix in (".mlpackage", ".mlmodel", ".bin", ".mlirb")]
    assert not left, "weights were written outside the part's folder"
    files = sorted(path for path in out.rglob("*") if path.is_file())
    return {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_two_processes_write_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this one, and in another with another hash seed on another day."""
    temporary, other, there = tmp_path / "temporary", tmp_path / "other", tmp_path / "elsewhere" / "two"
    for folder in (temporary, other, there.parent):
        folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    export_all_forms.main(tmp_path / "one")
    first = hash_files(tmp_path / "one", temporary)
    seed = "2" if os.environ.get("PYTHONHASHSEED") != "2" else "3"
    environment = os.environ | {"PYTHONHASHSEED": seed, "TMPDIR": str(other)}
    subprocess.run([sys.executable, "-c", ANOTHER_DAY, there], env=environment, check=True, cwd=ROOT)
    second = hash_files(there, other)
    assert {path.split("/")[0] for path in first} == set(export_all_forms.FORMS)
    assert sum(path.startswith("coreml-int8-parts") and path.endswith("Manifest.json") for path in first) > 1
    assert not any(".coremltools" in path for path in first)
    assert first == second
