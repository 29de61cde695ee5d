"""Progress on the terminal: a bar per stage, with what is left of its time; a line per stage where stderr is no terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from rich import progress as rich_progress
from rich.text import Text

from sprint_export.cli.time_left import RunTime
from sprint_export.interrupts import stopped_by
from sprint_export.progress import Progress, Step

if TYPE_CHECKING:
    from rich.console import Console

JOINED = ("loading", "exporting", "building", "packing")  # stages with one bar for all their details
IN_BYTES = ("exporting",)
SPEED_PERIOD_S = 600.0  # a stage may have three steps of a minute each
LEAST_LEFT_S = 2.0


class TimeLeft(rich_progress.ProgressColumn):
    """What is left of a stage by its speed so far, before a first step is done by `run`; and behind it of the whole run."""

    def __init__(self, run: RunTime | None = None) -> None:
        super().__init__()
        self.run = run or RunTime()

    def render(self, task: rich_progress.Task) -> Text:
        """e.g. `about 0:01:20 left, of all 0:12:00`; nothing at the end."""
        step, now = task.fields.get("step"), task.get_time()
        left = task.time_remaining if task.completed else None
        if left is None and step is not None:
            left = self.run.left_of(step, now)
        if task.finished or left is None or left < LEAST_LEFT_S:
            return Text("")
        behind = self.run.left_behind() if step is not None and self.run.name(step) == self.run.now else 0.0
        whole = f", of all {timedelta(seconds=int(left + behind))}" if behind > LEAST_LEFT_S else ""
        return Text(f"about {timedelta(seconds=int(left))} left{whole}", style="progress.remaining")


class Done(rich_progress.MofNCompleteColumn):
    """`3/24`, or of a stage that counts bytes `1.25/13.60 GB`."""

    def render(self, task: rich_progress.Task) -> Text:
        """Of one stage."""
        step = task.fields.get("step")
        if step is None or step.stage not in IN_BYTES or task.total is None:
            return super().render(task)
        return Text(f"{task.completed / 1e9:.2f}/{task.total / 1e9:.2f} GB", style="progress.download")


@dataclass
class StageLines:
    """One line per stage, for a log; with its seconds where `is_timed`."""

    console: Console
    is_timed: bool
    started: dict[Step, float] = field(default_factory=dict)

    def tell(self, step: Step, done: int, total: int) -> None:
        """Say that a stage begins, and that it ended."""
        if step not in self.started:
            self.started[step] = time.monotonic()
            self.console.print(f"{step} ...", markup=False, highlight=False)
        elif done == total and self.is_timed:
            seconds = time.monotonic() - self.started[step]
            self.console.print(f"{step}: {seconds:.1f} s", markup=False, highlight=False)


def shows_bars(console: Console, is_quiet: bool) -> bool:
    """Whether there is somebody to show bars to."""
    return console.is_terminal and not is_quiet


@contextmanager
def progress_bars(
    console: Console, is_quiet: bool = False, is_timed: bool = False, run: RunTime | None = None
) -> Iterator[Progress]:
    """What stages report their progress to, while the block runs.

    Args:
        console: of stderr.
        is_quiet: show nothing.
        is_timed: where there is no terminal, say the seconds of each stage too.
        run: what its stages are expected to take; may be filled while the block runs.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed, if only at the next report or the end where a library swallowed it.
    """
    columns = (
        rich_progress.SpinnerColumn(),
        rich_progress.TextColumn("{task.description}", markup=False),  # it may hold names of files
        rich_progress.BarColumn(),
        Done(),
        rich_progress.TimeElapsedColumn(),
        TimeLeft(run),
    )
    tasks: dict[Step, rich_progress.TaskID] = {}
    lines = StageLines(console, is_timed)
    hidden = not shows_bars(console, is_quiet)
    with rich_progress.Progress(*columns, console=console, disable=hidden, speed_estimate_period=SPEED_PERIOD_S) as display:

        def tell(step: Step, done: int, total: int) -> None:
            _stop_if_asked()
            bar = replace(step, detail="") if step.stage in JOINED else step
            if hidden and not is_quiet:
                lines.tell(bar, done, total)
            if bar not in tasks:
                tasks[bar] = display.add_task(str(step), total=total, step=bar)
                if run is not None:
                    run.tell(bar, display.get_time())
            display.update(tasks[bar], completed=done, total=total, description=str(step))

        yield tell
        _stop_if_asked()


def _stop_if_asked() -> None:
    if stopped_by() is not None:
        raise KeyboardInterrupt
