"""Which module a graph's constant belongs to: rewrites move, merge and rename nodes, weights keep the name of their layer."""

from __future__ import annotations

import re
from collections.abc import Container
from functools import cache


def find_module(constant: str, modules: Container[str]) -> str | None:
    """The module, as `spell` writes it, whose weight a constant is made of: the longest that it begins with."""
    text = spell(re.sub(r"^(\d+:)?([pb]_)?", "", constant))
    ends = (end for end in range(len(text), 0, -1) if text[end - 1] == "_")
    return next((text[:end] for end in ends if text[:end] in modules), None)


@cache
def spell(path: str) -> str:
    """A path as every format may write it, ended so that `layers.1` is not the beginning of `layers.10`."""
    return re.sub(r"\W", "_", path) + "_"
