"""Ctrl-C is not lost, even where the exception it raises is swallowed."""

from __future__ import annotations

import contextlib
import io
import signal

import pytest
from rich.console import Console

from sprint_export.bars import progress_bars


def press_ctrl_c_where_it_is_swallowed() -> None:
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_swallowed_interrupt_is_raised_at_the_next_report() -> None:
    before, reports = signal.getsignal(signal.SIGINT), []
    with pytest.raises(KeyboardInterrupt), progress_bars(Console(file=io.StringIO())) as progress:
        progress("exporting", 0, 2)
        press_ctrl_c_where_it_is_swallowed()
        reports.append("before")
        progress("exporting", 1, 2)
        reports.append("after")
    assert reports == ["before"]
    assert signal.getsignal(signal.SIGINT) is before


def test_or_at_the_end() -> None:
    with pytest.raises(KeyboardInterrupt), progress_bars(Console(file=io.StringIO())):
        press_ctrl_c_where_it_is_swallowed()


def test_stages_are_lines_where_there_is_no_terminal() -> None:
    text = io.StringIO()
    with progress_bars(Console(file=text)) as progress:
        for stage, done in (("exporting text_encoder", 0), ("exporting transformer", 1), ("drawing", 0)):
            progress(stage, done, 2)
    assert text.getvalue().splitlines() == ["exporting ...", "drawing ..."]
