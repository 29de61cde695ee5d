"""What a bundle must reach, with one line of why, and how a user says otherwise: 'psnr_db>=30'."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from sprint_export.errors import InputError
from sprint_export.nouns.report import Gate, Measurement
from sprint_export.validate.metrics import find_metric

_OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_FORM = re.compile(r"\s*([a-z0-9_-]+?)\s*(>=|<=|>|<)\s*([-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?)\s*")


_FLOAT = (
    Gate("psnr_db", ">=", 75.0, "float32 on both sides: right exports measure 86 dB and more; a norm 1 % off 46 to 75"),
    Gate(
        "converter_psnr_db",
        ">=",
        90.0,
        "networks on equal inputs: right exports measure 99 dB and more; a norm's gain 1 % off 42 to 84, a channel lost 21 to 87",
    ),
    Gate("adherence_drop_points", "<=", 1.0, "and shows the same things"),
)
_HALF = (
    Gate("psnr_db", ">=", 35.0, "weights rounded to 16 bits; 35 dB is invisible side by side"),
    Gate("adherence_drop_points", "<=", 1.0, "and shows the same things"),
)
_QUANTIZED = (
    Gate(
        "psnr_db",
        ">=",
        25.0,
        "8-bit weights and activations; published W8A8 of few-step models is near 23 dB (SVDQuant, FLUX.1-schnell)",
    ),
    Gate("adherence_drop_points", "<=", 2.0, "the picture may change, what it shows may not"),
    Gate("quantized_share", ">=", 0.9, "a bundle called 8-bit has its matmul and 1x1-convolution weights in 8 bits"),
)
_SMALL = (
    Gate("psnr_db", ">=", 20.0, "6 and 4 bits a weight: visible side by side, but the same picture"),
    Gate(
        "adherence_drop_points",
        "<=",
        2.0,
        "4-bit text encoders are known to lose the prompt (FLUX.2 klein on Core AI); this one may not",
    ),
    _QUANTIZED[2],
)
_SOUND = (
    Gate("departures", "<=", 0.0, "an operation that does not give what PyTorch gives is a mistake, however good the picture"),
    Gate("infinities", "<=", 0.0, "half precision overflowed somewhere, and a device need not forgive it as this machine did"),
    Gate("nans", "<=", 0.0, "and this would be seen in the picture"),
)
DEFAULT_GATES = {
    "fp32": (*_FLOAT, *_SOUND),
    **dict.fromkeys(("fp16", "bf16"), (*_HALF, *_SOUND)),
    **dict.fromkeys(("int8", "fp8", "w8a8", "w8a16"), (*_QUANTIZED, *_SOUND)),
    **dict.fromkeys(("w6", "w4", "int4"), (*_SMALL, *_SOUND)),
}
WHOLE = ("fast", "balanced")  # recipes that quantize all that a kernel is faster for, or all but the doors


def add_defaults(gates: Sequence[Gate], precision: str, recipe: str | None = None) -> tuple[Gate, ...]:
    """The precision's default gates, with the user's in place of those on the same metric; all the user's hold.

    A recipe other than the presets in `WHOLE` leaves layers in float on purpose: of its bundle no share is demanded.
    """
    is_whole = recipe is None or recipe.removeprefix(f"{precision}-") in WHOLE
    replaced = {gate.metric for gate in gates} | (set() if is_whole else {"quantized_share"})
    defaults = DEFAULT_GATES.get(precision, ())  # an altered manifest may name any precision
    return (*(gate for gate in defaults if gate.metric not in replaced), *gates)


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
    return replace(row, limit=" and ".join(gate.text for gate in gates), passed=bool(passed))
