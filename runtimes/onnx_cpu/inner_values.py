"""Values inside an ONNX graph: added to its outputs, in memory, so that the file stays as it is and weights where they lie.

A large value is thinned by a Slice behind it, so that what the runtime hands over is small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sprint_export.errors import BundleError, MachineError
from sprint_export.libraries import require
from sprint_export.runtimes.inner_values import END, Operation, Sample, Shape
from sprint_export.runtimes.interfaces import name_first_line
from sprint_export.runtimes.onnx_cpu.providers import add_provider

if TYPE_CHECKING:
    from sprint_export.session import Array

FLOATS = ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE")
KINDS = {"bf16": "BFLOAT16", "fp16": "FLOAT16"}  # of values that a graph computes, the coarser first
WEIGHTS_BESIDE = "session.model_external_initializers_file_folder_path"  # where a graph that is no file finds its weights


class OnnxInnerGraph:
    """Implements runtimes.inner_values.InnerGraph over ONNX Runtime."""

    def __init__(self, graph: Path, provider: str, options: Any) -> None:
        onnx: Any = require("onnx", "export")
        ort: Any = require("onnxruntime", "runtime")
        try:
            self._model = onnx.load(str(graph), load_external_data=False)
        except Exception as error:  # protobuf's own, several kinds
            raise BundleError(f"{graph} cannot be read as an ONNX graph ({name_first_line(error)})") from error
        self._graph, self._provider, self._options = graph, provider, options
        self._options.add_session_config_entry(WEIGHTS_BESIDE, str(graph.parent))
        body = self._model.graph
        self.description = f"ONNX Runtime {ort.__version__} {provider}"
        self.operations = [Operation(tuple(filter(None, node.input)), tuple(filter(None, node.output))) for node in body.node]
        self.constants = frozenset(tensor.name for tensor in body.initializer)
        self.inputs = tuple(value.name for value in body.input)
        self.outputs = tuple(value.name for value in body.output)
        is_shadow = graph.name.endswith(".shadow.onnx")  # whose weights are 16-bit values too, until they are widened
        kinds = {value.type.tensor_type.elem_type for value in body.value_info if not is_shadow}
        self.dtype = next((name for name, kind in KINDS.items() if getattr(onnx.TensorProto, kind) in kinds), "fp32")
        floats = {getattr(onnx.TensorProto, name) for name in FLOATS}
        self.shapes: dict[str, Shape] = {
            value.name: tuple(size.dim_value if size.HasField("dim_value") else None for size in value.type.tensor_type.shape.dim)
            for value in (*body.value_info, *body.output)
            if value.type.tensor_type.elem_type in floats
        }

    def run(self, feeds: Mapping[str, Array], samples: Sequence[Sample]) -> tuple[list[Array], dict[str, Array]]:
        """As InnerGraph's."""
        ort: Any = require("onnxruntime", "runtime")
        outputs = [*(Sample(name) for name in self.outputs), *samples]
        model, names = self._ask_for(outputs)
        try:
            providers = add_provider(self._provider, ort, self._options)
            session = ort.InferenceSession(model.SerializeToString(), self._options, providers=providers, enable_fallback=0)
            values = [value.astype("float32") for value in session.run(names, dict(feeds))]
        except MemoryError as error:
            raise MachineError(f"not enough memory to run {self._graph}") from error
        except Exception as error:  # onnxruntime raises a dozen unrelated pybind types
            raise BundleError(f"ONNX Runtime cannot show values of {self._graph}: {name_first_line(error)}") from error
        given = len(self.outputs)
        return values[given:], dict(zip(self.outputs, values[:given], strict=True))

    def _ask_for(self, samples: Sequence[Sample]) -> tuple[Any, list[str]]:
        """The graph with these values as its outputs, float64, and what each is called there.

        ONNX Runtime orders a graph from its ends backwards, the last node's first: nodes of the first value stand last, so that
        each value is thinned as soon as it is there, and not all at the end (those of a 1024 px decoder are 20 GB). Every end
        is a Cast of its own, since optimizations put others behind all nodes: a DequantizeLinear that moves behind a Slice, the
        last convolution in another layout.
        """
        onnx: Any = require("onnx", "export")
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        del model.graph.output[:]
        names, groups = [], list[list[Any]]()
        for i, sample in enumerate(samples):
            name, nodes = f"sprint_export.value.{i}", []
            thinned = sample.value
            if sample.step > 1:
                numbers = {"start": 0, "end": END, "axis": sample.axis, "step": sample.step}
                for part, number in numbers.items():
                    tensor = onnx.helper.make_tensor(f"{name}.{part}", onnx.TensorProto.INT64, [1], [number])
                    model.graph.initializer.append(tensor)
                thinned = f"{name}.slice"
                inputs = [sample.value, *(f"{name}.{part}" for part in numbers)]
                nodes.append(onnx.helper.make_node("Slice", inputs, [thinned], name=thinned))
            nodes.append(onnx.helper.make_node("Cast", [thinned], [name], name=name, to=onnx.TensorProto.DOUBLE))
            model.graph.output.append(onnx.ValueInfoProto(name=name))
            names.append(name)
            groups.append(nodes)
        given = len(self.outputs)  # these are there last
        model.graph.node.extend(node for group in [*groups[:given], *reversed(groups[given:])] for node in group)
        return model, names
