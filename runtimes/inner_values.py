"""Values inside a graph, for a validation that asks where an error is born: what operators there are, and what they give.

A runtime that can show them returns an `InnerGraph` from `open_inner`. A graph in several parts is one `InnerGraph` too
(`JoinedGraph`), whose values are called "<part>:<name>".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

Shape = tuple[int | None, ...]
END = (1 << 31) - 1  # beyond any axis, in a Slice
COARSER = ("fp32", "fp16", "bf16")


@dataclass(frozen=True)
class Operation:
    """One operator: the values it reads, constants among them, and those it gives, by name."""

    reads: tuple[str, ...]
    gives: tuple[str, ...]


@dataclass(frozen=True)
class Sample:
    """A value that is asked for: whole, or every `step`-th slice along `axis`."""

    value: str
    axis: int = 0
    step: int = 1


class InnerGraph(Protocol):
    """A graph whose inner values can be read.

    Args:
        description: what runs it.
        dtype: what it computes in where nothing is quantized: "fp32", "fp16" or "bf16"; of some runtimes known once it ran.
        operations: in the order they run.
        constants: names of what the file holds, weights by their module's name or something that holds it.
        shapes: of floating-point values, by name, as far as the graph says; None for a free size.
        inputs: names of what the graph takes.
        outputs: names of what the graph gives.
    """

    @property
    def description(self) -> str: ...

    @property
    def dtype(self) -> str: ...

    @property
    def operations(self) -> Sequence[Operation]: ...

    @property
    def constants(self) -> frozenset[str]: ...

    @property
    def shapes(self) -> Mapping[str, Shape]: ...

    @property
    def inputs(self) -> tuple[str, ...]: ...

    @property
    def outputs(self) -> tuple[str, ...]: ...

    def run(self, feeds: Mapping[str, Array], samples: Sequence[Sample]) -> tuple[list[Array], dict[str, Array]]:
        """Inputs by name -> float32 arrays, one for each sample; and the graph's outputs by name.

        Raises:
            BundleError: the graph cannot run. MachineError: not enough memory.
        """


class JoinedGraph:
    """Several graphs as one: each reads inputs and what those before it gave, by name; the last one's outputs count."""

    def __init__(self, parts: Sequence[InnerGraph]) -> None:
        self.parts, self.description = tuple(parts), parts[0].description
        writers: dict[str, str] = {}  # an output of a part -> what it is called here
        self.operations: list[Operation] = []
        constants: set[str] = set()
        self.shapes: dict[str, Shape] = {}
        for i, part in enumerate(parts):
            own = {name for operation in part.operations for name in operation.gives} | part.constants
            names = {name: _join(i, name) for name in own} | {name: known for name, known in writers.items() if name not in own}
            self.operations += [
                Operation(tuple(names.get(name, name) for name in each.reads), tuple(names[name] for name in each.gives))
                for each in part.operations
            ]
            constants |= {names[name] for name in part.constants}
            self.shapes |= {names[name]: shape for name, shape in part.shapes.items() if name in names}
            writers |= {name: names[name] for name in part.outputs}
        self.inputs = parts[0].inputs
        self.constants, self.outputs = frozenset(constants), tuple(writers[name] for name in parts[-1].outputs)

    @property
    def dtype(self) -> str:
        """The coarsest of its parts'."""
        return max((part.dtype for part in self.parts), key=COARSER.index)

    def run(self, feeds: Mapping[str, Array], samples: Sequence[Sample]) -> tuple[list[Array], dict[str, Array]]:
        """As InnerGraph's."""
        known, found, outputs = dict(feeds), dict[int, "Array"](), dict[str, "Array"]()
        for i, part in enumerate(self.parts):
            prefix = _join(i, "")
            mine = [place for place, each in enumerate(samples) if each.value.startswith(prefix)]
            asked = [replace(samples[place], value=samples[place].value.removeprefix(prefix)) for place in mine]
            values, outputs = part.run({name: known[name] for name in part.inputs}, asked)
            known |= outputs
            found |= dict(zip(mine, values, strict=True))
        return [found[place] for place in range(len(samples))], outputs


def _join(part: int, name: str) -> str:
    return f"{part}:{name}"
