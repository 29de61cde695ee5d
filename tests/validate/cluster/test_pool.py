"""Pictures drawn by the workers of a Ray cluster here: figures as of one process, a lost worker, a run that goes on."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sprint_export.errors import InputError, MachineError
from sprint_export.nouns.report import Report
from sprint_export.progress import Step
from sprint_export.students import load_student
from sprint_export.validate import inquiry, validate_bundle
from sprint_export.validate.cluster.job import describe_student
from sprint_export.validate.cluster.pool import DRAWING, LOCAL, connect, split_places
from tests.bundles import copy_bundle, shared_bundle

COUNT, HERE = 24, 4  # pictures, and how many of them this process draws


@pytest.fixture
def bundle(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("ray")
    monkeypatch.setattr(inquiry, "LOOKS", (HERE, 512))
    monkeypatch.setenv("SPRINT_EXPORT_CACHE", str(tmp_path / "cache"))
    return copy_bundle(shared_bundle(tmp_path_factory.getbasetemp(), "onnx-int8"), tmp_path / "bundle")


def describe(report: Report) -> dict[str, object]:
    """All that is no second."""
    rows = [row for row in report.rows if "latency" not in row.metric]
    return {"rows": rows, "pictures": report.pictures, "blocks": report.blocks, "prompts": report.prompts}


def list_workers() -> Iterator[int]:
    """Processes of this test's cluster that are Workers."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"ray::Worker" in (folder / "cmdline").read_bytes():
                yield int(folder.name)


def test_two_workers_draw_what_one_process_draws_though_one_is_killed_and_a_run_stops(bundle: Path) -> None:
    alone = validate_bundle(bundle, count=COUNT)
    os.environ["SPRINT_EXPORT_CACHE"] += "-2"  # the fixture sets it back
    counts: list[int] = []
    killed: list[int] = []

    def stop_midway(step: Step, done: int, total: int) -> None:
        if step == DRAWING and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        validate_bundle(bundle, progress=stop_midway, count=COUNT, ray=LOCAL)

    def kill_one(step: Step, done: int, total: int) -> None:
        if step == DRAWING:
            counts.append(done)
            if len(counts) == 2:
                killed.append(next(list_workers()))
                os.kill(killed[0], signal.SIGKILL)

    shared = validate_bundle(bundle, progress=kill_one, count=COUNT, ray=LOCAL)
    assert counts[0] > 0, "what the stopped run drew is not drawn again"
    assert killed
    assert counts == sorted(counts)
    assert counts[-1] == COUNT - HERE
    assert describe(shared) == describe(alone)


def test_a_student_that_no_worker_can_load_is_refused(bundle: Path) -> None:
    student = replace(load_student("sprint-tiny"), source="made here", folder=None)
    with pytest.raises(InputError, match="each worker of a cluster loads the student itself, and 'made here' is none to load"):
        validate_bundle(bundle, student, ray=LOCAL)
    assert describe_student(load_student("sprint-tiny")) == "sprint-tiny"


def test_a_cluster_that_is_not_there_is_said() -> None:
    pytest.importorskip("ray")
    with (
        pytest.raises(MachineError, match=r"no Ray cluster at '/nowhere' .*expected 'local', auto, or the HOST:PORT"),
        connect("/nowhere"),
    ):
        pass


def test_shards_are_small_enough_for_all_workers_to_end_together() -> None:
    assert split_places(range(4), 2, 16) == [[0], [1], [2], [3]]
    assert [len(shard) for shard in split_places(range(100), 2, 16)] == [12] * 8 + [4]
    assert {len(shard) for shard in split_places(range(30_000), 8, 16)} == {16}
    assert split_places([5, 7, 9], 1, 16) == [[5], [7], [9]]
