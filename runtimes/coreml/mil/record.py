"""What PyTorch computes at every node of an exported program, by the names coremltools gives MIL values.

coremltools names a value after its node, marks the 16-bit copy (`add_3_cast_fp16`), counts where the name is taken
(`mul_1_1`), and may keep a value in another layout than the node's ([1, 128, 8, 8] for [1, 8, 8, 128]).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sprint_export.runtimes.coreml.mil.allowance import rms


@torch.no_grad()
def record_values(
    program: torch.export.ExportedProgram, arguments: Sequence[Tensor], output_names: Sequence[str] = ()
) -> dict[str, Tensor]:
    """Run an exported program and keep everything: node name -> value.

    Args:
        program: what was converted.
        arguments: its inputs, in order.
        output_names: what the package calls its outputs, where that is not the node's name.

    Returns:
        The values; a node that gives a tuple (split) gives name_0, name_1, ...
    """
    recorder = _Recorder(program.module(check_guards=False))
    result = recorder.run(*arguments)
    outputs = result if isinstance(result, tuple | list) else (result,)
    return recorder.values | dict(zip(output_names, outputs, strict=bool(output_names)))


class _Recorder(torch.fx.Interpreter):
    def __init__(self, module: Any) -> None:
        super().__init__(module)
        self.values: dict[str, Tensor] = {}

    def run_node(self, n: torch.fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor) and n.op != "get_attr":
            self.values[n.name] = result.detach()
        elif isinstance(result, tuple | list) and n.op == "call_function":
            for i, part in enumerate(result):
                self.values.setdefault(f"{n.name}_{i}", part.detach())
        return result


def find_node(known: Container[str], name: str) -> str | None:
    """The known node that coremltools named a MIL value or constant after."""
    name = re.sub("_cast_fp16|_to_fp16|_promoted|_cast_u?int16", "", name)  # the last: what a gather of 16-bit indices gives
    return next((node for node in (name, re.sub(r"_\d+$", "", name)) if node in known), None)


def find_value(reference: Mapping[str, Tensor], name: str, found: Tensor) -> Tensor | None:
    """PyTorch's value for a computed MIL value, in its layout; None if it has no name or shape there."""
    node = find_node(reference, name)
    value = None if node is None else reference[node]
    if value is None or not value.is_floating_point() or not found.is_floating_point() or not found.numel():
        return None
    value = value.to(found.dtype)
    if value.shape == found.shape:
        return value
    return min(_layouts(value, found.shape), key=lambda one: rms(one - found), default=None)


def _layouts(value: Tensor, shape: torch.Size) -> Iterator[Tensor]:
    if sorted(value.shape) == sorted(shape):
        orders = itertools.permutations(range(value.ndim))
        yield from (value.permute(order) for order in orders if tuple(value.shape[axis] for axis in order) == tuple(shape))
