"""What all tests share: no network, no file outside the test's folders, one thread beside whatever else the machine does."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.captures import keep_captures, run_folder

if TYPE_CHECKING:
    from sprint_export.nouns.student import Student


def pytest_configure() -> None:
    """Before any library is imported: they read these once."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a suite in the background of a shell; its children would inherit that
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Before a test's fixtures are made."""
    keep_captures()


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        cache = run_folder(tmp_path_factory.getbasetemp()) / "measured"  # by one worker, for all
        cache.mkdir(exist_ok=True)
        patch.setenv("SPRINT_EXPORT_CACHE", str(cache))
        # coremltools clears its packages up when a process ends by itself, which pytest's workers do not
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))
        yield


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing measured before is found."""
    monkeypatch.setenv("SPRINT_EXPORT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def made_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stock SanaSprintPipeline of sizes no preset has, as save_pretrained writes it."""
    from tests.made_student import make_pipeline

    folder: Path = tmp_path_factory.mktemp("made") / "student"
    make_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def made(made_folder: Path) -> Student:
    """That pipeline, loaded from its folder."""
    from sprint_export.students import load_student

    return load_student(made_folder)


@pytest.fixture(scope="session")
def tiny_student() -> Student:
    """The two-layer student with seeded handles."""
    from sprint_export.students.sana_sprint.presets import tiny

    return tiny()
