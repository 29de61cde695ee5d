"""A product with a weight of 4 bits in blocks is written as ONNX Runtime's own operator for it.

    x . DQ(W, s)  =  MatMulNBits(x, W + 8, s)        W int4 [K, N] in blocks of g along K, s [K / g, N]
stored as [N, K / g, g / 2] bytes, the even values of a row in the low halves, with scales [N K / g]; 8 is the operator's zero
point where none is given, so its values are W. ONNX Runtime makes the same of Q/DQ as it loads a graph, and then rounds x to 8
bits unless the application asks for `session.qdq_matmulnbits_accuracy_level`; written out, `accuracy_level` is the graph's: x
stays as it is. It has kernels for CPUs, WebAssembly, WebGPU, CUDA and DirectML, but it is no standard operator.
Covered: MatMul with a stored INT4 weight of rank 2 in blocks that divide its rows, 16 values or more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from sprint_export.export.to_onnx.graph_editor import GraphEditor, declare, extent, is_constant, shape_of
from sprint_export.export.to_onnx.rule import PatternRule

DOMAIN = "com.microsoft"
LEAST_BLOCK = 16  # the operator's
UNROUNDED = 1  # accuracy_level: float32 sums of unrounded inputs


class FourBitMatmuls(PatternRule):
    """Every such product."""

    def pattern(self, op: Any, x: Any, stored: Any, scale: Any) -> Any:
        return op.MatMul(x, op.DequantizeLinear(stored, scale, _outputs=["restored"]), _outputs=["product"])

    def check(self, stored: ir.Value, restored: ir.Value, **_: ir.Value) -> bool:
        node = restored.producer()
        assert node is not None
        is_in_rows = node.attributes.get_int("axis", 1) == 0 and node.attributes.get_int("block_size", 0) >= LEAST_BLOCK
        return is_constant(stored) and stored.dtype == ir.DataType.INT4 and len(shape_of(stored)) == 2 and is_in_rows

    def rewrite(
        self, op: GraphEditor, x: ir.Value, stored: ir.Value, scale: ir.Value, restored: ir.Value, product: ir.Value
    ) -> ir.Value:
        node = restored.producer()
        assert node is not None
        block, inner, out = node.attributes.get_int("block_size", 0), extent(stored, 0), extent(stored, 1)
        packed = op.constant(_pack(stored, block), f"{stored.name}.packed")
        scales = op.view(f"{scale.name}.rows", scale, (out * inner // block,), lambda array: array.T.reshape(-1))
        op.graph.opset_imports.setdefault(DOMAIN, 1)
        sizes = {"K": inner, "N": out, "bits": 4, "block_size": block, "accuracy_level": UNROUNDED}
        made = ir.node("MatMulNBits", [x, packed, scales], sizes, domain=DOMAIN, name=f"{op.prefix}.four.bits")
        op.graph.insert_before(op.before, made)
        shape = None if product.shape is None else shape_of(product)
        return declare(made.outputs[0], str(made.name), shape, scale.dtype)


def _pack(stored: ir.Value, block: int) -> ir.LazyTensor:
    """int4 [K, N] -> uint8 [N, K / g, g / 2], when the bytes are asked for."""
    source, inner, out = stored.const_value, extent(stored, 0), extent(stored, 1)
    assert source is not None

    def pack() -> ir.TensorProtocol:
        rows = (source.numpy().astype(np.int8).T + 8).astype(np.uint8)  # [N, K], 0 to 15
        return ir.Tensor((rows[:, 0::2] | rows[:, 1::2] << 4).reshape(out, inner // block, block // 2))

    return ir.LazyTensor(pack, dtype=ir.DataType.UINT8, shape=ir.Shape([out, inner // block, block // 2]))


RULE = FourBitMatmuls
