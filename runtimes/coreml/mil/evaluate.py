"""Run a saved package: op after op in float32, each result rounded to the type the file declares for it.

    evaluator = Evaluator(Path("transformer.mlpackage"))
    evaluator.run({"latents": latents})["velocity"]
    evaluator.health.infinities

A float16 result is what float32 arithmetic gives, rounded once (sums are accumulated in float32); beyond 65504 it is infinite,
which is counted. Integers are exact. A tensor is freed after its last use, a weight after its op.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sprint_export.errors import BundleError, InputError, RefusedError
from sprint_export.runtimes.coreml.mil import elementwise_ops, moving_ops, product_ops, statistic_ops
from sprint_export.runtimes.coreml.mil.arguments import Arguments, Function
from sprint_export.runtimes.coreml.mil.constants import check_shape, read_constant, torch_dtype
from sprint_export.runtimes.coreml.mil.damage import told_as_damage
from sprint_export.runtimes.coreml.mil.program import Op, Program, Value, read_program

Array = npt.NDArray[Any]
Watch = Callable[[str, Tensor], None]

OPS: dict[str, Function] = {**elementwise_ops.OPS, **moving_ops.OPS, **product_ops.OPS, **statistic_ops.OPS}


@dataclass(frozen=True)
class OpHealth:
    """What one value was over all runs: how many infinities and NaNs, and its largest finite magnitude."""

    op: str
    op_type: str
    value: str
    dtype: str
    infinities: int = 0
    nans: int = 0
    largest: float = 0.0


@dataclass(frozen=True)
class Health:
    """The floating-point values of all runs, in program order."""

    ops: tuple[OpHealth, ...]

    @property
    def infinities(self) -> int:
        return sum(op.infinities for op in self.ops)

    @property
    def nans(self) -> int:
        return sum(op.nans for op in self.ops)

    @property
    def largest(self) -> float:
        """The largest finite magnitude; float16 ends at 65504."""
        return max((op.largest for op in self.ops), default=0.0)

    @property
    def first_infinite(self) -> OpHealth | None:
        """Where an infinity first appeared."""
        return next((op for op in self.ops if op.infinities), None)


class Evaluator:
    """One function of a package, ready to run.

    Args:
        package: the .mlpackage folder.
        function: the function's name.
        compute: the floating type to compute in; results are rounded to the declared types whatever it is.

    Raises:
        BundleError: the package is damaged. InputError: no such function.
        RefusedError: it has an op that the checker does not cover.
    """

    def __init__(self, package: Path, function: str = "main", compute: torch.dtype = torch.float32) -> None:
        self.program = read_program(package, function)
        self.compute = compute
        self._health: dict[str, OpHealth] = {}
        for op in self.program.ops:
            if op.type not in OPS:
                raise RefusedError(
                    f"{package}: the checker does not cover op type {op.type!r} (op {op.name!r}); "
                    f"convert the student without it, or add it to sprint_export.runtimes.coreml.mil. "
                    f"It covers: {', '.join(sorted(OPS))}"
                )
        self._last_use = {name: i for i, op in enumerate(self.program.ops) for name in op.operands}

    @property
    def health(self) -> Health:
        """Infinities, NaNs and magnitudes over all runs so far."""
        return Health(tuple(self._health.values()))

    @torch.no_grad()
    def run(self, feeds: Mapping[str, Array], watch: Watch | None = None) -> dict[str, Array]:
        """Inputs by name -> outputs by name.

        Args:
            feeds: an array per input; wider types (int64, float32) are rounded to the declared ones.
            watch: is told (value name, tensor) for every result.

        Raises:
            InputError: the feeds are not the program's inputs.
            BundleError: an op's result has not the shape the package declares, or its operands do not fit.
        """
        with told_as_damage(self.program.package):
            return self._run(feeds, watch)

    def _run(self, feeds: Mapping[str, Array], watch: Watch | None) -> dict[str, Array]:
        values = {value.name: settle(value, tensor, self.compute) for value, tensor in self.read_feeds(feeds)}
        for i, op in enumerate(self.program.ops):
            held = {name: values[name] if name in values else read_constant(self.program, name) for name in op.operands}
            for value, tensor in zip(op.outputs, compute_op(self.program, op, held, self.compute), strict=True):
                values[value.name] = rounded = settle(value, tensor, self.compute)
                self._record(op, value, rounded)
                if watch is not None:
                    watch(value.name, rounded)
            for name in {*op.operands, *(value.name for value in op.outputs)}:
                if self._last_use.get(name, -1) <= i and name not in self.program.outputs:
                    values.pop(name, None)
        return {name: self._give(name, values) for name in self.program.outputs}

    def read_feeds(self, feeds: Mapping[str, Array]) -> Iterable[tuple[Value, Tensor]]:
        """Each input with its array as a tensor, not yet rounded.

        Raises:
            InputError: a name or a shape is not the program's.
        """
        wanted = {value.name: value for value in self.program.inputs}
        if set(feeds) != set(wanted):
            raise InputError(f"{self.program.package} has inputs {sorted(wanted)}, found {sorted(feeds)}")
        for name, value in wanted.items():
            array = np.asarray(feeds[name])
            if array.shape != value.shape:
                raise InputError(
                    f"{self.program.package}: the input {name!r} has shape {list(value.shape)}, found {list(array.shape)}"
                )
            yield value, torch.from_numpy(array.copy())

    def _give(self, name: str, values: Mapping[str, Tensor]) -> Array:
        if name not in values:
            tensor = read_constant(self.program, name)
            assert isinstance(tensor, Tensor)
            return tensor.numpy()
        declared = self._declared(name)
        array: Array = values[name].to(torch_dtype(declared)).numpy()
        return array

    def _declared(self, name: str) -> str:
        outputs = (value for op in self.program.ops for value in op.outputs)
        return next(value.dtype for value in (*self.program.inputs, *outputs) if value.name == name)

    def _record(self, op: Op, value: Value, tensor: Tensor) -> None:
        if not tensor.is_floating_point() or not tensor.numel():
            return
        before = self._health.get(value.name) or OpHealth(op.name, op.type, value.name, value.dtype)
        low, high = (float(end) for end in tensor.aminmax())  # a NaN anywhere makes both NaN
        infinities = nans = 0
        largest = max(abs(low), abs(high))
        if not np.isfinite(largest):
            infinities, nans = int(tensor.isinf().sum()), int(tensor.isnan().sum())
            largest = float(tensor.nan_to_num(0, 0, 0).abs().max())
        self._health[value.name] = OpHealth(
            op.name,
            op.type,
            value.name,
            value.dtype,
            before.infinities + infinities,
            before.nans + nans,
            max(before.largest, largest),
        )


def compute_op(program: Program, op: Op, held: Mapping[str, Tensor | str], compute: torch.dtype) -> tuple[Tensor, ...]:
    """An op's results from its operands, unrounded.

    Raises:
        BundleError: the operands do not fit the op, or a result has not the shape the package declares.
    """
    values = {parameter: [held[name] for name in names] for parameter, names in op.inputs.items()}
    try:
        found = OPS[op.type](Arguments(op, values, compute))
    except (RuntimeError, IndexError, ValueError, TypeError) as error:
        raise BundleError(f"{program.package}: op {op.name!r} ({op.type}) does not compute: {error}") from error
    results = found if isinstance(found, tuple) else (found,)
    if len(results) != len(op.outputs):
        raise BundleError(
            f"{program.package}: op {op.name!r} ({op.type}) gives {len(results)} values, declared {len(op.outputs)}"
        )
    return tuple(check_shape(program, op, value, tensor) for value, tensor in zip(op.outputs, results, strict=True))


def settle(value: Value, tensor: Tensor, compute: torch.dtype) -> Tensor:
    """Round to the declared type; floats are then held in the computing type, integers in a type that holds them exactly.

    Raises:
        BundleError: an integer result does not fit its declared type.
    """
    dtype = torch_dtype(value.dtype)
    if dtype.is_floating_point:
        return tensor.to(dtype).to(compute)
    if dtype == torch.bool or not tensor.numel():
        return tensor.to(dtype)
    whole = tensor.trunc().to(torch.int64) if tensor.is_floating_point() else tensor
    limits = np.iinfo(value.dtype) if hasattr(np, value.dtype) else np.iinfo(np.uint8)
    if int(whole.min()) < limits.min or int(whole.max()) > limits.max:
        raise BundleError(f"{value.name} is declared {value.dtype} and holds {int(whole.min())} to {int(whole.max())}")
    return whole.to(dtype if dtype.itemsize >= 4 else torch.int32)
