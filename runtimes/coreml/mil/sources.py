"""What PyTorch held where a package holds a constant, so that rounding is known and need not be guessed.

    tensors    by name: parameters, buffers, and what the graph computes from them alone (p_norm_weight, unsqueeze_3)
    numbers    by the node that was given them: add_4 -> (3.9e-8,)
A constant is believed to be its source where its bits are the source rounded to the constant's type, element by element; what a
fault changed stays as the file has it. A stored value alone does not tell: 6e-8 is a power of two, and is also what half
precision makes of 3.9e-8.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sprint_export.runtimes.coreml.mil.program import Op
from sprint_export.runtimes.coreml.mil.record import find_node


@dataclass(frozen=True)
class Sources:
    """PyTorch's side of a package's constants; both empty where it is not known."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    numbers: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def find(self, name: str, op: Op, stored: Tensor) -> Tensor | None:
        """What a constant that an op reads was rounded from, or None if that is not known."""
        node = find_node(self.tensors, name)
        if node is not None and self.tensors[node].shape == stored.shape:
            return self.tensors[node]
        return self._find_number(op, stored) if stored.numel() == 1 else None

    def _find_number(self, op: Op, stored: Tensor) -> Tensor | None:
        """The one number of the op's node that rounds to what is stored."""
        node = find_node(self.numbers, op.outputs[0].name) if op.outputs else None
        numbers = () if node is None else self.numbers[node]
        fitting = {number for number in numbers if bool((torch.tensor(number).to(stored.dtype) == stored).all())}
        return torch.full_like(stored, fitting.pop(), dtype=torch.float32) if len(fitting) == 1 else None


def read_sources(program: torch.export.ExportedProgram, values: Mapping[str, Tensor]) -> Sources:
    """The sources of an exported program with weights.

    Args:
        program: what was converted.
        values: of its nodes, from `record_values`.
    """
    signature = program.graph_signature
    held: Mapping[str, Any] = {**program.constants, **program.state_dict}
    paths = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    weights = {name: held[path] for name, path in paths.items() if held[path].is_floating_point()}
    nodes = [node for node in program.graph.nodes if node.op == "call_function"]
    return Sources(
        {**values, **weights}, {node.name: tuple(_list_numbers((*node.args, *node.kwargs.values()))) for node in nodes}
    )


def _list_numbers(given: Any) -> Iterator[float]:
    if isinstance(given, tuple | list):
        for one in given:
            yield from _list_numbers(one)
    elif isinstance(given, int | float) and not isinstance(given, bool):
        yield float(given)


def recover(stored: Tensor, source: Tensor | None) -> tuple[Tensor, Tensor]:
    """The source where the stored values are the source rounded, and which are not; all of them if most are not.

    Args:
        stored: in the type the file declares.
        source: of the same shape, or None.
    """
    if source is not None:
        unlike = source.to(stored.dtype) != stored
        if 2 * int(unlike.sum()) < stored.numel():
            return torch.where(unlike, stored.to(torch.float32), source.to(torch.float32)), unlike
    return stored, torch.ones_like(stored, dtype=torch.bool)
