"""Covered values: which values of a config's keys are implemented here, and the one line that refuses the others.

A table gives every key its Values. What a checkpoint's config holds beyond a table would be obeyed by the stock classes and not
by us, which is another picture without a word; so it is refused.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sprint_export.errors import InputError

LONGEST = 80  # characters of a value in an error


@dataclass(frozen=True)
class Values:
    """What a key may hold: in words, and as a test."""

    said: str
    holds: Callable[[Any], bool]

    def __or__(self, other: Values) -> Values:
        """Either."""
        return Values(f"{self.said} or {other.said}", lambda value: self.holds(value) or other.holds(value))


Table = Mapping[str, Values]


def show(value: Any) -> str:
    """A value as JSON spells it, cut where it is long."""
    text = {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= LONGEST else text[:LONGEST] + "..."


def one_of(*values: Any) -> Values:
    """These values, of these types; 1.0 is 1, true is not."""
    said = " or ".join(show(value) for value in values)
    return Values(said, lambda value: any(_is_same(value, choice) for choice in values))


def _is_same(value: Any, choice: Any) -> bool:
    if isinstance(value, bool) or isinstance(choice, bool):
        return value is choice
    return (type(value) is type(choice) and bool(value == choice)) or (
        _is_number(value) and _is_number(choice) and value == choice
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def whole(least: int, most: int) -> Values:
    """An integer."""
    return Values(
        f"an integer from {least} to {most}", lambda v: isinstance(v, int) and not isinstance(v, bool) and least <= v <= most
    )


def number(least: float, most: float) -> Values:
    """A finite number, both ends included."""
    return Values(f"a number from {least:g} to {most:g}", lambda v: _is_number(v) and math.isfinite(v) and least <= v <= most)


def listed(values: Values, most: int = 64) -> Values:
    """A list of such values."""
    return Values(
        f"a list of at most {most}, each {values.said}",
        lambda v: isinstance(v, list | tuple) and len(v) <= most and all(values.holds(item) for item in v),
    )


def mapping(table: Table) -> Values:
    """A JSON object with these keys."""
    said = "an object of " + "; ".join(f"{key}: {values.said}" for key, values in table.items())
    return Values(
        said, lambda v: isinstance(v, Mapping) and all(key in table and table[key].holds(item) for key, item in v.items())
    )


NULL = one_of(None)
FLAG = one_of(True, False)
TEXT = Values("text", lambda value: isinstance(value, str))


DIFFUSERS: dict[str, Values] = {"_diffusers_version": TEXT, "_name_or_path": TEXT}  # what diffusers writes into every config


def check_values(file: str, config: Mapping[str, Any], table: Table) -> None:
    """Whether a config holds covered values only.

    Raises:
        InputError: one line with the file, the key, the value found and the values covered.
    """
    for key, value in config.items():
        if key == "auto_map":
            raise InputError(f"{file}: auto_map={show(value)} names code of the checkpoint; it is never run. Remove it")
        if key not in table:
            raise InputError(f"{file}: {key}={show(value)}: this key is not covered; expected one of: {', '.join(sorted(table))}")
        if not table[key].holds(value):
            raise InputError(f"{file}: {key}={show(value)} is not covered; expected {table[key].said}")


def default_values(cls: type) -> dict[str, Any]:
    """What a diffusers class assumes for keys that its config lacks: an older diffusers wrote fewer of them."""
    parameters = inspect.signature(cls.__init__).parameters.values()  # type: ignore[misc]
    return {p.name: p.default for p in parameters if p.default is not p.empty}
