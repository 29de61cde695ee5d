"""The shapes of graphs that take several prompts at once.

The specs of a bundle are those of one prompt; a graph that was exported with --batch N has N in place of their first 1, but for
the sampler's step, which all rows share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sprint_export.errors import BundleError
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.student import TensorSpec
from sprint_export.nouns.target import BATCH

MOST = 64  # prompts


def widen_specs(specs: Sequence[TensorSpec], batch: int, step: str) -> tuple[TensorSpec, ...]:
    """The specs of a graph that takes `batch` prompts; `step` names the one that stays."""
    return tuple(spec if spec.name == step else replace(spec, shape=(batch, *spec.shape[1:])) for spec in specs)


def find_batch(bundle: Bundle) -> int:
    """How many prompts a bundle's graphs take.

    Raises:
        BundleError: its manifest says what is no such number, or its networks have several parts.
    """
    batch = bundle.options.get(BATCH)
    if batch is None:
        return 1
    is_known = type(batch) is int and 2 <= batch <= MOST and all(len(each.parts) == 1 for each in bundle.components)
    if not is_known:
        raise BundleError(f"{bundle.folder}: options.batch is {str(batch)[:40]!r}; expected 2 to {MOST}, of networks in one part")
    assert isinstance(batch, int)
    return batch
