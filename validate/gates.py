"""What a bundle must reach, with one line of why, and how a user says otherwise: 'psnr_db>=30'."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from sprint_export.errors import InputError
from sprint_export.nouns.report import Gate, Measurement
from sprint_export.quantize.schemes.gates import SHARE
from sprint_export.quantize.schemes.scheme import load_scheme
from sprint_export.validate.metrics import find_metric

OPEN = "so few pictures leave the gate open"  # its limit lies within the row's interval
_OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_FORM = re.compile(r"\s*([a-z0-9_-]+?)\s*(>=|<=|>|<)\s*([-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?)\s*")


def add_defaults(gates: Sequence[Gate], scheme: str, is_whole: bool = True, of_target: Sequence[Gate] = ()) -> tuple[Gate, ...]:
    """The scheme's and the target's default gates, with the user's in place of those on the same metric; all the user's hold.

    A recipe that is not whole leaves layers in float on purpose: of its bundle no share is demanded.
    """
    replaced = {gate.metric for gate in gates} | (set() if is_whole else {SHARE.metric})
    return (*(gate for gate in (*load_scheme(scheme).gates, *of_target) if gate.metric not in replaced), *gates)


def read_gates(demands: Iterable[str | Gate]) -> tuple[Gate, ...]:
    """The user's own gates, each once.

    Raises:
        InputError: a text is not of the form metric>=number.
    """
    return tuple(dict.fromkeys(demand if isinstance(demand, Gate) else _read_gate(demand) for demand in demands))


def _read_gate(text: str) -> Gate:
    match = _FORM.fullmatch(text)
    if match is None:
        raise InputError(f"gate {text!r} is not of the form metric>=number, e.g. 'psnr_db>=30' or 'adherence_drop_points<=2'")
    return Gate(match[1], match[2], float(match[3]), "asked for")


def apply_gates(rows: Iterable[Measurement], gates: Sequence[Gate], asked: Sequence[Gate] = ()) -> tuple[Measurement, ...]:
    """Mark every row that gates speak about as passed, where it meets all of them, or not; NaN meets none.

    Raises:
        InputError: one of the gates the user asked for speaks about no row.
    """
    rows = tuple(rows)
    names = {row.metric for row in rows}
    for gate in asked:
        if gate.metric not in names:
            known = find_metric(gate.metric)
            why = f" (it takes {known.needs})" if known is not None and known.needs else ""
            raise InputError(f"gate metric {gate.metric!r} is not in this report{why}; choose from: {', '.join(sorted(names))}")
    return tuple(_judge(row, [gate for gate in gates if gate.metric == row.metric]) for row in rows)


def _judge(row: Measurement, gates: Sequence[Gate]) -> Measurement:
    if not gates:
        return row
    passed = all(_OPERATORS[gate.sign](row.value, gate.limit) for gate in gates)
    low, high = row.interval or (math.inf, -math.inf)
    note = f"{row.note}; {OPEN}" if any(low <= gate.limit <= high for gate in gates) else row.note
    return replace(row, limit=" and ".join(gate.text for gate in gates), verdict="met" if passed else "not met", note=note)
