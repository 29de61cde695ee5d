"""What of a network the rewrite rules of export/to_onnx/rules/ serve, counted by module class (`Component.forms`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from torch import nn


def count_forms(network: nn.Module, forms: Mapping[type[nn.Module], tuple[str, ...]]) -> dict[str, int]:
    """How often a network computes each form, given those that every module of a class computes once."""
    kinds = [kind for module in network.modules() for kind in forms if isinstance(module, kind)]
    return dict(Counter(form for kind in kinds for form in forms[kind]))
