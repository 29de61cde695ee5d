"""Two processes with other hash seeds, temporary folders and days write the same bytes, and leave nothing in those folders."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("coremltools")
pytest.importorskip("coreai_torch", reason="needs the extra 'coreai'")

from tests.export.export_all_forms import FORMS

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


def export(out: Path, seed: int, command: list[str]) -> dict[str, str]:
    """Hashes by path of what a process wrote."""
    temporary = out.parent / f"temporary{seed}"
    temporary.mkdir()
    environment = os.environ | {"PYTHONHASHSEED": str(seed), "TMPDIR": str(temporary)}
    subprocess.run([sys.executable, *command, str(out)], env=environment, check=True, cwd=Path(__file__).parents[2])
    left = [path for path in temporary.rglob("*") if path.suffix in (".mlpackage", ".mlmodel", ".bin", ".mlirb")]
    assert not left, "weights were written outside the part's folder"
    files = sorted(path for path in out.rglob("*") if path.is_file())
    return {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    first = export(tmp_path / "one", 1, ["-m", "tests.export.export_all_forms"])
    (tmp_path / "elsewhere").mkdir()
    second = export(tmp_path / "elsewhere" / "two", 2, ["-c", ANOTHER_DAY])
    assert {path.split("/")[0] for path in first} == set(FORMS)
    assert sum(path.startswith("coreml-int8-parts") and path.endswith("Manifest.json") for path in first) > 1
    assert not any(".coremltools" in path for path in first)
    assert first == second
