"""A component becomes an OpenVINO IR (`openvino_model.xml` and `.bin`), by way of our own ONNX graph.

    module --to_onnx, 16-bit--> graph with Q/DQ, after its rules --widen--> float32 arithmetic on 16-bit weights --OpenVINO--> IR
Weights stay as they are stored, 8 or 16 bits: a 16-bit weight has a Convert behind it that is marked as decompression, so the
runtime keeps it small or unpacks it to what its kernels take. INT8 is our own Q/DQ with our own scales, as on every target;
OpenVINO's low-precision transformations turn it into 8-bit kernels when the network is compiled. 4-bit weights are NNCF's
(nncf_weights.py).

The two files have the names that optimum-intel gives them. Its pipelines cannot run these networks: they are specialized, so no
timestep goes in; with the option `layout` they get the interface that its pipeline wants (pipeline_interface.py). Memory is
OpenVINO's copy of the weights, mapped from a temporary file beside the output.
Free axes stay free.
"""

from __future__ import annotations

import json
import os
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePath
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from sprint_export.export.exporter import Exporter
from sprint_export.export.to_onnx.rule import rewrite_graph
from sprint_export.export.to_onnx.shadow import widen_graph
from sprint_export.export.to_onnx.writer import capture_graph, write_graph
from sprint_export.export.to_openvino.nncf_weights import list_packed, pack_weights
from sprint_export.export.to_openvino.pipeline_interface import LAYOUT, PipelineInterface, read_interface
from sprint_export.files import write_text
from sprint_export.libraries import require
from sprint_export.nouns.bundle import ComponentRecord, Part
from sprint_export.nouns.student import Component, Student
from sprint_export.nouns.target import UNIT_KEY, Options, Target
from sprint_export.quantize.schemes.scheme import load_scheme
from sprint_export.students.sana_sprint.configs import SCHEDULER

GRAPH, WEIGHTS = "openvino_model.xml", "openvino_model.bin"
KINDS = {GRAPH: "graph", WEIGHTS: "weights"}
SMALL_VALUES = (
    12_000  # what is no longer than the widest layer (11,200: biases, norms, scales) is stored in float32, without Convert
)
RUNTIME_OPTION = ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"]  # which a plugin reads when it compiles the file
TYPES = {"f32": "FLOAT", "f16": "FLOAT16", "bf16": "BFLOAT16", "i8": "INT8", "u8": "UINT8", "i4": "INT4"}  # of weights


class OpenVinoExporter(Exporter):
    """OpenVINO IR: `openvino_model.xml` and `.bin`; with the interface of optimum-intel's pipeline where there is one to meet."""

    format: ClassVar[str] = "openvino"
    tools: ClassVar[tuple[str, ...]] = ("openvino", "onnx", "onnx-ir", "onnxscript")

    def __init__(self, interface: PipelineInterface | None = None) -> None:
        self.interface = interface

    def suit(self, student: Student, options: Options) -> Exporter:
        """The exporter of one student, which knows its times and its prompt where the layout is another's."""
        return OpenVinoExporter(read_interface(student)) if options.get("layout") == LAYOUT else self

    def write_beside(self, folder: Path) -> list[Path]:
        """What optimum-intel opens first: `model_index.json` and the scheduler's config."""
        if self.interface is None:
            return []
        index, scheduler = folder / "model_index.json", folder / "scheduler" / "scheduler_config.json"
        scheduler.parent.mkdir(exist_ok=True)
        write_text(index, json.dumps(self.interface.index(), indent=1) + "\n")
        write_text(scheduler, json.dumps(SCHEDULER, indent=1) + "\n")
        return [index, scheduler]

    def write_component(
        self, component: Component, target: Target, precision: str, options: Options, folder: Path
    ) -> ComponentRecord:
        """Write `openvino_model.xml` and `.bin` into an empty folder.

        Raises:
            InputError: the component is not specialized. MachineError: openvino is missing.
            OSError: the disk is full or the folder is not writable.
        """
        openvino: Any = require("openvino", target.extra)
        packed = list_packed(component)
        rounded = {name: layer for name, layer in component.layers.items() if name not in packed}
        graph = capture_graph(replace(component, layers=rounded), target.graph_dtype[precision])
        rewrites, notes = rewrite_graph(graph, component, target)
        widen_graph(graph, SMALL_VALUES)
        changes: list[Callable[[Any], Any]] = [partial(pack_weights, layers=packed)] if packed else []
        changes += [] if self.interface is None else [partial(self.interface.wrap, role=component.role)]
        if any(load_scheme(layer.scheme).inputs is None for layer in component.layers.values()):
            changes.append(leave_inputs_float)
        counts = write_ir(openvino, graph, folder, str(options.get("compute_unit", "cpu")), changes)
        parts = (Part(GRAPH, component.inputs, component.outputs),)
        record = ComponentRecord(component.role, component.inputs, component.outputs, parts, counts, component.layers)
        return replace(record, notes=(*component.notes, *notes), rewrites=rewrites)

    def kind_of(self, path: PurePath) -> str | None:
        """What a file of a component's folder is to the bundle; None for what is not the format's."""
        return KINDS.get(path.as_posix())


EXPORTER = OpenVinoExporter()


def write_ir(
    openvino: Any, graph: ir.Model, folder: Path, unit: str, changes: Sequence[Callable[[Any], Any]] = ()
) -> dict[str, int]:
    """Translate an ONNX graph and save it; returns how many weight values the file holds in each type.

    Args:
        openvino: the library.
        graph: after its rules, in float32 arithmetic.
        folder: where GRAPH and WEIGHTS are written.
        unit: what it is made for.
        changes: what is done to the openvino.Model before it is saved, in turn.
    """
    with tempfile.TemporaryDirectory(prefix=".onnx.", dir=folder) as temporary:  # the same disk: weights may not fit elsewhere
        path = Path(temporary) / "model.onnx"
        write_graph(graph, path)
        model = openvino.Core().read_model(path)  # not convert_model, which folds 16-bit weights into float32 ones
        for change in changes:
            model = change(model)
        _name_operations(model)
        model.set_rt_info(unit, UNIT_KEY.split("."))
        openvino.save_model(model, folder / GRAPH, compress_to_fp16=False)
        counts = count_precisions(model)
        del model  # it maps the temporary file
    _mark_decompression(folder / GRAPH)
    for name in (GRAPH, WEIGHTS):
        with (folder / name).open("r+b") as handle:
            os.fsync(handle.fileno())
    return counts


def leave_inputs_float(model: Any) -> Any:
    """Have the runtime leave activations in float where weights alone are compressed, as their schemes say.

    Its default there is to round them to 8 bits in groups of 32: 37 to 41 dB of a network's output, for a tenth of its time.
    """
    model.set_rt_info("0", RUNTIME_OPTION)
    return model


def _name_operations(model: Any) -> None:
    """Number what OpenVINO named by itself: it counts through the whole process, so no two files would be the same."""
    for i, operation in enumerate(model.get_ordered_ops()):
        if operation.get_friendly_name() == operation.get_name():
            operation.set_friendly_name(f"{operation.get_type_name()}.{i}")


def count_precisions(model: Any) -> dict[str, int]:
    """How many weight values an openvino.Model stores in each type: {"FLOAT16": 120, "INT8": 2300000, ...}."""
    counts: Counter[str] = Counter()
    for operation in model.get_ops():
        if operation.get_type_name() == "Constant":
            name = TYPES.get(operation.get_element_type().get_type_name())
            if name is not None:
                counts[name] += int(np.prod(list(operation.get_output_shape(0))))
    return dict(sorted(counts.items()))


def _mark_decompression(path: Path) -> None:
    """Say of every Convert behind a 16-bit weight that it is one: else the runtime folds it and holds the weight in float32.

    In the file, because OpenVINO's Python interface cannot set this attribute on an operation.
    """
    tree = ElementTree.parse(path)
    layers = {layer.get("id"): layer for layer in tree.iterfind("layers/layer")}
    for edge in tree.iterfind("edges/edge"):
        source, layer = layers[edge.get("from-layer")], layers[edge.get("to-layer")]
        port = source.find("output/port")
        is_half = source.get("type") == "Const" and port is not None and port.get("precision") == "FP16"
        if is_half and layer.get("type") == "Convert" and layer.find("rt_info") is None:
            info = ElementTree.Element("rt_info")
            info.append(ElementTree.Element("attribute", name="decompression", version="0"))
            layer.insert(1, info)  # after its <data>
    tree.write(path, encoding="utf-8", xml_declaration=True)
