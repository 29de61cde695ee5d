"""Where does a package leave PyTorch? The first op whose result is not PyTorch's, by teacher forcing.

coremltools names MIL values after the nodes of the exported program, so PyTorch's values are known by name. Every named value
is compared and then replaced by PyTorch's, so that errors do not pile up: an op sees exactly what PyTorch's saw. Nothing is
rounded to 16 bits here; what is left is the rounding of constants. Where sources.py knows what was rounded it is taken back, for
the rest allowance.py says how much that may be. An op without such a rest is held to about 1e-5, which tells one GELU form from
the other even in a float16 package. How a rest was rounded is drawn at random: a departure is one under every draw.

A name may belong to another value: coremltools counts the values it names itself and may keep a value in another layout. A
value that is nothing like PyTorch's is therefore a suspect first, and goes on as computed. It is guilty if what is made of it is
right with PyTorch's value in its place; it is cleared if that is right with the computed one and wrong with PyTorch's; one that
is neither by the end is reported.

    values = record_values(exported, arguments)
    departure = find_departure(Evaluator(package), values, feeds, read_sources(exported, values))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from sprint_export.runtimes.coreml.mil.allowance import (
    INPUT_STEP,
    NEAR_ONE,
    Excess,
    draw_alike,
    find_excess,
    half_unit,
    is_filled_in,
    is_lost_factor,
    is_unlike,
)
from sprint_export.runtimes.coreml.mil.constants import feeding_weights, read_constant
from sprint_export.runtimes.coreml.mil.evaluate import Evaluator, compute_op
from sprint_export.runtimes.coreml.mil.program import Op, Value
from sprint_export.runtimes.coreml.mil.record import find_value
from sprint_export.runtimes.coreml.mil.sources import Sources, recover

LOOK_UP = "gather"  # moves what it found and not its table, of which a vocabulary's is a quarter of a text encoder
DRAWS = 4  # of how constants were rounded; the first alone where it finds nothing


@dataclass(frozen=True)
class Departure:
    """The op where a package leaves PyTorch.

    `measure` says which error is over its tolerance: "largest" (of max |value|) or "rms" (of rms |value|).
    `weights` are the constants in the weights file that take part, since the last value that PyTorch has a name for.
    """

    op: str
    op_type: str
    value: str
    measure: str
    error: float
    tolerance: float
    weights: tuple[str, ...]

    def __str__(self) -> str:
        made_of = f", made of {', '.join(self.weights)}" if self.weights else ""
        return (
            f"op {self.op!r} ({self.op_type}) gives {self.value!r} with a {self.measure} error of {self.error:.3g}, "
            f"allowed {self.tolerance:.3g}{made_of}"
        )


def find_departure(
    evaluator: Evaluator,
    reference: Mapping[str, Tensor],
    feeds: Mapping[str, npt.NDArray[Any]],
    sources: Sources = Sources(),  # noqa: B008  # frozen
    seed: int = 0,
) -> Departure | None:
    """The first op of the package whose result is not PyTorch's, or None.

    Args:
        evaluator: the package.
        reference: from `record_values`, on the same inputs; for a compressed package from a module with the weights (and
            activations) rounded as the package rounds them.
        feeds: the inputs.
        sources: what the package's constants were rounded from, from `read_sources`.
        seed: of the moves that measure what rounding may do.
    """
    departure = None
    for draw in range(DRAWS):
        departure = _Search(evaluator, reference, sources, seed + draw).run(feeds)
        if departure is None:
            break
    return departure


@dataclass(frozen=True)
class _Held:
    """A value in flight: as computed, as computed from moved operands, and as it would be with PyTorch's values for suspects."""

    plain: Any  # a tensor, or a text constant
    moved: Any
    claimed: Any = None
    weights: tuple[str, ...] = ()
    suspects: tuple[Departure, ...] = ()


class _Search:
    def __init__(self, evaluator: Evaluator, reference: Mapping[str, Tensor], sources: Sources, seed: int) -> None:
        self._evaluator = evaluator
        self._program = evaluator.program
        self._reference = reference
        self._sources = sources
        self._random = torch.Generator().manual_seed(seed)
        self._suspects: list[Departure] = []
        self._constants = {*self._program.constants, *self._program.compressed}

    @torch.no_grad()
    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> Departure | None:
        values = {value.name: self._take(tensor) for value, tensor in self._evaluator.read_feeds(feeds)}
        last_use = {name: i for i, op in enumerate(self._program.ops) for name in op.operands}
        for i, op in enumerate(self._program.ops):
            held = {name: values[name] if name in values else self._read_constant(name, op) for name in op.operands}
            for value, result in self._compute(op, held):
                values[value.name], guilty = self._judge(op, value, result, held)
                if guilty is not None:
                    return guilty
            for name in op.operands:
                if last_use[name] <= i:
                    values.pop(name, None)
        return self._suspects[0] if self._suspects else None

    def _compute(self, op: Op, held: Mapping[str, _Held]) -> list[tuple[Value, _Held]]:
        plain = self._run_op(op, {name: one.plain for name, one in held.items()})
        moved = self._run_op(op, {name: one.moved for name, one in held.items()})
        if op.type == LOOK_UP and op.inputs["x"][0] in self._constants:
            plain, moved = self._look_up(op, held)
        claimed: Sequence[Tensor | None] = [None] * len(plain)
        if any(one.claimed is not None for one in held.values()):
            claimed = self._run_op(op, {name: one.plain if one.claimed is None else one.claimed for name, one in held.items()})
        weights = tuple(dict.fromkeys(name for one in held.values() for name in one.weights))
        suspects = tuple(dict.fromkeys(one for value in held.values() for one in value.suspects))
        results = (_Held(*variants, weights, suspects) for variants in zip(plain, moved, claimed, strict=True))
        return list(zip(op.outputs, results, strict=True))

    def _run_op(self, op: Op, operands: Mapping[str, Any]) -> tuple[Tensor, ...]:
        return compute_op(self._program, op, operands, self._evaluator.compute)

    def _judge(self, op: Op, value: Value, result: _Held, held: Mapping[str, _Held]) -> tuple[_Held, Departure | None]:
        """The value to go on with, and the guilty op if this tells."""
        wanted = find_value(self._reference, value.name, result.plain)
        if wanted is None:
            return result, None
        error, noise = result.plain - wanted, result.moved - result.plain
        excess = find_excess(error, noise, wanted)
        claim_holds = result.claimed is not None and find_excess(result.claimed - wanted, noise, wanted) is None
        if excess is None or self._is_lost_factor(op, value, result, held, wanted):
            if not claim_holds:
                self._suspects = [one for one in self._suspects if one not in result.suspects]
            return self._take(wanted), None
        if claim_holds:
            return result, result.suspects[0]
        fault = _accuse(op, value, excess, result.weights)
        if not is_unlike(error, wanted):
            return result, fault
        self._suspects.append(fault)
        return _Held(result.plain, result.moved, wanted, result.weights, (*result.suspects, fault)), None

    def _is_lost_factor(self, op: Op, value: Value, result: _Held, held: Mapping[str, _Held], wanted: Tensor) -> bool:
        if value.dtype != "float16":
            return False
        place = op.outputs.index(value)
        plain = {name: one.plain for name, one in held.items()}

        def scale(name: str) -> Tensor:
            scaled: Tensor = self._run_op(op, plain | {name: plain[name] * (1 + NEAR_ONE)})[place]
            return scaled.sub(result.plain)

        computed = [name for name in held if name not in self._constants]
        floats = [name for name in dict.fromkeys(computed) if plain[name].is_floating_point()]
        effects: list[Callable[[], Tensor]] = [partial(scale, name) for name in floats]
        return is_lost_factor(result.plain - wanted, result.moved - result.plain, wanted, effects)

    def _take(self, tensor: Tensor) -> _Held:
        if not tensor.is_floating_point():
            return _Held(tensor, tensor)
        tensor = tensor.to(self._evaluator.compute)
        return _Held(tensor, tensor + tensor.abs() * INPUT_STEP * self._draw(tensor))

    def _look_up(self, op: Op, held: Mapping[str, _Held]) -> tuple[tuple[Tensor], tuple[Tensor]]:
        """A gather from a constant: the rows it finds are recovered and moved, not the table."""
        (table,) = op.inputs["x"]
        operands = {name: one.plain for name, one in held.items()}
        (found,) = self._run_op(op, operands)
        source = self._sources.find(table, op, operands[table])
        wanted = None if source is None else self._run_op(op, operands | {table: source})[0]
        plain, moved = self._move(table, found.to(operands[table].dtype), wanted)
        return (plain,), (moved,)

    def _read_constant(self, name: str, op: Op) -> _Held:
        stored = read_constant(self._program, name)
        weights = feeding_weights(self._program, name)
        if isinstance(stored, str) or not stored.is_floating_point() or op.type == LOOK_UP:
            return _Held(stored, stored, weights=weights)
        return _Held(*self._move(name, stored, self._sources.find(name, op, stored)), weights=weights)

    def _move(self, name: str, stored: Tensor, source: Tensor | None) -> tuple[Tensor, Tensor]:
        """A constant, or what was looked up in it, with its source where that is known; the same, moved by what rounding took."""
        value, unknown = recover(stored, source)
        value = value.to(self._evaluator.compute)
        if is_filled_in(stored):
            return value, value
        if stored.dtype != torch.float16:
            return value, value + unknown * value.abs() * INPUT_STEP * self._draw(value)
        is_twice = name in self._program.compressed and bool(unknown.all())  # its scale or palette, and the product
        return value, value + unknown * (1 + is_twice) * half_unit(value) * draw_alike(stored, self._random)

    def _draw(self, like: Tensor) -> Tensor:
        """1 or -1."""
        return torch.empty_like(like).bernoulli_(0.5, generator=self._random) * 2 - 1


def _accuse(op: Op, value: Value, excess: Excess, weights: tuple[str, ...]) -> Departure:
    return Departure(op.name, op.type, value.name, excess.measure, excess.error, excess.tolerance, weights)
