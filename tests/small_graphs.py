"""Small ONNX graphs for the builder, one per kernel kind; bf16 with Q/DQ in the form that facts about RTX ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BF16 = ml_dtypes.bfloat16
FP8 = ml_dtypes.float8_e4m3fn


def _make_weight(name: str, *shape: int, dtype: Any = BF16) -> onnx.TensorProto:
    values = np.random.default_rng(0).standard_normal(shape)
    return numpy_helper.from_array((values * (40 if dtype == np.int8 else 0.05)).astype(dtype), name)


def _make_scalar(name: str, value: float, dtype: Any = BF16) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(value, dtype), name)


def _quantize(name: str, scale: str, zero: str = "zero") -> list[onnx.NodeProto]:
    """`name` -> `name_q` -> `name_dq`."""
    return [
        helper.make_node("QuantizeLinear", [name, scale, zero], [f"{name}_q"]),
        helper.make_node("DequantizeLinear", [f"{name}_q", scale, zero], [f"{name}_dq"]),
    ]


def save_graph(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[Any]],
    output: list[Any],
    weights: list[onnx.TensorProto],
    dtype: int = TensorProto.BFLOAT16,
) -> Path:
    """Write a one-output graph; inputs by name with their shapes, the output is called y."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", dtype, output)],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def save_linear(path: Path) -> Path:
    """bf16 [1, 64, 128] x [128, 256], nothing else: one gemm."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="linear")]
    return save_graph(path, nodes, {"x": [1, 64, 128]}, [1, 64, 256], [_make_weight("w", 128, 256)])


def save_mlp(path: Path) -> Path:
    """bf16 linear + bias + GELU + linear."""
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"]),
        helper.make_node("Add", ["a", "b1"], ["b"]),
        helper.make_node("Gelu", ["b"], ["c"], approximate="tanh"),
        helper.make_node("MatMul", ["c", "w2"], ["y"]),
    ]
    weights = [_make_weight("w1", 128, 256), _make_weight("b1", 256), _make_weight("w2", 256, 128)]
    return save_graph(path, nodes, {"x": [1, 64, 128]}, [1, 64, 128], weights)


def save_fp8_linear(path: Path) -> Path:
    """FP8 Q/DQ on the activation, DQ on the weight, bias."""
    nodes = [
        *_quantize("x", "sx"),
        helper.make_node("DequantizeLinear", ["w", "sw", "zero"], ["w_dq"]),
        helper.make_node("MatMul", ["x_dq", "w_dq"], ["a"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    weights = [
        _make_scalar("zero", 0, FP8),
        _make_scalar("sx", 0.01),
        _make_scalar("sw", 0.001),
        _make_weight("w", 128, 256, dtype=FP8),
        _make_weight("b", 256),
    ]
    return save_graph(path, nodes, {"x": [1, 64, 128]}, [1, 64, 256], weights)


def save_attention(path: Path, fp8: bool = False) -> Path:
    """softmax(Q K) V, 4 heads of 64 over 256 positions; in FP8 with Q/DQ on Q, K, V and, scale 1/448, the softmax."""
    end = "_dq" if fp8 else ""
    nodes = [
        helper.make_node("Mul", ["q", "scale"], ["qs"]),
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", [f"qs{end}", f"kt{end}"], ["s"]),
        helper.make_node("Softmax", ["s"], ["p"], axis=-1),
        helper.make_node("MatMul", [f"p{end}", f"v{end}"], ["y"]),
    ]
    if fp8:
        nodes[4:4] = _quantize("p", "sp")
        nodes[2:2] = [node for name in ("qs", "kt", "v") for node in _quantize(name, "sq")]
    weights = [_make_scalar("scale", 0.125), _make_scalar("zero", 0, FP8), _make_scalar("sq", 0.01), _make_scalar("sp", 1 / 448)]
    return save_graph(path, nodes, {name: [1, 4, 256, 64] for name in "qkv"}, [1, 4, 256, 64], weights)


def save_int8_convolution(path: Path, kernel: int = 3) -> Path:
    """INT8 convolution 64 -> 128 channels at 32 x 32, per-tensor weight scale, bias."""
    nodes = [
        *_quantize("x", "sx"),
        helper.make_node("DequantizeLinear", ["w", "sw", "zero"], ["w_dq"]),
        helper.make_node("Conv", ["x_dq", "w_dq", "b"], ["y"], pads=[kernel // 2] * 4),
    ]
    weights = [
        _make_scalar("zero", 0, np.int8),
        _make_scalar("sx", 0.01),
        _make_scalar("sw", 0.001),
        _make_weight("w", 128, 64, kernel, kernel, dtype=np.int8),
        _make_weight("b", 128),
    ]
    return save_graph(path, nodes, {"x": [1, 64, 32, 32]}, [1, 128, 32, 32], weights)


def save_depthwise(path: Path) -> Path:
    """bf16 3x3 depthwise convolution of 64 channels at 32 x 32."""
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"], group=64, pads=[1] * 4)]
    weights = [_make_weight("w", 64, 1, 3, 3), _make_weight("b", 64)]
    return save_graph(path, nodes, {"x": [1, 64, 32, 32]}, [1, 64, 32, 32], weights)


def save_embedding(path: Path) -> Path:
    """16 rows out of a table of 5000 x 128."""
    nodes = [helper.make_node("Cast", ["ids"], ["i"], to=TensorProto.INT64), helper.make_node("Gather", ["table", "i"], ["y"])]
    return save_graph(path, nodes, {"ids": [1, 16]}, [1, 16, 128], [_make_weight("table", 5000, 128)])


def save_mixed_types(path: Path) -> Path:
    """Broken: a bf16 input plus a float32 weight."""
    nodes = [helper.make_node("Add", ["x", "w"], ["y"], name="the_add")]
    return save_graph(path, nodes, {"x": [4, 8]}, [4, 8], [_make_weight("w", 4, 8, dtype=np.float32)])


def save_free_axis(path: Path) -> Path:
    """A batch axis that is a name."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    return save_graph(path, nodes, {"x": ["batch", 128]}, ["batch", 256], [_make_weight("w", 128, 256)])
