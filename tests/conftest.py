"""What all tests share: no network, no file outside the test's folders, one thread beside whatever else the machine does."""

from __future__ import annotations

import gc
import os
import signal
import tempfile
from collections import defaultdict
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sprint_export.export.captures import Captures, keep_captures
from tests.quick import PROPERTY, cpu_seconds, known_seconds, run_folder, slow_files, store_seconds

if TYPE_CHECKING:
    from sprint_export.nouns.student import Student

CAPTURES = Captures(most=60)
STARTED = pytest.StashKey[float]()
_seconds: dict[str, float] = defaultdict(float)


def pytest_configure() -> None:
    """Before any library is imported: they read these once."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # eight compute what ends in bytes, and here they share a core
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a suite in the background of a shell; its children would inherit that
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """One option of ours."""
    parser.addoption("--store-seconds", action="store_true", help="measure every test file for the quick tier (tests/quick.py)")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The quick tier does not import slow files."""
    return True if config.option.markexpr == "quick" and collection_path in slow_files() else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Before tests are chosen by marker; files that take long come first, so that no process ends long after the other."""
    items.sort(key=lambda item: -known_seconds().get(item.path, 0.0))
    for item in items:
        if item.path not in slow_files():
            item.add_marker("quick")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """What a test took, its fixtures included; captures are kept for the next that translates an equal network."""
    item.stash[STARTED] = cpu_seconds()
    with keep_captures(CAPTURES):
        result = yield
    if nextitem is None or nextitem.path != item.path:
        set_objects_aside()
    return result


def pytest_collection_finish() -> None:
    """Libraries are loaded."""
    set_objects_aside()


def set_objects_aside() -> None:
    """What is alive now costs the garbage collector no more: libraries are a million objects, and exporters collect per graph."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """The teardown's report takes it to the process that writes."""
    result = yield
    item.user_properties.append((PROPERTY, cpu_seconds() - item.stash[STARTED]))
    return result


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A file's tests together."""
    for name, value in report.user_properties:
        if name == PROPERTY and report.when == "teardown":
            _seconds[report.location[0]] += float(str(value))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where it was asked for."""
    if session.config.getoption("--store-seconds") and "PYTEST_XDIST_WORKER" not in os.environ:
        store_seconds(_seconds)
        print(f"\n{sum(_seconds.values()):.0f} CPU seconds")


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
    from tests.bundles import share_folder
    from tests.made_student import make_pipeline

    return share_folder(tmp_path_factory.getbasetemp(), "student", lambda folder: make_pipeline().save_pretrained(folder))


@pytest.fixture(scope="session")
def made_bundle(made: Student, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That student in 8 bits, not validated."""
    from tests.bundles import shared_bundle
    from tests.made_student import PROMPTS

    return shared_bundle(tmp_path_factory.getbasetemp(), "onnx-int8", made, prompts=PROMPTS, validate=False)


@pytest.fixture(scope="session")
def free_bundle(made: Student, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That student with free sizes, an encoder to start from pictures, 1, 2 and 4 steps."""
    from tests.bundles import shared_bundle

    asked: dict[str, Any] = {"steps": (1, 2, 4), "dynamic": True, "image_to_image": True, "validate": False}
    return shared_bundle(tmp_path_factory.getbasetemp(), "onnx-fp32", made, **asked)


@pytest.fixture(scope="session")
def steered_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a ControlNet, in 16 bits, at 1, 2 and 4 steps; its encoder starts from pictures too."""
    from tests.bundles import shared_bundle

    return shared_bundle(tmp_path_factory.getbasetemp(), "onnx-fp16", "control-tiny", steps=(1, 2, 4), validate=False)


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
