"""Ctrl-C and SIGTERM at any moment of the real command: one line, 130 or 143, no traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sprint_export import interrupts
from sprint_export.interrupts import STOPPED

SLEEPER = """
import sys, time, types
from sprint_export.cli import entry
def app(arguments): {act}
entry.call_app = app
entry.main()
"""
READY = "print('ready', file=sys.stderr, flush=True)"
TRY = f"{READY}\n  try: time.sleep(60)\n  except BaseException: "
CASES = {
    "while it works": f"{READY}; time.sleep(60)",
    "in an import that turns it into an ImportError": TRY + "raise ImportError('numpy failed')",
    "where a library swallows it": TRY + "return 0",
    "where it becomes another error": TRY + "raise ValueError('odd')",
}


def start(act: str) -> subprocess.Popen[str]:
    body = act.replace("\n  ", "\n    ")
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER.format(act="\n    " + body)], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "ready\n"
    return process


@pytest.mark.parametrize("act", CASES.values(), ids=CASES)
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_one_line_and_its_status(act: str, number: int, status: int) -> None:
    process = start(act)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (status, STOPPED + "\n")


def test_little_is_loaded_before_signals_are_heard() -> None:
    """Who presses Ctrl-C before that sees the traceback of Python; what it takes of the standard library is named here."""
    code = "before = set(sys.modules); import sprint_export.cli.entry; print(*sorted(set(sys.modules) - before))"
    path = str(Path(interrupts.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import os, sys; sys.path.insert(0, {path!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    own = {"sprint_export", "sprint_export.errors", "sprint_export.cli", "sprint_export.cli.entry", "sprint_export.interrupts"}
    enum = {"enum", "types", "operator", "_operator", "functools", "_functools", "collections", "itertools", "keyword", "reprlib"}
    assert set(done.stdout.split()) <= own | enum | {"__future__", "atexit", "signal", "_collections"}, "signal itself takes enum"


def test_a_second_one_ends_it_at_once() -> None:
    """The first falls where it is held up: a library that tidies up for long."""
    process = start(f"{READY}\n  try: time.sleep(60)\n  finally: time.sleep(60)")
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    before = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, STOPPED + "\n")
    assert time.monotonic() - before < 20


def test_one_while_python_ends_leaves_no_traceback() -> None:
    process = start(f"import atexit; atexit.register(lambda: time.sleep(60)); {READY}; time.sleep(60)")
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, STOPPED + "\n")


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    """As nohup and a shell's & leave it."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER.format(act=f"\n    {READY}; time.sleep(1); return 0")],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert process.stderr is not None
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (0, "")
