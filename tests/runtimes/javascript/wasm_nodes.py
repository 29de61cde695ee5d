"""Single nodes in onnxruntime-web beside Python, on the very values they have in a network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper

from tests.runtimes.javascript.programs import run_program

Array = npt.NDArray[Any]
PROGRAM = Path(__file__).with_name("wasm_nodes.mjs")


@dataclass
class Difference:
    """One node's outputs, WebAssembly beside Python, its inputs being the same bits.

    Args:
        operator: of ONNX or of ONNX Runtime's own.
        name: the node's.
        values: of all outputs.
        apart: how many differ.
        largest: difference, over the largest magnitude of the output.
        steps: of integers and roundings: the largest difference of two codes; None of floats.
    """

    operator: str
    name: str
    values: int
    apart: int
    largest: float
    steps: int | None


@dataclass
class NodeRun:
    """A model of one node, what it reads, what it wrote in Python."""

    operator: str
    name: str
    model: onnx.ModelProto
    feeds: Mapping[str, Array]
    written: Mapping[str, Array] = field(default_factory=dict)


def make_options(optimized: Path | None = None) -> Any:
    """Session options of runtimes/onnx_cpu, in one thread; graph optimizations are off, or end in a file without layouts."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_DISABLE_ALL if optimized is None else level.ORT_ENABLE_EXTENDED
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return options


def optimize(graph: Path, file: Path) -> onnx.ModelProto:
    """The graph as ONNX Runtime runs it, its fusions as nodes."""
    whole = onnx.load(str(graph)).SerializeToString()  # its weights are read here: they would be looked for beside the new file
    onnxruntime.InferenceSession(whole, make_options(file), providers=["CPUExecutionProvider"])
    return onnx.load(str(file))


def run_every_node(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """All values of a graph in Python, by name."""
    known = {value.name for value in model.graph.output}
    names = [name for node in model.graph.node for name in node.output if name]
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    session = onnxruntime.InferenceSession(shown.SerializeToString(), make_options(), providers=["CPUExecutionProvider"])
    return dict(feeds) | dict(zip(names, session.run(names, dict(feeds)), strict=True))


def split_nodes(model: onnx.ModelProto, values: Mapping[str, Array]) -> list[NodeRun]:
    """Each node as a model of its own, with what it read and wrote."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    runs = []
    for place, node in enumerate(model.graph.node):
        if node.op_type == "Constant" or any(attribute.HasField("g") for attribute in node.attribute):
            continue
        feeds = {name: values[name] for name in node.input if name and name not in constants}
        written = {name: values[name] for name in node.output if name}
        runs.append(
            NodeRun(node.op_type, node.name or f"node {place}", _make_model(model, node, feeds, constants), feeds, written)
        )
    return runs


def _make_model(
    model: onnx.ModelProto, node: onnx.NodeProto, feeds: Mapping[str, Array], constants: Mapping[str, Any]
) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for name, v in feeds.items()]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    held = [constants[name] for name in dict.fromkeys(node.input) if name in constants]
    graph = helper.make_graph([node], "one", inputs, outputs, held)
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def run_in_python(run: NodeRun) -> NodeRun:
    """The same with what Python writes."""
    session = onnxruntime.InferenceSession(run.model.SerializeToString(), make_options(), providers=["CPUExecutionProvider"])
    names = [value.name for value in run.model.graph.output]
    return NodeRun(
        run.operator, run.name, run.model, run.feeds, dict(zip(names, session.run(names, dict(run.feeds)), strict=True))
    )


def compare_in_wasm(work: Path, runs: Sequence[NodeRun]) -> list[Difference]:
    """Every node in WebAssembly on the same values.

    Args:
        work: of make_work_folder: where onnxruntime-web is found.
        runs: with what Python wrote.
    """
    folder = work / "wasm_nodes"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copy(PROGRAM, work)
    jobs = [_write_job(folder, place, run) for place, run in enumerate(runs)]
    (folder / "jobs.json").write_text(json.dumps(jobs), "utf-8")
    run_program(["node", PROGRAM.name, str(folder)], work)
    done = json.loads((folder / "done.json").read_text("utf-8"))["done"]
    found = []
    for run, job, problem in zip(runs, jobs, done, strict=True):
        if problem is not None:
            raise RuntimeError(f"{run.operator} {run.name}: {problem}")
        outputs = [np.fromfile(folder / file, value.dtype) for file, value in zip(job["to"], run.written.values(), strict=True)]
        found.append(_compare(run, outputs))
    return found


def _write_job(folder: Path, place: int, run: NodeRun) -> dict[str, Any]:
    (folder / f"{place}.onnx").write_bytes(run.model.SerializeToString())
    feeds = {}
    for i, (name, value) in enumerate(run.feeds.items()):
        np.ascontiguousarray(value).tofile(folder / f"{place}.{i}.in")
        feeds[name] = {"type": value.dtype.name, "dims": list(value.shape), "file": f"{place}.{i}.in"}
    names = list(run.written)
    return {"model": f"{place}.onnx", "feeds": feeds, "outputs": names, "to": [f"{place}.{i}.out" for i in range(len(names))]}


def _compare(run: NodeRun, outputs: Sequence[Array]) -> Difference:
    values, apart, largest, steps = 0, 0, 0.0, None
    for value, output in zip(run.written.values(), outputs, strict=True):
        wanted = value.ravel()
        difference = np.abs(output.astype(np.float64) - wanted.astype(np.float64))
        values, apart = values + wanted.size, apart + int(np.count_nonzero(output != wanted))
        largest = max(
            largest, float(difference.max(initial=0)) / (float(np.abs(wanted.astype(np.float64)).max(initial=0)) or 1.0)
        )
        if wanted.dtype.kind in "iu":
            steps = max(steps or 0, int(difference.max(initial=0)))
    return Difference(run.operator, run.name, values, apart, largest, steps)
