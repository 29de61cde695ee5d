"""What stands between torch.export and a right ML program in coremltools 9.0: each fix with the upstream issue it waits for.

* `alias`: an identity node of torch 2.13 that the converter does not know (NotImplementedError). Removed from the graph.
* `gelu(approximate="tanh")`: the keyword is dropped without a word and the exact form comes out, 50 dB away (apple/coremltools
  pull request 2863). Looking the keyword up as the converter does is wrong too: in Gemma the string "tanh" is also the name of
  the soft cap's node. The lowering here reads it from the node itself.
* `fuse_elementwise_to_batchnorm`: x a + b becomes a batch_norm of variance 1 with an epsilon of 1e-5: x a (1 - 5e-6) + b.
  The pass is left out.
Delete a fix when its test in tests/export/test_coreml_fixes.py passes without it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

TANH_FORM = "TANH_APPROXIMATION"
LEFT_OUT = ("common::fuse_elementwise_to_batchnorm",)


def drop_aliases(program: torch.export.ExportedProgram) -> None:
    """Remove identity nodes, in place."""
    for node in list(program.graph.nodes):
        if node.target is torch.ops.aten.alias.default:
            node.replace_all_uses_with(node.args[0])
            program.graph.erase_node(node)


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
