"""Each block by itself: torch's rounded block on what the exported graph gave it, so that no error of a block before is in it.

    own_k = rounded_k(exported values of the blocks before k)          c_k = exported_k - own_k
Both sides round the same values, so c_k is a last digit here and there, whatever the recipe does and however deep the block lies;
behind a wrong block the next one is right again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from sprint_export.runtimes.inner_values import InnerGraph, Sample
from sprint_export.validate.blocks.departure import Comparison, compare_values
from sprint_export.validate.blocks.layout import Array, arrange_torch, restore_torch
from sprint_export.validate.blocks.torch_side import TorchSide
from sprint_export.validate.blocks.values import Value

MOST_HELD = 1 << 27  # values of a network's blocks that are held whole: 512 MB


def compare_own(
    side: TorchSide,
    graph: InnerGraph,
    feeds: Mapping[str, Array],
    values: Mapping[str, Value],
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, Comparison]:
    """By block: exported against torch on the exported graph's own values; blocks behind one that is too large are left out.

    Args:
        side: rounded as the graph is.
        graph: whose values they are.
        feeds: of the network.
        values: each in the layout in which the graph holds it.
        shapes: of torch's values.
    """
    whole = _read_whole(graph, feeds, values)
    found: dict[str, Comparison] = {}

    def take(block: str, own: Array) -> Array:
        exported = whole[block]
        wanted = values[block].wanted
        assert wanted is not None
        mine = arrange_torch(own)
        found[block] = compare_values(exported, mine, mine)
        return np.ascontiguousarray(restore_torch(exported, shapes[block]))

    side.run(feeds, whole, take)
    return found


def _read_whole(graph: InnerGraph, feeds: Mapping[str, Array], values: Mapping[str, Value]) -> dict[str, Array]:
    """The graph's values [positions, channels], as many of the first as may be held."""
    room, chosen = MOST_HELD, dict[str, Value]()
    for block, value in values.items():
        room -= int(np.prod(value.layouts[0].shape))
        if room < 0:
            break
        chosen[block] = value
    thinned = [block for block, value in chosen.items() if value.layouts[0].step > 1]
    whole = {block: value.exported[0] for block, value in chosen.items() if value.layouts[0].step == 1}
    if thinned:
        layouts = [replace(chosen[block].layouts[0], step=1) for block in thinned]
        arrays, _ = graph.run(feeds, [Sample(layout.value) for layout in layouts])
        whole |= {block: layout.arrange(array) for block, layout, array in zip(thinned, layouts, arrays, strict=True)}
    return {block: whole[block] for block in chosen}
