"""The networks of a chain as one graph compute what they do one after the other; small networks with names that clash."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from sprint_export.errors import BundleError, RefusedError
from sprint_export.export.to_onnx.one_graph import OneStep, join_graphs
from sprint_export.nouns.chain import EACH_STEP, Stage, ValueNames

NAMES = ValueNames("ids", "mask", "state", "denoised", "image")
STAGES = (Stage("reads"), Stage("draws", EACH_STEP), Stage("paints"))
TYPES = {"ids": TensorProto.INT64, "mask": TensorProto.INT64, "step": TensorProto.INT64}
SHAPES = {"ids": [1, 3], "mask": [1, 3], "step": [1]}


def make_network(nodes: list[onnx.NodeProto], inputs: tuple[str, ...], output: str, weight: Any, opset: int = 21) -> ir.Model:
    """A graph whose one weight is `w` and whose inner value is `t`, as every other network's are."""
    infos = [helper.make_tensor_value_info(name, TYPES.get(name, TensorProto.FLOAT), SHAPES.get(name, [1, 4])) for name in inputs]
    made = helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph(nodes, "g", infos, [made], [numpy_helper.from_array(np.asarray(weight, np.float32), "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return ir.from_proto(model)


def make_reads() -> ir.Model:
    nodes = [
        helper.make_node("Cast", ["ids"], ["t"], to=TensorProto.FLOAT, name="n"),
        helper.make_node("MatMul", ["t", "w"], ["embeds"], name="m"),
    ]
    return make_network(nodes, ("ids",), "embeds", np.arange(12).reshape(3, 4) / 7)


def make_draws(with_step: bool = False) -> ir.Model:
    nodes = [
        helper.make_node("Cast", ["mask"], ["u"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["u"], ["v"]),
        helper.make_node("Mul", ["state", "embeds"], ["t"], name="n"),
        helper.make_node("Add", ["t", "v"], ["s"]),
    ]
    if with_step:
        nodes += [helper.make_node("Cast", ["step"], ["r"], to=TensorProto.FLOAT), helper.make_node("Add", ["s", "r"], ["q"])]
    nodes.append(helper.make_node("Mul", ["q" if with_step else "s", "w"], ["denoised"]))
    return make_network(nodes, ("state", "embeds", "mask", *(["step"] if with_step else [])), "denoised", 0.3)


def make_paints(opset: int = 21) -> ir.Model:
    nodes = [helper.make_node("Sub", ["state", "w"], ["t"], name="n"), helper.make_node("Tanh", ["t"], ["image"])]
    return make_network(nodes, ("state",), "image", 0.1, opset)


def run(model: ir.Model, **feeds: Any) -> Any:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == list(feeds)
    (picture,) = session.run(["image"], feeds)
    return picture


FEEDS = {
    "ids": np.array([[3, 1, 4]]),
    "mask": np.array([[1, 1, 0]]),
    "state": np.array([[0.5, -1, 2, 0.25]], np.float32),
}


def compute(scale: float, row: float = 0) -> Any:
    """The chain by hand, in float32."""
    one = np.float32
    embeds = FEEDS["ids"].astype(one) @ (np.arange(12).reshape(3, 4) / 7).astype(one)
    denoised = (FEEDS["state"] * one(scale) * embeds + one(2) + one(row)) * one(0.3)
    return np.tanh(denoised - one(0.1))


@pytest.mark.parametrize("scale", [1.0, 0.75])
def test_it_computes_the_chain_with_the_first_time(scale: float) -> None:
    models = {"reads": make_reads(), "draws": make_draws(), "paints": make_paints()}
    model = join_graphs(STAGES, models, NAMES, OneStep(scale, 0))
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    np.testing.assert_allclose(run(model, **FEEDS), compute(scale), rtol=1e-6)
    kinds = [node.op_type for node in model.graph]
    assert kinds.count("Mul") == (2 if scale == 1 else 3), kinds


def test_the_row_of_the_step_is_a_constant_of_it() -> None:
    models = {"reads": make_reads(), "draws": make_draws(with_step=True), "paints": make_paints()}
    found = run(join_graphs(STAGES, models, NAMES, OneStep(1.0, 2)), **FEEDS)
    np.testing.assert_allclose(found, compute(1.0, 2), rtol=1e-6)
    assert np.abs(compute(1.0, 2) - compute(1.0, 0)).max() > 1e-3


def test_every_name_says_whose_it_is() -> None:
    models = {"reads": make_reads(), "draws": make_draws(), "paints": make_paints()}
    model = join_graphs(STAGES, models, NAMES, OneStep(1.0, 0))
    assert sorted(model.graph.initializers) == ["draws/w", "paints/w", "reads/w"]
    assert {"reads/n", "draws/n", "paints/n"} <= {node.name for node in model.graph}
    assert [value.name for value in model.graph.outputs] == ["image"]


def test_networks_of_two_operator_sets_are_refused() -> None:
    models = {"reads": make_reads(), "draws": make_draws(), "paints": make_paints(opset=20)}
    with pytest.raises(RefusedError, match=r"paints is written in version 20 of the operators 'ai\.onnx', another network in 21"):
        join_graphs(STAGES, models, NAMES, OneStep(1.0, 0))


def test_a_value_that_nothing_gives_is_refused() -> None:
    models = {"draws": make_draws(), "paints": make_paints()}
    with pytest.raises(BundleError, match="no network gives 'embeds', which another one reads"):
        join_graphs(STAGES[1:], models, NAMES, OneStep(1.0, 0))
