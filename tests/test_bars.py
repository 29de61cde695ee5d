"""Progress: a line per stage without a terminal, a bar with what is left of its time with one; a Ctrl-C is not lost."""

from __future__ import annotations

import contextlib
import io
import signal
from collections.abc import Iterator

import pytest
from rich.console import Console

from sprint_export import interrupts
from sprint_export.cli.bars import TimeLeft, progress_bars
from sprint_export.progress import Step


@pytest.fixture
def listening() -> Iterator[None]:
    """The command's handler of Ctrl-C, for one test."""
    before = signal.signal(signal.SIGINT, interrupts._note)
    yield
    interrupts.forget()
    signal.signal(signal.SIGINT, before)


def press_ctrl_c_where_it_is_swallowed() -> None:
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_swallowed_interrupt_is_raised_at_the_next_report(listening: None) -> None:
    reports = []
    with pytest.raises(KeyboardInterrupt), progress_bars(Console(file=io.StringIO())) as progress:
        progress(Step("exporting"), 0, 2)
        press_ctrl_c_where_it_is_swallowed()
        reports.append("before")
        progress(Step("exporting"), 1, 2)
        reports.append("after")
    assert reports == ["before"]
    assert interrupts.stopped_by() == signal.SIGINT
    assert interrupts.exit_status() == 130


def test_or_at_the_end(listening: None) -> None:
    with pytest.raises(KeyboardInterrupt), progress_bars(Console(file=io.StringIO())):
        press_ctrl_c_where_it_is_swallowed()


def test_stages_are_lines_where_there_is_no_terminal() -> None:
    text = io.StringIO()
    with progress_bars(Console(file=text)) as progress:
        for stage, detail in (
            ("loading", "torch"),
            ("loading", "diffusers"),
            ("exporting", "a"),
            ("drawing", ""),
            ("smoothing", "a"),
        ):
            progress(Step(stage, detail), 0, 2)
    assert text.getvalue().splitlines() == ["loading ...", "exporting ...", "drawing ...", "smoothing: a ..."]


def test_quiet_says_nothing_and_verbose_says_the_seconds() -> None:
    said = {}
    for name in ("quiet", "verbose"):
        text = io.StringIO()
        with progress_bars(Console(file=text), name == "quiet", name == "verbose") as progress:
            progress(Step("drawing"), 0, 1)
            progress(Step("drawing"), 1, 1)
        said[name] = text.getvalue().splitlines()
    assert said["quiet"] == []
    assert said["verbose"][0] == "drawing ..."
    assert said["verbose"][1].startswith("drawing: 0.")


def test_a_bar_says_what_is_left_once_a_step_is_done() -> None:
    from rich.progress import Progress

    now = [0.0]
    display = Progress(TimeLeft(), get_time=lambda: now[0], disable=True, speed_estimate_period=600)
    task = display.add_task("exporting", total=4)
    assert TimeLeft().render(display.tasks[0]).plain == ""
    for step in (1, 2, 3):
        now[0] = 30.0 * step
        display.update(task, completed=step)
    assert TimeLeft().render(display.tasks[0]).plain == "about 0:00:30 left"
    display.update(task, completed=4)
    assert TimeLeft().render(display.tasks[0]).plain == ""


def test_a_terminal_shows_a_bar_at_once() -> None:
    text = io.StringIO()
    with progress_bars(Console(file=text, force_terminal=True, width=100)) as progress:
        progress(Step("loading", "torch"), 0, 3)
    assert "loading: torch" in text.getvalue()
    assert "0/3" in text.getvalue()
