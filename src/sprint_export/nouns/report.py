"""What a validation demands and measured: frozen dataclasses that turn into JSON and back (json_forms.py), no libraries."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Measurement:
    """One row of a report. `limit` and `passed` are None where nothing is demanded.

    `interval` is where the mean over all prompts lies with 95 % confidence, as far as the drawn ones say; None where they say
    nothing, or the value is no mean.
    """

    metric: str
    value: float
    unit: str
    component: str = ""
    limit: str | None = None
    passed: bool | None = None
    note: str = ""
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Gate:
    """A demand on one metric; it holds for every row of that name."""

    metric: str
    sign: str
    limit: float
    reason: str

    @property
    def text(self) -> str:
        """As the user would write it."""
        return f"{self.metric}{self.sign}{self.limit:g}"


@dataclass(frozen=True)
class Metric:
    """The name of a row; one that ends in * stands for all that begin so. `needs` says in words what the row takes."""

    name: str
    needs: str = ""

    def fits(self, name: str) -> bool:
        """Whether a row of this name is one of this metric's."""
        return name.startswith(self.name[:-1]) and len(name) >= len(self.name) if self.name.endswith("*") else name == self.name


@dataclass(frozen=True)
class Finding:
    """What a session noticed by itself while it ran; of a network in parts the sum counts, or the largest."""

    metric: str
    value: float
    unit: str
    note: str = ""
    is_largest: bool = False

    def join(self, other: Finding) -> Finding:
        """Both as one: the note of the first that found something."""
        value = max(self.value, other.value) if self.is_largest else self.value + other.value
        return replace(self if self.value else other, value=value)

    def as_row(self, role: str) -> Measurement:
        """The row of a report."""
        return Measurement(self.metric, self.value, self.unit, role, note=self.note)


@dataclass(frozen=True)
class Report:
    """What validation measured: rows, the runtime and machine that ran it, how many prompts it drew and in how many seconds."""

    bundle: str
    target: str
    runtime: str
    machine: str
    prompts: int
    rows: tuple[Measurement, ...]
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """True when no gate failed."""
        return all(row.passed is not False for row in self.rows)
