"""A comparison as a table for the terminal, best first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sprint_export.nouns.report import Measurement
from sprint_export.validate.comparing.comparison import Comparison, EntryResult
from sprint_export.validate.report import format_number, format_range

if TYPE_CHECKING:
    from rich.table import Table

FIRST = {"psnr_db": "PSNR, dB", "psnr_worst_db": "worst", "ssim": "SSIM"}
LAST = {"latency_p50_ms": "p50, ms", "disk_mb": "MB"}
LEFT_OUT = ("blank_pictures",)  # the verdict has a word on them
NO_COLUMN = ("_reference", "_drop")  # in names: what is the same for all entries, and what another column less that is
DIFFERENCE = "_difference"


def list_columns(comparison: Comparison) -> list[tuple[str, str]]:
    """(metric, heading) of what some entry has; what judges and image metrics measured stands between the usual ones."""
    names = dict.fromkeys(row.metric for each in comparison.entries for row in each.rows if row.metric not in LEFT_OUT)
    others = {
        name: name.replace("_", " ") for name in names if name not in FIRST | LAST and not any(part in name for part in NO_COLUMN)
    }
    return [(name, title) for name, title in (FIRST | others | LAST).items() if name in names]


def name_difference(metric: str) -> str:
    """What a row of differences is of, in words."""
    name = metric.removesuffix(DIFFERENCE)
    return FIRST.get(name, name.replace("_", " "))


def render_table(comparison: Comparison) -> Table:
    """One row an entry."""
    from rich.table import Table
    from rich.text import Text

    student = f"{len(comparison.prompts)} prompts, seeds from {comparison.seed}, against stock PyTorch of {comparison.student}"
    table = Table(title=Text(student), title_justify="left", caption=Text(comparison.machine))
    columns = list_columns(comparison)
    for title in ("", "entry", *(title for _, title in columns), "from the best", "verdict", "what it is"):
        table.add_column(title, justify="right" if title in {name for _, name in columns} else "left", overflow="fold")
    for each in comparison.entries:
        figures = [show_figure(each.find(metric)) for metric, _ in columns]
        cells = (str(each.rank), each.name, *figures, describe_distance(each, comparison), name_verdict(each), each.description)
        table.add_row(*map(Text, cells))  # a name or a title is anybody's: rich would read styles in a plain string
    return table


def show_figure(row: Measurement | None) -> str:
    """A value; nothing where there is none."""
    return "" if row is None else format_number(row.value)


def describe_distance(entry: EntryResult, comparison: Comparison) -> str:
    """How far an entry is from the best in what ranks, with the interval; or that it is the best."""
    if entry.rank == 1:
        return "the best"
    row = next((row for row in entry.against_best if row.metric == f"{comparison.ranked_by}_difference"), None)
    if row is None:
        return ""
    return f"{row.value:+.3g}" + (f" ({format_range(row)})" if row.interval else "")


def name_verdict(entry: EntryResult) -> str:
    """Blank pictures first, then what the gates say."""
    blank = f"{len(entry.faults)} BLANK, " if entry.faults else ""
    front = ", on the front" if entry.is_on_front else ""
    return f"{blank}{entry.verdict}{front}"


def list_complaints(comparison: Comparison) -> list[str]:
    """A line for each entry whose gates are not met or not decided: what was found and demanded."""
    return [f"{each.name}: {each.verdict}: {_explain(each)}" for each in comparison.entries if each.verdict != "met"]


def _explain(entry: EntryResult) -> str:
    """The rows that decide an entry's verdict; what it has no row for is said so."""
    rows = [row for row in entry.rows if row.verdict == entry.verdict]
    told = [
        f"{row.metric} is {format_number(row.value)}"
        + (f" ({format_range(row)} at 95 %)" if row.interval else "")
        + f", demanded {row.limit}"
        + (f"; {row.needed} pictures like these would decide it" if row.needed else "")
        for row in rows
    ]
    return ", ".join(told) or "a gate is on what nobody measured of it"
