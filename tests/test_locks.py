"""One holder at a time, among processes and threads; the lock dies with its process and leaves no file behind."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sprint_export.errors import MachineError
from sprint_export.locks import hold_lock

HOLD = """
import sys, time
from pathlib import Path
from sprint_export.locks import hold_lock
with hold_lock(Path(sys.argv[1]), "out"):
    print("held", flush=True)
    time.sleep(60)
"""


def start_holder(path: Path) -> subprocess.Popen[str]:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_the_second_process_is_told_who_works_there(tmp_path: Path) -> None:
    with start_holder(tmp_path / "lock") as holder:
        wanted = rf"another run works on out: process {holder.pid} since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d \(.*\); wait for it"
        with pytest.raises(MachineError, match=wanted), hold_lock(tmp_path / "lock", "out"):
            pass
        holder.kill()
    assert (tmp_path / "lock").exists(), "left by a process that was killed"
    with hold_lock(tmp_path / "lock", "out") as is_first:
        assert is_first
    assert list(tmp_path.iterdir()) == []


def test_a_thread_enters_again_and_another_does_not(tmp_path: Path) -> None:
    refused: list[str] = []

    def enter() -> None:
        try:
            with hold_lock(tmp_path / "lock", "out"):
                refused.append("entered")
        except MachineError as error:
            refused.append(str(error))

    with hold_lock(tmp_path / "lock", "out") as first:
        with hold_lock(tmp_path / "lock", "out") as second:
            assert (first, second) == (True, False)
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
    assert len(refused) == 1
    assert re.search(rf"process {os.getpid()} since", refused[0])
    enter()
    assert refused[1] == "entered"


@pytest.mark.parametrize("what", ["link", "dangling", "folder", "pipe", "text"])
def test_whatever_lies_in_the_locks_place_is_no_holder(tmp_path: Path, what: str) -> None:
    path, mine = tmp_path / "work" / "lock", tmp_path / "mine"
    path.parent.mkdir()
    mine.write_text("mine")
    if what == "folder":
        (path / "deep").mkdir(parents=True)
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "text":
        path.write_bytes(b"\xff{}")
    else:
        path.symlink_to(mine if what == "link" else tmp_path / "nowhere")
    with hold_lock(path, "out"):
        assert path.is_file()
        assert not path.is_symlink()
    assert not path.exists()
    assert mine.read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def _count_up(folder: Path, times: int) -> None:
    done = 0
    while done < times:
        try:
            with hold_lock(folder / "work" / "lock", "out"):
                number = int((folder / "number").read_text())
                (folder / "number").write_text(str(number + 1))
                done += 1
        except MachineError:
            continue
        with contextlib.suppress(OSError):
            (folder / "work").rmdir()  # as its last user does


def test_no_two_processes_hold_one_name_though_each_removes_it(tmp_path: Path) -> None:
    (tmp_path / "number").write_text("0")
    context = multiprocessing.get_context("fork")
    counters = [context.Process(target=_count_up, args=(tmp_path, 200)) for _ in range(3)]
    for counter in counters:
        counter.start()
    for counter in counters:
        counter.join(60)
    assert [counter.exitcode for counter in counters] == [0, 0, 0]
    assert (tmp_path / "number").read_text() == "600", "an addition was lost: two held it at once"


def test_a_signal_that_ends_the_process_frees_the_lock(tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGHUP):
        with start_holder(tmp_path / "lock") as holder:
            holder.send_signal(number)
        with hold_lock(tmp_path / "lock", "out"):
            pass
