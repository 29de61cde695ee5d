"""JSON of unknown origin: read whole or refused, with one meaning only.

Python's own reader takes NaN and Infinity, lets the last of two equal keys win, makes integers of any length and nests as deep as
its stack, which whoever then prints or compares the value has less of. Here each of these is an error, and so is a number that
float64 or int64 cannot hold. `hash_json` is a hash of what a value says, however
it is laid out. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

MOST_DIGITS = 19  # of an int64
TOO_DEEP = "it is nested too deep"
DEEPEST = 64  # of lists and objects within each other; what this package writes has under 12


def parse_json(data: bytes) -> Any:
    """The value that UTF-8 encoded JSON stands for.

    Raises:
        ValueError: it is not JSON, not UTF-8, or says something twice or without bounds; nested too deep is among these.
    """
    try:
        value = json.loads(
            data.decode("utf-8"),
            parse_constant=_refuse_constant,
            parse_int=_read_int,
            parse_float=_read_float,
            object_pairs_hook=_read_object,
        )
    except RecursionError as error:
        raise ValueError(TOO_DEEP) from error
    check_depth(value)
    return value


def check_depth(value: Any) -> None:
    """Refuse a JSON value that is nested deeper than DEEPEST: no recursion, and a pass over it for each level.

    Raises:
        ValueError: it is.
    """
    level = [value]
    for _ in range(DEEPEST):
        within = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level = [item for items in within for item in items if isinstance(item, dict | list)]
        if not level:
            return
    raise ValueError(TOO_DEEP)


def hash_json(value: Mapping[str, Any]) -> str:
    """sha256 of an object's canonical form: keys sorted, no spaces, ASCII."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _read_int(digits: str) -> int:
    if len(digits.lstrip("-")) > MOST_DIGITS or not -(2**63) <= (value := int(digits)) < 2**63:
        raise ValueError(f"the number {digits[:24]}... has {len(digits)} digits, more than 64 bits hold")
    return value


def _read_float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {digits[:24]}... is beyond what 64 bits hold")
    return value


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands there twice")
        found[key] = value
    return found
