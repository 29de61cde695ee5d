"""Whether the scales of activations in a file are those that the manifest's ranges give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sprint_export.nouns.student import Component
from sprint_export.quantize.scales import input_scale, output_scale
from sprint_export.validate.weights.search import Held

NEAR = 1e-5  # a scale has the digits of its type, and comes from one number of the manifest


def compare_ranges(component: Component, tensors: Sequence[Held]) -> Iterator[tuple[str, str]]:
    """(module, what is wrong) of each layer whose input or output scale is not among the file's numbers."""
    numbers = np.array([float(np.asarray(each.read()).reshape(-1)[0]) for each in tensors if _is_number(each)])
    for name, layer in component.layers.items():
        wanted = {}
        if layer.input_amax is not None:
            wanted["input"] = float(input_scale(layer))
        if layer.output_amax is not None:
            wanted["output"] = float(output_scale(layer))
        for side, scale in wanted.items():
            if not np.isclose(numbers, scale, rtol=NEAR, atol=0.0).any():
                yield name, f"no number of the file is the scale of its {side}, {scale:.6g}"


def _is_number(held: Held) -> bool:
    return not held.tensor.is_code and int(np.prod(held.tensor.shape)) == 1
