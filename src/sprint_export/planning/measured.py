"""What `bench --json` measured of a bundle: milliseconds by network, beside which a price stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sprint_export.errors import InputError
from sprint_export.nouns.target import Device
from sprint_export.paths import read_user_text
from sprint_export.strict_json import parse_json

MEDIAN = "latency_p50_ms"
WHOLE = "whole picture"
LEAST, MOST = 1e-6, 1e9  # milliseconds, or MB: what lies beyond was not measured
HELD = ("device_memory_mb", "peak_memory_mb")  # the first that was measured
TOLD_BY = ("laptop", "max", "pro")  # words beside numbers that tell devices apart


@dataclass(frozen=True)
class Measured:
    """One run of `bench`: of which bundle, for which target, on which device as it names itself ("": not said).

    `medians` are milliseconds by network, and of the whole picture; `memory_mb` by the metric's name.
    """

    path: Path
    bundle: str
    target: str
    device: str
    medians: Mapping[str, float]
    memory_mb: Mapping[str, float]

    def fits(self, device: Device) -> bool:
        """Whether it may be of this device: the numbers in the device's title are in what it says; or it says nothing."""
        if not self.device or device.name in (self.device, "cpu"):
            return True
        words, said = _split(device.title.partition(" (")[0]), _split(self.device)
        numbers = {word for word in words if any(letter.isdigit() for letter in word)}
        return numbers <= said and all((word in words) == (word in said) for word in TOLD_BY)


def _split(text: str) -> set[str]:
    return {word.strip(",;()") for word in text.lower().split()}


def read_measured(path: Path) -> Measured:
    """Read what `bench --json` printed.

    Raises:
        InputError: the file cannot be read, or is no such JSON.
    """
    text = read_user_text("--measured", path)
    try:
        value = parse_json(text.encode())
        rows = [row for row in value["rows"] if _is_number(row["value"])]
        medians = {row["component"]: float(row["value"]) for row in rows if row["metric"] == MEDIAN}
        memory = {row["metric"]: float(row["value"]) for row in rows if row["metric"] in HELD}
        found = Measured(
            path, str(value["bundle"]), str(value["target"]), str(value.get("bench", {}).get("device") or ""), medians, memory
        )
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise InputError(f"{path}: expected what `sprint-export bench BUNDLE --json` prints ({error})") from error
    if not found.medians:
        raise InputError(f"{path}: expected rows of {MEDIAN}, found none; sprint-export bench BUNDLE --json > {path.name}")
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and LEAST <= value <= MOST
