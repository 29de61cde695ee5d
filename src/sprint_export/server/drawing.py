"""The one thread that draws: requests wait for it in a queue with a bound, and those that nobody waits for are passed over."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sprint_export.picture_files import Making, encode_png
from sprint_export.progress import Step
from sprint_export.server.picture_request import PictureRequest
from sprint_export.server.refusals import RefusalError

if TYPE_CHECKING:
    from sprint_export.session import Pipeline

Pngs = list[bytes]
FIRST_GUESS_S = 1.0  # of a picture, before one was drawn
NEW, OLD = 0.2, 0.8  # weights of a picture's seconds in their running mean


@dataclass
class Job:
    """A request on its way to its PNGs; `is_left` once nobody waits for them."""

    request: PictureRequest
    result: Future[Pngs] = field(default_factory=Future)
    is_left: bool = False


@dataclass
class Counts:
    """What was done since the server was started."""

    requests: int = 0  # that came as far as the queue
    pictures: int = 0
    refused: int = 0  # for want of room
    left: int = 0  # by their clients
    failed: int = 0
    seconds: float = 0.0  # of drawing


class _LeftError(Exception):
    """Ends a drawing whose client left."""


class Drawer:
    """Draws what is asked for, in turn, in a thread of its own.

    Args:
        pipeline: used by that thread alone.
        making: what all pictures have in common.
        most_waiting: jobs in the queue, beside the one that is drawn or about to be.
    """

    def __init__(self, pipeline: Pipeline, making: Making, most_waiting: int) -> None:
        self.counts = Counts()
        self._pipeline, self._making, self._most = pipeline, making, most_waiting
        self._jobs: deque[Job] = deque()
        self._changed, self._is_closing, self._picture_s = threading.Condition(), False, FIRST_GUESS_S
        self._is_drawing = False
        self._thread = threading.Thread(target=self._work, name="drawing", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return len(self._jobs)

    def submit(self, request: PictureRequest) -> Job:
        """Put a request into the queue.

        Raises:
            RefusalError: 429, the queue is full; 503, the server is being stopped.
        """
        job = Job(request)
        with self._changed:
            if self._is_closing:
                raise RefusalError(503, "the server is being stopped; try again later", code="server_stopping", retry_seconds=10)
            # The next job is the thread's already, whether or not it has woken to take it.
            if len(self._jobs) - (not self._is_drawing) >= self._most:
                self.counts.refused += 1
                wait = max(1, round(self._picture_s * sum(each.request.count for each in self._jobs)))
                message = f"{len(self._jobs)} requests wait already; try again in {wait} s"
                raise RefusalError(429, message, code="queue_full", retry_seconds=wait)
            self.counts.requests += 1
            self._jobs.append(job)
            self._changed.notify()
        return job

    def leave(self, job: Job) -> None:
        """Nobody waits for a job any more: it gives its place up, or stops after the network that runs."""
        with self._changed:
            job.is_left = True
            if job in self._jobs:
                self._jobs.remove(job)
            self.counts.left += 1

    def close(self) -> None:
        """Take nothing more, draw what waits, and end the thread."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while (job := self._take()) is not None:
            if not job.result.set_running_or_notify_cancel():
                continue
            try:
                pngs = self._draw(job)
            except _LeftError as left:
                job.result.set_exception(left)
            except Exception as error:  # whatever it is, it is this request's; the thread serves the next one
                self.counts.failed += 1
                job.result.set_exception(error)
            else:
                job.result.set_result(pngs)

    def _take(self) -> Job | None:
        """The next job; None once the server is closed and none is left."""
        with self._changed:
            self._is_drawing = False
            self._changed.wait_for(lambda: self._jobs or self._is_closing)
            self._is_drawing = bool(self._jobs)
            return self._jobs.popleft() if self._jobs else None

    def _draw(self, job: Job) -> Pngs:
        """The pictures of a job; who left is noticed between two networks' calls."""
        request, start = job.request, time.perf_counter()
        asked = {name: size for name in ("height", "width") if (size := getattr(request, name)) is not None}
        pipeline = replace(self._pipeline, steps=request.steps)

        def look(step: Step, done: int, total: int) -> None:
            if job.is_left:
                raise _LeftError

        try:
            pictures = pipeline([request.prompt], seed=request.seed, progress=look, count=request.count, **asked)
        finally:
            pipeline.seconds.clear()  # else every call of a network is remembered for good
        making = replace(self._making, prompt=request.prompt, steps=request.steps, size=(pictures.shape[2], pictures.shape[1]))
        pngs = [encode_png(picture, replace(making, seed=request.seed + i)) for i, picture in enumerate(pictures)]
        self._count(time.perf_counter() - start, len(pngs))
        return pngs

    def _count(self, seconds: float, pictures: int) -> None:
        each = seconds / pictures
        self._picture_s = OLD * self._picture_s + NEW * each if self.counts.pictures else each
        self.counts.pictures += pictures
        self.counts.seconds += seconds
