"""How the rules about a manifest say what they found."""

from __future__ import annotations


class ManifestError(ValueError):
    """A manifest says what cannot be; the message is what was found and what is expected."""


def demand(holds: bool, what: str, found: object, expected: str) -> None:
    """Raise ManifestError unless it holds."""
    if not holds:
        raise ManifestError(f"{what}: found {_cut(str(found))}, expected {expected}")


def demand_range(what: str, value: float, least: float, most: float) -> None:
    """Raise ManifestError unless `value` is a number from `least` to `most`; NaN is none."""
    demand(least <= value <= most, what, value, f"{least} to {most}")


def _cut(text: str, most: int = 200) -> str:
    return text if len(text) <= most else text[:most] + "..."
