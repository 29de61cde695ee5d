"""Integer operators on values that tell other arithmetic apart: 16-bit saturation, other ties, lost carries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper

from tests.runtimes.javascript.wasm_nodes import Array, NodeRun, run_in_python

OPSET, IR = 21, 10


def make_kernels() -> Iterator[NodeRun]:
    """Integer operators on values that tell other arithmetic apart."""
    rng = np.random.default_rng(0)
    scale = np.array(0.0371, np.float32)
    ties = ((np.arange(-40, 300) + np.float32(0.5)) * scale).astype(np.float32)
    edges = np.concatenate([np.nextafter(ties, np.float32(side)) for side in (-np.inf, np.inf)] + [ties])
    dense = rng.uniform(-3, 12, 200_000).astype(np.float32)
    for name, values in (("ties and their neighbours", edges), ("at random", dense)):
        yield make_run("QuantizeLinear", name, {"x": values}, {"scale": scale, "zero": np.array(128, np.uint8)})
    for depth in (64, 1152, 5760):
        yield from make_products(rng, depth)
    yield make_convolution(rng)
    codes = np.arange(256, dtype=np.uint8)
    yield make_run("DequantizeLinear", "all codes", {"x": codes}, {"scale": scale, "zero": np.array(7, np.uint8)})


def make_products(rng: np.random.Generator, depth: int) -> Iterator[NodeRun]:
    """Sums of 8-bit products: the largest there are, of which two overflow 16 bits, and random ones."""
    largest = (
        np.full((4, depth), 255, np.uint8),
        np.where(np.arange(8) % 2, 127, -127).astype(np.int8) * np.ones((depth, 1), np.int8),
    )
    random = rng.integers(0, 256, (9, depth), np.uint8), rng.integers(-127, 128, (depth, 33), np.int8)
    for name, (left, right) in (("largest", largest), ("random", random)):
        zeros = {"zero": np.array(128, np.uint8)}
        yield make_run("MatMulInteger", f"{name}, {depth} terms", {"left": left}, {"right": np.ascontiguousarray(right)} | zeros)


def make_convolution(rng: np.random.Generator) -> NodeRun:
    """QLinearConv of full range, its sums rounded to 8 bits again."""
    x = rng.integers(0, 256, (1, 48, 16, 16), np.uint8)
    weight = rng.integers(-127, 128, (32, 48, 3, 3), np.int8)
    constants: dict[str, Array] = {
        "x_scale": np.array(0.02, np.float32),
        "x_zero": np.array(120, np.uint8),
        "weight": weight,
        "w_scale": rng.uniform(0.001, 0.01, 32).astype(np.float32),
        "w_zero": np.zeros(32, np.int8),
        "y_scale": np.array(0.9, np.float32),
        "y_zero": np.array(128, np.uint8),
        "bias": rng.integers(-9000, 9000, 32, np.int32),
    }
    return make_run("QLinearConv", "3 x 3, full range", {"x": x}, constants, pads=[1, 1, 1, 1])


def make_run(operator: str, name: str, feeds: Mapping[str, Array], constants: Mapping[str, Array], **attributes: Any) -> NodeRun:
    """A model of one standard operator: what is fed first, then its constants, in this order."""
    node = helper.make_node(operator, [*feeds, *constants], ["y"], **attributes)
    inputs = [
        helper.make_tensor_value_info(each, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for each, value in feeds.items()
    ]
    held = [onnx.numpy_helper.from_array(value, each) for each, value in constants.items()]
    graph = helper.make_graph([node], "one", inputs, [onnx.ValueInfoProto(name="y")], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    return run_in_python(NodeRun(operator, name, model, dict(feeds)))
