"""Values inside an OpenVINO IR: added to its outputs before it is compiled; a large one is thinned by a Slice behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sprint_export.errors import BundleError
from sprint_export.libraries import require
from sprint_export.runtimes.inner_values import END, Operation, Sample, Shape
from sprint_export.runtimes.interfaces import name_first_line

if TYPE_CHECKING:
    from sprint_export.session import Array

KINDS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "dynamic": "bf16"}  # OpenVINO's names of what a device computes in
ADDED = "sprint_export.value."  # before a number: what an added output is called


class OpenVinoInnerGraph:
    """Implements runtimes.inner_values.InnerGraph over an openvino.Model that is not compiled yet.

    Args:
        graph: its file.
        load: reads it anew: each run adds other outputs.
        compile_model: for its device.
        description: of what runs it.
    """

    def __init__(self, graph: Path, load: Callable[[], Any], compile_model: Callable[[Any], Any], description: str) -> None:
        self._graph, self._load, self._compile, self.description = graph, load, compile_model, description
        self.dtype = "fp32"
        model = load()
        self.operations: list[Operation] = []
        constants: set[str] = set()
        self.shapes: dict[str, Shape] = {}
        for operation in model.get_ordered_ops():
            values = [_name_value(output) for output in operation.outputs()]
            if operation.get_type_name() == "Constant":
                constants |= set(values)
            elif operation.get_type_name() not in ("Parameter", "Result"):
                reads = tuple(_name_value(each.get_source_output()) for each in operation.inputs())
                self.operations.append(Operation(reads, tuple(values)))
                self.shapes |= {_name_value(value): _read_shape(value) for value in operation.outputs() if _is_float(value)}
        self.constants = frozenset(constants)
        self.inputs = tuple(value.any_name for value in model.inputs)
        self.outputs = tuple(value.any_name for value in model.outputs)

    def run(self, feeds: Mapping[str, Array], samples: Sequence[Sample]) -> tuple[list[Array], dict[str, Array]]:
        """As InnerGraph's."""
        ops, model = require("openvino.opset13", "openvino"), self._load()
        holders = {operation.get_friendly_name(): operation for operation in model.get_ordered_ops()}
        results = []
        for i, sample in enumerate(samples):
            holder, _, number = sample.value.rpartition(":")
            value = holders[holder].output(int(number))
            if sample.step > 1:
                numbers = (0, END, sample.step, sample.axis)
                value = ops.slice(value, *(ops.constant([each], dtype="int64") for each in numbers)).output(0)
            value = ops.convert(value, "f32").output(0)
            value.set_names({f"{ADDED}{i}"})
            results.append(ops.result(value))
        model.add_results(results)
        try:
            compiled = self._compile(model)
            self.dtype = KINDS[compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()]
            request = compiled.create_infer_request()
            request.infer(dict(feeds))
        except RuntimeError as error:  # the only type OpenVINO raises
            raise BundleError(f"OpenVINO cannot show values of {self._graph}: {name_first_line(error)}") from error
        values = [request.get_tensor(f"{ADDED}{i}").data.copy() for i in range(len(samples))]
        return values, {name: request.get_tensor(name).data.copy() for name in self.outputs}


def _name_value(output: Any) -> str:
    return f"{output.get_node().get_friendly_name()}:{output.get_index()}"


def _read_shape(output: Any) -> Shape:
    return tuple(size.get_length() if size.is_static else None for size in output.partial_shape)


def _is_float(output: Any) -> bool:
    return bool(output.element_type.is_real())
