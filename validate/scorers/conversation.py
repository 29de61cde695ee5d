"""A process that is asked in JSON lines on its stdin and answers in JSON lines on its stdout, each within its time.

Whatever it does instead (ends, hangs, prints something else, prints without end) is a ScorerError with a sentence that says so.
It runs in a session of its own, which is ended whole: a hanging scorer leaves no children. Its pipes are each a thread's alone: a
child that left the session may hold one open for ever, and then nobody waits for that thread.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
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
LEAVE_S = 2.0  # for threads, once it has ended
BLOCK = 1 << 16
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
        self._questions: queue.Queue[bytes | None] = queue.Queue()
        self._lines: queue.Queue[bytes | None] = queue.Queue(maxsize=4)
        self._last_words = b""

    def __enter__(self) -> Conversation:
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(self.command.arguments, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
        except OSError as error:
            raise ScorerError(f"cannot be started ({error})") from error
        self._threads = [threading.Thread(target=act, daemon=True) for act in (self._write, self._read, self._listen)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._questions.put(None)
        if kind is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_S)
        self._end()

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a question, both objects of JSON.

        Raises:
            ScorerError: there is none in time, or none that is an object.
        """
        self._questions.put(json.dumps(question).encode() + b"\n")
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

    def _write(self) -> None:
        """Give it the questions, then close its stdin; a pipe that nobody reads takes 64 kB. Where it ended, `_read` says so."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError), self._process.stdin as pipe:
            while data := self._questions.get():
                pipe.write(data)
                pipe.flush()

    def _read(self) -> None:
        """Pass its lines on, then None; a line without end is passed on once it is too long."""
        assert self._process.stdout is not None
        with contextlib.suppress(OSError), self._process.stdout as pipe:
            while line := pipe.readline(LONGEST_ANSWER + 2):
                self._lines.put(line)
        self._lines.put(None)

    def _listen(self) -> None:
        """Keep the end of what it says on stderr, however much that is."""
        assert self._process.stderr is not None
        with contextlib.suppress(OSError), self._process.stderr as pipe:
            while data := os.read(pipe.fileno(), BLOCK):
                self._last_words = (self._last_words + data)[-4 * LAST_WORDS :]

    def _describe_end(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        status = self._process.poll()
        ended = "closed its stdout" if status is None else f"ended with status {status}"
        return f"{ended} without an answer{self._quote_errors()}"

    def _quote_errors(self) -> str:
        if self._process.poll() is not None:
            self._threads[2].join(LEAVE_S)  # it has said all
        words = " ".join(self._last_words.decode("utf-8", "replace").split())
        return f"; its stderr ends: {words[-LAST_WORDS:]}" if words else ""

    def _end(self) -> None:
        """End the process and its children, and let the threads go."""
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        self._process.wait()
        deadline = time.monotonic() + LEAVE_S
        while any(thread.is_alive() for thread in self._threads) and time.monotonic() < deadline:
            with contextlib.suppress(queue.Empty):
                self._lines.get(timeout=0.05)  # the reader may wait for room
