"""A price list as a JSON file: `plan --fit` writes it, `plan --prices` reads it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sprint_export.disk_errors import clear_disk_errors
from sprint_export.errors import InputError
from sprint_export.files import write_text
from sprint_export.json_forms import to_json
from sprint_export.paths import read_user_text
from sprint_export.planning.prices import Prices
from sprint_export.strict_json import parse_json

FORMAT = "sprint-export prices 1"
LARGEST = 1e9  # of any rate; what is beyond is no rate of a device


def save_prices(path: Path, prices: Prices, notes: Mapping[str, Any]) -> None:
    """Write a price list, with how it was found.

    Raises:
        InputError: it cannot be written there.
    """
    with clear_disk_errors(path, "choose another --save"):
        write_text(path, json.dumps({"format": FORMAT, **to_json(prices), **notes}, indent=1, allow_nan=False) + "\n")


def read_prices(path: Path) -> Prices:
    """A price list from a file.

    Raises:
        InputError: the file cannot be read, is no price list, or holds a rate that no device has.
    """
    text = read_user_text("--prices", path)
    try:
        value = parse_json(text.encode())
        if value["format"] != FORMAT:
            raise ValueError(f"its format is {value['format']!r}")
        bandwidth = value["gigabytes_per_s"]
        if bandwidth is None and not value["kernel_us"]:
            raise ValueError("neither its bandwidth nor what a kernel takes is known: everything would be free")
        return Prices(
            device=str(value["device"]),
            unit=str(value["unit"]),
            tflops={str(kind): _read_rate(rate) for kind, rate in value["tflops"].items()},
            gigabytes_per_s=None if bandwidth is None else _read_rate(bandwidth),
            kernel_us=_read_rate(value["kernel_us"], least=0.0),
            basis=f"the price list {path}: {value['basis']}",
            fitted=tuple(map(str, value["fitted"])),
        )
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise InputError(
            f"{path}: expected {FORMAT!r}, as `sprint-export plan --fit FILE --save FILE` writes it ({error})"
        ) from error


def _read_rate(value: Any, least: float = 1e-9) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and least <= value <= LARGEST):
        raise ValueError(f"{value!r} is no rate")
    return float(value)
