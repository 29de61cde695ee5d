"""What an op function gets: its parameters by name, constants and computed values alike, with the defaults of Apple's docs.

An op function takes one Arguments and returns its result (or a tuple, for split): unrounded, in the arithmetic it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sprint_export.errors import RefusedError
from sprint_export.runtimes.coreml.mil.program import Op


class Arguments:
    """The operands of one op; a parameter that is absent or empty gives the default.

    Args:
        op: for messages and for the declared types of its results.
        values: parameter -> operands, tensors or text.
        compute: the floating type to compute in.
    """

    def __init__(self, op: Op, values: Mapping[str, Sequence[Tensor | str]], compute: torch.dtype) -> None:
        self.op = op
        self.compute = compute
        self._values = values

    def has(self, name: str) -> bool:
        return bool(self._values.get(name))

    def stored(self, name: str) -> Tensor:
        """The operand as it is held: a 16-bit weight stays 16-bit. For ops that only move elements."""
        if not self.has(name):
            raise RefusedError(f"op {self.op.name!r} ({self.op.type}) has no {name!r}, which the checker needs")
        value = self._values[name][0]
        assert isinstance(value, Tensor)
        return value

    def tensor(self, name: str) -> Tensor:
        """The operand in the computing type; integers and booleans stay what they are."""
        return self._widen(self.stored(name))

    def maybe(self, name: str) -> Tensor | None:
        return self.tensor(name) if self.has(name) else None

    def tensors(self, name: str) -> list[Tensor]:
        return [self._widen(value) for value in self._values[name] if isinstance(value, Tensor)]

    def numbers(self, name: str, default: Sequence[Any] = ()) -> list[Any]:
        return self.stored(name).flatten().tolist() if self.has(name) else list(default)

    def number(self, name: str, default: Any = None) -> Any:
        return self.stored(name).item() if self.has(name) or default is None else default

    def text(self, name: str, default: str) -> str:
        value = self._values[name][0] if self.has(name) else default
        assert isinstance(value, str)
        return value

    def refuse(self, what: str) -> RefusedError:
        """An error for a form of the op that is not covered."""
        return RefusedError(f"the checker does not cover {what} (op {self.op.name!r}, type {self.op.type})")

    def _widen(self, value: Tensor) -> Tensor:
        return value.to(self.compute) if value.is_floating_point() else value


Function = Callable[[Arguments], Tensor | tuple[Tensor, ...]]
