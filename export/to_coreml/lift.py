"""Scales below half precision's normal numbers, in an ML program: held times 2^e, which is taken out of the result again.

    linear, conv:   y = W x + b     ->   y = 2^-e ((2^e W) x) + b        e of each output channel
    gather:         y = W[id]       ->   y = 2^-e[id] (2^e W)[id]        e of each row
Powers of two change no digit. Weights become of the size that other layers have, so results stay within half precision.
Only layers with such a scale get the operations: others have e = 0 throughout (quantize/scales.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def lower_result(operation: Any, lift: torch.Tensor, dtype: Any) -> None:
    """Replace a linear, conv or gather whose weight holds its rows times `lift`, float32 [out], in place.

    Args:
        operation: of a MIL block; its weight is replaced already.
        lift: 2^e.
        dtype: numpy's, of the graph.
    """
    from coremltools.converters.mil import Builder

    factor = (1 / lift).numpy().astype(dtype)
    name, block = operation.outputs[0].name, operation.enclosing_block
    kept = {key: value for key, value in operation.inputs.items() if value is not None and key != "bias"}
    bias = operation.inputs.get("bias")
    result = getattr(Builder, operation.op_type)(**kept, name=f"{name}_lifted", before_op=operation)
    if operation.op_type == "gather":
        column = Builder.const(val=factor[:, None], name=f"{name}_lift", before_op=operation)
        rows = Builder.gather(x=column, indices=kept["indices"], axis=0, name=f"{name}_lift_rows", before_op=operation)
    else:
        rows = _across(factor, operation)
    has_bias = bias is not None and bias.val is not None and bool(np.any(bias.val))
    result = Builder.mul(x=result, y=rows, name=f"{name}_lowered" if has_bias else name, before_op=operation)
    if has_bias:
        result = Builder.add(x=result, y=_across(bias.val, operation), name=name, before_op=operation)
    block.replace_uses_of_var_after_op(anchor_op=operation, old_var=operation.outputs[0], new_var=result)
    block.remove_ops([operation])


def _across(values: Any, operation: Any) -> Any:
    """A number for each output channel in a shape that broadcasts with the result."""
    return values.reshape(1, -1, *(1,) * (operation.outputs[0].rank - 2)) if operation.op_type == "conv" else values
