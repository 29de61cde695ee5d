"""Whether the scales of activations in a file are those that the manifest's ranges give: each of them, and no others.

Where two layers have one range, one scale is found for both; so a number that a file calls a scale has to be one of those, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sprint_export.nouns.student import Component
from sprint_export.quantize.scales import input_scale, output_scale
from sprint_export.validate.weights.search import Held

NEAR = 1e-5  # a scale has the digits of its type, and comes from one number of the manifest
CALLED = (".scale", "_scale_0")  # how the names of such numbers end


def compare_ranges(component: Component, tensors: Sequence[Held], own: frozenset[str]) -> Iterator[tuple[str, str]]:
    """(layer, what is wrong) of each scale that is not among the file's numbers, and (its name, ...) of each that is another.

    Args:
        component: with its layers.
        tensors: of the file.
        own: names of those that have a layer's name: a weight's scales.
    """
    numbers = {each.tensor.name: float(np.asarray(each.read()).reshape(-1)[0]) for each in tensors if _is_number(each)}
    found, meant = np.array(list(numbers.values())), list[float]()
    for name, layer in component.layers.items():
        sides = {}
        if layer.input_amax is not None:
            sides["input"] = float(input_scale(layer))
        if layer.output_amax is not None:
            sides["output"] = float(output_scale(layer))
        meant += sides.values()
        for side, scale in sides.items():
            if not np.isclose(found, scale, rtol=NEAR, atol=0.0).any():
                yield name, f"no number of the file is the scale of its {side}, {scale:.6g}"
    for name, number in numbers.items():
        is_scale = name.endswith(CALLED) and name not in own
        if meant and is_scale and not np.isclose(meant, number, rtol=NEAR, atol=0.0).any():
            yield name, f"the number {number:.6g} is the scale of no layer's input or output"


def _is_number(held: Held) -> bool:
    return not held.tensor.is_code and int(np.prod(held.tensor.shape)) == 1
