"""Ctrl-C and SIGTERM in the command: one line and 128 + the signal's number, wherever they fall.

The first signal raises KeyboardInterrupt and is remembered, because Python drops the exception when it falls into a
finalizer, a library's callback or an import that turns it into an ImportError. The second one ends the process at once.
Standard library only, and little of it: this is loaded before all else.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOPPED = "stopped; run the same command again to go on where it stopped"


class _Stop:
    """The first signal that came, and whether its line was said; no dataclass, which would load a dozen modules first."""

    signal: int | None = None
    is_said: bool = False


_stop = _Stop()


def listen() -> None:
    """Take both signals from now on; one that the parent told this process to ignore (nohup, a shell's &) stays ignored."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _note)
    sys.unraisablehook = _report_unraisable
    atexit.register(_leave)  # the first that is registered runs last: after what libraries tidy up


def stopped_by() -> int | None:
    """The signal that asked this process to stop, or None."""
    return _stop.signal


def exit_status() -> int:
    """130 after Ctrl-C, 143 after SIGTERM: what a shell shows for a program that a signal ended."""
    return 128 + (_stop.signal or signal.SIGINT)


def say_stopped() -> None:
    """One line on stderr, once."""
    if not _stop.is_said:
        _stop.is_said = True
        _write(STOPPED)


def forget() -> None:
    """As if no signal had come: where a signal is how one ends a command that serves; and for tests."""
    _stop.signal, _stop.is_said = None, False


def _note(number: int, frame: object) -> None:
    if _stop.signal is not None:
        say_stopped()
        os._exit(exit_status())
    _stop.signal = number
    raise KeyboardInterrupt


def _leave() -> None:
    """End here after a signal: what Python would do next has no handler for another one."""
    if _stop.signal is not None:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                continue  # closed, full or not there: nothing is left to say
        os._exit(exit_status())


def _report_unraisable(args: sys.UnraisableHookArgs) -> None:
    """Python's own report, but none of an interrupt: it is remembered, and acted on at the next report of progress."""
    if not (_stop.signal is not None and issubclass(args.exc_type, KeyboardInterrupt)):
        sys.__unraisablehook__(args)


def _write(text: str) -> None:
    """Past Python's buffers, which may be in use where a signal falls."""
    try:
        os.write(2, f"{text}\n".encode())
    except OSError:
        return  # nobody listens
