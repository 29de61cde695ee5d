"""Inner graphs made by hand, for tests of what is found in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sprint_export.runtimes.inner_values import Operation, Sample, Shape

Array = npt.NDArray[Any]


@dataclass
class HandMade:
    """An InnerGraph of sums: each operation gives the sum of what it reads, constants being 1."""

    operations: Sequence[Operation]
    constants: frozenset[str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    description: str = "sums"
    dtype: str = "fp32"

    def __post_init__(self) -> None:
        if not self.shapes:
            self.shapes = {name: (1, 4, 8) for each in self.operations for name in each.gives}

    def run(self, feeds: Mapping[str, Array], samples: Sequence[Sample]) -> tuple[list[Array], dict[str, Array]]:
        """As InnerGraph's."""
        values: dict[str, Array] = {**feeds, **dict.fromkeys(self.constants, np.ones(1, np.float32))}
        for each in self.operations:
            total = np.asarray(sum(values[name] for name in each.reads), np.float32)
            values |= dict.fromkeys(each.gives, total)
        return [values[sample.value] for sample in samples], {name: values[name] for name in self.outputs}


def read_graph(text: str, outputs: str, inputs: str = "x") -> HandMade:
    """Lines such as `h = x blocks.0.a.weight`: a name with a dot is a constant."""
    operations = []
    for line in filter(None, map(str.strip, text.splitlines())):
        gives, _, reads = line.partition(" = ")
        operations.append(Operation(tuple(reads.split()), tuple(gives.split())))
    constants = frozenset(name for each in operations for name in each.reads if "." in name)
    return HandMade(operations, constants, tuple(inputs.split()), tuple(outputs.split()))
