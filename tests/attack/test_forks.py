"""The harness itself: every way a child can end is told apart."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sprint_export.errors import InputError, MachineError
from tests.attack.forks import run_forked, was_read, watch_reads
from tests.attack.outcomes import CLEAN, RIGHT, WRONG, Tally


def _refuse() -> str:
    raise InputError("no such thing")


def _lack() -> str:
    raise MachineError("no such library")


def _panic() -> str:
    raise BaseException("a panic")


def _stumble() -> str:
    return os.environ["MISSING"]


def _die() -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


def _sleep() -> str:
    time.sleep(60)
    return ""


def _leave() -> str:
    os._exit(7)


@pytest.mark.parametrize(
    ("act", "kind", "text", "status"),
    [
        (lambda: "drew", "returned", "drew", 0),
        (_refuse, "clean", "no such thing", 2),
        (_lack, "clean", "no such library", 3),
        (_panic, "traceback", "BaseException: a panic", 0),
        (_stumble, "traceback", "KeyError: 'MISSING' [", 0),
        (_die, "signal", "SIGKILL", 0),
        (_leave, "traceback", "status 7", 0),
    ],
)
def test_every_end_is_named(act: Callable[[], str], kind: str, text: str, status: int) -> None:
    ended = run_forked(act, seconds=20)
    assert (ended.kind, ended.exit_status) == (kind, status)
    assert text in ended.text


def test_a_child_that_does_not_end_is_a_hang() -> None:
    ended = run_forked(_sleep, seconds=0.3)
    assert ended.kind == "hang"
    assert ended.seconds < 10


def test_memory_beyond_the_limit_ends_in_the_child() -> None:
    ended = run_forked(lambda: str(len(bytearray(2 << 30))), gigabytes=0.5)
    assert ended.kind == "traceback"
    assert ended.text.startswith("MemoryError")


def test_a_read_in_a_child_is_seen(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    watch_reads(tmp_path)
    assert was_read(tmp_path) == []
    run_forked((tmp_path / "secret").read_text)
    assert was_read(tmp_path) == [str(tmp_path / "secret")]


def test_a_tally_counts_and_keeps_samples_of_faults_only() -> None:
    tally = Tally()
    tally.add("bit flip", RIGHT, "seed 1")
    tally.add("bit flip", CLEAN, "seed 2")
    tally.add("link", WRONG, "seed 3: 12 dB")
    assert (tally.total, tally.faults) == (3, ["silent wrong: link: seed 3: 12 dB"])
    assert "| bit flip | 2 | 1 | 1 | 0 |" in tally.table()
