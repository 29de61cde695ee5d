"""Which values of a graph may be a block's output, found from where its weights are read.

    candidates(block) = { d : d lies on every way from a reader of a weight of the block to the graph's outputs,
                              no weight of the block is read behind d, no other module's between the block and d }
Rewrites move, merge and rename nodes; weights keep the name of the layer that they belong to, and what every way from them leads
through keeps being what the block gives, in some layout. Behind the last weight of a block there may be a sum, a shortcut, an
activation: a few values remain, of which the block's is the one that is nearest to PyTorch's (compare.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sprint_export.runtimes.inner_values import InnerGraph
from sprint_export.validate.graph_names import find_module, spell

MOST = 8  # candidates on the way from one reader of a weight


class Places:
    """The operators of a graph, and what lies on every way from each to the outputs.

    Args:
        graph: its inner values.
        weights: names of the network's weights.
        blocks: paths of the modules that are asked for.
    """

    def __init__(self, graph: InnerGraph, weights: Iterable[str], blocks: Sequence[str]) -> None:
        constant = _trace_constants(graph)
        modules = sorted({spell(name.rpartition(".")[0]) for name in weights})
        bits = {module: 1 << i for i, module in enumerate(modules)}
        owners = {name: bits[module] for name in graph.constants if (module := find_module(name, bits)) is not None}
        self._graph, self._operations = graph, [each for each in graph.operations if not set(each.gives) <= constant.keys()]
        self._own = [
            _join_bits(owners.get(source, 0) for name in each.reads for source in constant.get(name, ()))
            for each in self._operations
        ]
        self._blocks = {
            block: _join_bits(bit for module, bit in bits.items() if module.startswith(spell(block))) for block in blocks
        }
        self._after, self._dominators = self._look_behind()

    def find_candidates(self, block: str) -> list[str]:
        """Floating-point values that may be a block's output, those that come first in the graph first."""
        mask, found = self._blocks[block], set[int]()
        for place, own in enumerate(self._own):
            if own & mask:
                found |= set(self._walk(place, mask))
        names = (self._operations[place].gives for place in sorted(found))
        return [name for gives in names for name in gives if name in self._graph.shapes]

    def _walk(self, start: int, mask: int) -> list[int]:
        """From a reader of a weight towards the outputs, as far as no other module's weight is read."""
        found: list[int] = []
        place: int | None = start
        while place is not None and len(found) < MOST:
            if not self._after[place] & mask:
                found.append(place)
            following = self._dominators[place]
            if following is not None:
                read = self._own[following]
                between = self._after[place] & ~self._after[following] if found else 0
                following = None if (read and not read & mask) or between & ~mask else following
            place = following
        return found

    def _look_behind(self) -> tuple[list[int], list[int | None]]:
        """Of each operator: modules whose weights are read behind it, and what all ways from it lead through next."""
        readers: dict[str, list[int]] = {}
        for place, operation in enumerate(self._operations):
            for name in operation.reads:
                readers.setdefault(name, []).append(place)
        count, outputs = len(self._operations), set(self._graph.outputs)
        dominators: list[int | None] = [None] * count
        after, depths = [0] * count, [0] * count

        def meet(one: int | None, other: int | None) -> int | None:
            while one != other:
                if one is None or other is None:
                    return None
                if depths[one] >= depths[other]:
                    one = dominators[one]
                else:
                    other = dominators[other]
            return one

        for place in reversed(range(count)):
            behind = sorted({reader for name in self._operations[place].gives for reader in readers.get(name, ())})
            after[place] = _join_bits(after[each] | self._own[each] for each in behind)
            common: int | None = None
            if behind and not outputs & set(self._operations[place].gives):
                common = behind[0]
                for each in behind[1:]:
                    common = meet(common, each)
            dominators[place] = common
            depths[place] = 1 if common is None else depths[common] + 1
        return after, dominators


def _join_bits(values: Iterable[int]) -> int:
    joined = 0
    for value in values:
        joined |= value
    return joined


def _trace_constants(graph: InnerGraph) -> dict[str, frozenset[str]]:
    """Values that depend on constants alone -> those."""
    sources = {name: frozenset({name}) for name in graph.constants}
    for operation in graph.operations:
        if all(name in sources for name in operation.reads):
            joined = frozenset[str]().union(*(sources[name] for name in operation.reads))
            sources |= dict.fromkeys(operation.gives, joined)
    return sources
