"""Values inside a Core ML package, as the checker evaluates it: op by op, so that each is there once, and thinned at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sprint_export.runtimes.inner_values import Operation, Sample, Shape

if TYPE_CHECKING:
    from sprint_export.session import Array

FLOATS = ("float16", "float32", "bfloat16")


class CheckedInnerGraph:
    """Implements runtimes.inner_values.InnerGraph over runtimes.coreml.mil's evaluator.

    Args:
        package: the .mlpackage.
        inputs: name -> numpy's name of the type that the package takes.
        description: of what runs it.
    """

    def __init__(self, package: Path, inputs: Mapping[str, str], description: str) -> None:
        from sprint_export.runtimes.coreml.mil.evaluate import Evaluator

        self._evaluator, self._types, self.description = Evaluator(package), inputs, description
        program = self._evaluator.program
        self.operations = [Operation(op.operands, tuple(value.name for value in op.outputs)) for op in program.ops]
        self.dtype = "fp16" if any(value.dtype == "float16" for op in program.ops for value in op.outputs) else "fp32"
        self.constants = frozenset({*program.constants, *program.compressed})
        self.inputs, self.outputs = tuple(inputs), program.outputs
        self.shapes: dict[str, Shape] = {
            value.name: value.shape for op in program.ops for value in op.outputs if value.dtype in FLOATS
        }

    def run(self, feeds: Mapping[str, Array], samples: Sequence[Sample]) -> tuple[list[Array], dict[str, Array]]:
        """As InnerGraph's."""
        wanted: dict[str, list[int]] = {sample.value: [] for sample in samples}
        for place, sample in enumerate(samples):
            wanted[sample.value].append(place)
        found: dict[int, Array] = {}

        def take(name: str, value: Any) -> None:
            for place in wanted.get(name, ()):
                whole, step = (slice(None),) * samples[place].axis, samples[place].step
                found[place] = value[(*whole, slice(None, None, step))].float().numpy().copy()

        outputs = self._evaluator.run({name: feeds[name].astype(dtype) for name, dtype in self._types.items()}, take)
        return [found[place] for place in range(len(samples))], outputs
