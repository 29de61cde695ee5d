"""What stands between torch.export and a right ML program in coremltools 9.0: each fix with the upstream issue it waits for.

* `alias`: an identity node of torch 2.13 that the converter does not know (NotImplementedError). Removed from the graph.
* `gelu(approximate="tanh")`: the keyword is dropped without a word and the exact form comes out, 50 dB away (apple/coremltools
  pull request 2863). Looking the keyword up as the converter does is wrong too: in Gemma the string "tanh" is also the name of
  the soft cap's node. The lowering here reads it from the node itself.
* `fuse_elementwise_to_batchnorm`: x a + b becomes a batch_norm of variance 1 with an epsilon of 1e-5: x a (1 - 5e-6) + b.
  The pass is left out.
* The search for weights beyond half precision makes two 64-bit indices a weight: 10 GB for Gemma-2's embedding. Done here with a
  mask (no issue reported yet).
Delete a fix when its test in tests/export/test_coreml_fixes.py passes without it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

TANH_FORM = "TANH_APPROXIMATION"
HALF_PASS = "common::add_fp16_cast"
HALF_MAX, INFINITE = 65504.0, 1e38
LEFT_OUT = ("common::fuse_elementwise_to_batchnorm",)


def drop_aliases(program: torch.export.ExportedProgram) -> None:
    """Remove identity nodes, in place."""
    for node in list(program.graph.nodes):
        if node.target is torch.ops.aten.alias.default:
            node.replace_all_uses_with(node.args[0])
            program.graph.erase_node(node)


@contextlib.contextmanager
def frugal_half_precision() -> Iterator[None]:
    """Within, coremltools' transform to float16 looks for weights that do not fit it without an index for each."""
    import numpy as np
    from coremltools.converters.mil.mil.passes.defs.quantization import FP16ComputePrecision
    from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY

    class FrugalHalfPrecision(FP16ComputePrecision):  # type: ignore[misc]  # coremltools has no types
        @staticmethod
        def fp16_overflow(op: Any) -> bool:
            return any(exceeds_half(np.asarray(value)) for value in _float32_constants(op))

    before = PASS_REGISTRY.passes[HALF_PASS]
    PASS_REGISTRY.passes[HALF_PASS] = FrugalHalfPrecision()
    try:
        yield
    finally:
        PASS_REGISTRY.passes[HALF_PASS] = before


def exceeds_half(value: Any) -> bool:
    """Whether a finite value is beyond 65504; from 1e38 on it stands for infinity, as in a mask."""
    largest = value.max(initial=0.0, where=value < INFINITE)
    smallest = value.min(initial=0.0, where=value > -INFINITE)
    return bool(max(largest, -smallest) > HALF_MAX)


def _float32_constants(op: Any) -> Iterator[Any]:
    for given in op.inputs.values():
        for value in given if isinstance(given, list | tuple) else (given,):
            if value.op is not None and value.op.op_type == "const" and value.is_tensor_or_scalar_of(dtype="fp32"):
                yield value.op.val.val


@contextlib.contextmanager
def gelu_keeps_its_form() -> Iterator[None]:
    """Within, coremltools lowers gelu in the form the graph asks for."""
    from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY as REGISTRY

    before = REGISTRY.get_func("gelu")
    REGISTRY.set_func_by_name(_lower_gelu, "gelu")
    try:
        yield
    finally:
        REGISTRY.set_func_by_name(before, "gelu")


def _lower_gelu(context: Any, node: Any) -> None:
    from coremltools.converters.mil import Builder

    approximate = (node.kwinputs or {}).get("approximate", ("none",))[0]
    form = TANH_FORM if approximate == "tanh" else "EXACT"
    context.add(Builder.gelu(x=context[node.inputs[0]], mode=form, name=node.name))
