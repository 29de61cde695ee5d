"""Reports as Markdown for a CI service's summary page: the verdict, the gates, then all rows, folded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.report import Measurement, Report
from sprint_export.streams import clean_text
from sprint_export.validate.report import format_number, format_range

MARKS = {"met": "✅ met", "not met": "❌ **not met**", "not decided": "❔ **not decided**"}
SPECIAL = "\\`*_{}[]<>|#~$!&"  # what Markdown or HTML would read as a sign


def format_markdown(results: Sequence[Report | Bundle]) -> str:
    """The text of a Markdown file."""
    return "\n\n".join(_describe_bundle(each) if isinstance(each, Bundle) else _describe_report(each) for each in results) + "\n"


def _describe_bundle(bundle: Bundle) -> str:
    return f"### {escape(f'{bundle.target}-{bundle.precision}')}: not validated\n\n{escape(str(bundle.folder))}"


def _describe_report(report: Report) -> str:
    gated = [row for row in report.rows if row.verdict is not None]
    verdict = MARKS[report.verdict] if gated else "no gates"
    parts = [
        f"### {escape(report.target)}: {verdict}",
        f"{report.prompts} drawn on {escape(report.runtime)}; {escape(report.machine)}; {escape(report.bundle)}",
    ]
    if gated:
        parts.append(_tabulate(("gate", "verdict", "found", "95 %"), map(_list_gate, gated)))
    if report.unchecked:
        parts.append("\n".join(["Not checked:", "", *(f"- {escape(each)}" for each in report.unchecked)]))
    table = _tabulate(("metric", "of", "value", "95 %", "what it is"), map(_list_row, report.rows))
    parts.append(f"<details><summary>All {len(report.rows)} rows</summary>\n\n{table}\n\n</details>")
    return "\n\n".join(parts)


def _list_gate(row: Measurement) -> list[str]:
    owner = f" of {row.component}" if row.component else ""
    return [escape(f"{row.limit}{owner}"), MARKS[row.verdict or "met"], escape(_value(row)), format_range(row)]


def _list_row(row: Measurement) -> list[str]:
    return [escape(row.metric), escape(row.component), escape(_value(row)), format_range(row), escape(row.note)]


def _value(row: Measurement) -> str:
    return f"{format_number(row.value)} {row.unit}".rstrip()


def _tabulate(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape(text: str) -> str:
    """Text that is shown as it is: on one line, no sign of Markdown or HTML in it, no control characters."""
    flat = clean_text(" ".join(text.split())).encode("utf-8", "replace").decode()  # a lone surrogate is no text
    return "".join(f"&#{ord(letter)};" if letter in SPECIAL else letter for letter in flat)
