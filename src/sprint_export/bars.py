"""Progress on the terminal: a bar per stage, or a line per stage where stderr is no terminal; and a Ctrl-C that is not lost."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sprint_export.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def progress_bars(console: Console) -> Iterator[Progress]:
    """What stages report their progress to, while the block runs.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed, if only at the next report or the end where a library swallowed it.
    """
    from rich import progress as bars

    tasks: dict[str, bars.TaskID] = {}
    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), bars.MofNCompleteColumn(), bars.TimeElapsedColumn())
    with (
        remember_interrupt() as was_interrupted,
        bars.Progress(*columns, console=console, disable=not console.is_terminal) as display,
    ):

        def tell(stage: str, done: int, total: int) -> None:
            if was_interrupted():
                raise KeyboardInterrupt
            name = stage.split(" ")[0] if stage.startswith(("exporting", "building")) else stage
            if name not in tasks:
                tasks[name] = display.add_task(stage, total=total)
                if not console.is_terminal:
                    console.print(f"{name} ...", markup=False, highlight=False)
            display.update(tasks[name], completed=done, description=stage)

        yield tell
        if was_interrupted():
            raise KeyboardInterrupt


@contextmanager
def remember_interrupt() -> Iterator[Callable[[], bool]]:
    """Ctrl-C as usual, and remembered: Python drops the exception when it falls into a finalizer or a library's callback."""
    seen: list[int] = []

    def note(number: int, frame: object) -> None:
        seen.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(seen)
    finally:
        signal.signal(signal.SIGINT, before)
