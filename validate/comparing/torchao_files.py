"""torchao's reader of safetensors, for networks with a parameter of their own.

torchao 0.18's `unflatten_tensor_state_dict` splits every name at its last dot and ends in a ValueError where there is none, as in
SANA's `scale_shift_table`; its writer wrote that tensor as it is. So here names without a dot are taken around it.
Source: torchao 0.18.0, torchao/prototype/safetensors/safetensors_support.py, line 74.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

MODULE, FUNCTION = "diffusers.quantizers.torchao.torchao_quantizer", "unflatten_tensor_state_dict"
NAMES = "tensor_names"  # of the metadata

Unflatten = Callable[[dict[str, Any], Mapping[str, str]], tuple[dict[str, Any], dict[str, Any]]]


@contextmanager
def root_tensors_read() -> Iterator[None]:
    """Have diffusers read tensors of torchao's files that belong to no module."""
    module = importlib.import_module(MODULE)
    stock = getattr(module, FUNCTION)
    setattr(module, FUNCTION, pass_root_tensors(stock))
    try:
        yield
    finally:
        setattr(module, FUNCTION, stock)


def pass_root_tensors(stock: Unflatten) -> Unflatten:
    """A reader that hands tensors whose names have no dot through, and gives `stock` the others."""

    def unflatten(state: dict[str, Any], metadata: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
        names = json.loads(metadata[NAMES])
        root = {name: state[name] for name in names if "." not in name and name in state}
        rest = {name: value for name, value in state.items() if name not in root}
        found, left = stock(rest, {**metadata, NAMES: json.dumps([name for name in names if "." in name])})
        return root | found, left

    return unflatten
