"""What a validation demands and measured: frozen dataclasses that turn into JSON and back (json_forms.py), no libraries."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gate:
    """A demand on one metric; it holds for every row of that name. `reason` is one line of why."""

    metric: str
    sign: str
    limit: float
    reason: str

    @property
    def text(self) -> str:
        """As the user would write it."""
        return f"{self.metric}{self.sign}{self.limit:g}"


@dataclass(frozen=True)
class Measurement:
    """One row of a report. `limit` and `passed` are None where nothing is demanded."""

    metric: str
    value: float
    unit: str
    component: str = ""
    limit: str | None = None
    passed: bool | None = None
    note: str = ""


@dataclass(frozen=True)
class Report:
    """What validation measured: rows, the runtime and machine that ran it, and per-engine kernel summaries."""

    bundle: str
    target: str
    runtime: str
    machine: str
    prompts: int
    rows: tuple[Measurement, ...]

    @property
    def passed(self) -> bool:
        """True when no gate failed."""
        return all(row.passed is not False for row in self.rows)
