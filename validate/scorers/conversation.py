"""A process that is asked in JSON lines on its stdin and answers in JSON lines on its stdout, each within its time.

Whatever it does instead (ends, hangs, prints something else, prints without end) is a ScorerError with a sentence that says so.
It runs in a session of its own, which is ended whole: a hanging scorer leaves no children.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from sprint_export.strict_json import parse_json
from sprint_export.validate.scorers.command import ScorerCommand

START_S = 600.0  # until the first answer: it loads its weights
ANSWER_S = 120.0  # until each of the others
END_S = 10.0  # after the last one, before it is ended
LONGEST_ANSWER = 1_000_000  # bytes of a line
LAST_WORDS = 300  # letters of what it printed on stderr, in a sentence
IN_SENTENCE = 120  # letters of a line that is no answer


class ScorerError(Exception):
    """What a scorer did in place of answering, as a sentence."""


class Conversation:
    """A process, from its start to its end; use it in a `with`.

    Args:
        command: what runs.
        start_s: seconds until the first answer.
        answer_s: seconds until each of the others.
    """

    def __init__(self, command: ScorerCommand, start_s: float = START_S, answer_s: float = ANSWER_S) -> None:
        self.command, self.seconds, self.later_seconds = command, start_s, answer_s
        self._lines: queue.Queue[bytes | None] = queue.Queue(maxsize=4)

    def __enter__(self) -> Conversation:
        self._errors = tempfile.TemporaryFile()  # closed in __exit__
        try:
            self._process = subprocess.Popen(
                self.command.arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,
            )
        except OSError as error:
            self._errors.close()
            raise ScorerError(f"cannot be started ({error})") from error
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        if kind is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_S)
        self._end()
        self._errors.close()

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a question, both objects of JSON.

        Raises:
            ScorerError: there is none in time, or none that is an object.
        """
        data = json.dumps(question).encode() + b"\n"
        threading.Thread(target=self._write, args=(data,), daemon=True).start()  # a pipe that nobody reads takes 64 kB
        seconds, self.seconds = self.seconds, self.later_seconds
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty as error:
            raise ScorerError(f"gave no answer within {seconds:g} s and was ended{self._quote_errors()}") from error
        if line is None:
            raise ScorerError(self._describe_end())
        return self._read_answer(line)

    def _read_answer(self, line: bytes) -> dict[str, Any]:
        if len(line) > LONGEST_ANSWER:
            raise ScorerError(f"answered with a line of more than {LONGEST_ANSWER:,} bytes")
        shown = line[:IN_SENTENCE].decode("utf-8", "replace").strip()
        try:
            value = parse_json(line)
        except ValueError as error:
            raise ScorerError(f"answered {shown!r}, which is no JSON; what is no answer belongs on its stderr") from error
        if not isinstance(value, dict):
            raise ScorerError(f"answered {shown!r}; expected an object")
        return value

    def _write(self, data: bytes) -> None:
        """Give it a line; where it has ended, `_read` says so."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def _read(self) -> None:
        """Pass its lines on, then None; a line without end is passed on once it is too long."""
        assert self._process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            while line := self._process.stdout.readline(LONGEST_ANSWER + 2):
                self._lines.put(line)
        self._lines.put(None)

    def _describe_end(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        status = self._process.poll()
        ended = "closed its stdout" if status is None else f"ended with status {status}"
        return f"{ended} without an answer{self._quote_errors()}"

    def _quote_errors(self) -> str:
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - 4 * LAST_WORDS))
        words = " ".join(self._errors.read().decode("utf-8", "replace").split())
        return f"; its stderr ends: {words[-LAST_WORDS:]}" if words else ""

    def _end(self) -> None:
        """End the process and its children, and let the reading thread go."""
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        self._process.wait()
        deadline = time.monotonic() + END_S
        while self._reader.is_alive() and time.monotonic() < deadline:  # it may wait for room
            with contextlib.suppress(queue.Empty):
                self._lines.get(timeout=0.05)
        if self._process.stdout is not None:
            self._process.stdout.close()
