"""compare_blocks: after each block of every network, exported against PyTorch, on the inputs of one prompt.

    exported    the graph with the blocks' values among its outputs (runtimes/inner_values.py), thinned where they are large
    float32     the specialized network in torch
    rounded     the same with the inputs and weights rounded as the manifest says
One network is in memory at a time, and of every block no more than MOST_VALUES values on a side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from sprint_export.compute import CPU, Compute
from sprint_export.errors import BundleError, MachineError, RefusedError
from sprint_export.freed_memory import return_freed_memory
from sprint_export.nouns.bundle import Bundle, ComponentRecord
from sprint_export.nouns.report import BlockError
from sprint_export.nouns.student import Component, Student
from sprint_export.progress import Progress, Step, quiet, track
from sprint_export.registry import load_target
from sprint_export.runtimes.inner_values import InnerGraph
from sprint_export.runtimes.open import open_inner
from sprint_export.runtimes.runtime import Runtime, load_runtime
from sprint_export.students.family import load_family
from sprint_export.validate.blocks.departure import compare_values
from sprint_export.validate.blocks.layout import Array, Layout, arrange_torch, list_layouts
from sprint_export.validate.blocks.places import Places
from sprint_export.validate.blocks.torch_side import TorchSide, list_shapes
from sprint_export.validate.blocks.tree import is_entry, list_blocks
from sprint_export.validate.images import psnr_arrays
from sprint_export.validate.side_by_side import RoundedKeeper, take_component

COMPARING = Step("comparing blocks")
FARTHEST = 1000.0  # of a relative error, and of dB below 0: a report holds numbers only
Feeds = Mapping[str, Mapping[str, Array]]  # role -> inputs of its first call, by name


@dataclass
class Found:
    """What was compared, and in words what was not."""

    blocks: list[BlockError] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    excess: dict[tuple[str, str], float] = field(default_factory=dict)  # (network, block) -> Comparison.excess


@dataclass
class Value:
    """One block's value: how the graph may hold it, and what is there of it so far, [positions, channels] each.

    `exported` has one matrix for each layout until float32's value says which it is.
    """

    layouts: list[Layout]
    exported: list[Array]
    positions: Array | None = None
    count: int = 0  # of positions, those that are not taken among them; 0: all are
    wanted: Array | None = None
    rounded: Array | None = None

    def leave_out(self, spare: int) -> None:
        """Leave the last `spare` positions of all out: of a text, padding that nobody reads."""
        assert self.wanted is not None and self.rounded is not None
        positions = np.arange(len(self.wanted)) if self.positions is None else self.positions
        kept = positions < (self.count or len(self.wanted)) - spare
        self.exported, self.wanted, self.rounded = [self.exported[0][kept]], self.wanted[kept], self.rounded[kept]

    def take_wanted(self, value: Array) -> None:
        """Choose the layout in which the graph's value is nearest."""
        places = [layout.list_positions() for layout in self.layouts]
        wanted = [arrange_torch(value, positions) for positions in places]
        squares = [np.square(ours - theirs, dtype=np.float64).mean() for ours, theirs in zip(self.exported, wanted, strict=True)]
        best = int(np.argmin(np.nan_to_num(squares, nan=np.inf)))
        self.layouts, self.exported = [self.layouts[best]], [self.exported[best]]
        self.count, self.wanted, self.positions = value.size // wanted[best].shape[1], wanted[best], places[best]

    def take_rounded(self, value: Array) -> None:
        """Keep the same positions."""
        self.rounded = arrange_torch(value, self.positions)


@dataclass(frozen=True)
class Sides:
    """What is compared with what.

    Args:
        bundle: its files.
        student: specialized as the bundle is.
        runtime: that draws its pictures; another of the target's is taken where it shows no values inside a network.
        compute: where torch runs.
        keeper: of what the rounded networks give; default: nothing is kept.
    """

    bundle: Bundle
    student: Student
    runtime: Runtime
    compute: Compute = CPU
    keeper: RoundedKeeper | None = None


def compare_blocks(sides: Sides, feeds: Feeds, progress: Progress = quiet) -> Found:
    """Every network that ran, block by block.

    Args:
        sides: of the comparison.
        feeds: what each network was given at the first prompt.
        progress: is told (step, done, total).
    """
    bundle, found = sides.bundle, Found()
    records = [record for record in bundle.components if record.role in feeds]
    for record in track(records, COMPARING, progress):
        try:
            graph = _open_graph(bundle, sides.runtime, record.role, found)
            if graph is not None:
                _Network(sides, record, graph).compare(feeds[record.role], found)
        except (BundleError, MachineError) as error:  # of a graph that ran as it is: memory, or values beside its outputs
            found.unchecked.append(f"blocks of {record.role}: {error}")
    return found


def _open_graph(bundle: Bundle, runtime: Runtime, role: str, found: Found) -> InnerGraph | None:
    """A network on the runtime or, where that shows no values inside, on another of the target's (said); None: on none."""
    others = (load_runtime(name) for name in load_target(bundle.target).runtimes)
    reasons = []
    for each in (runtime, *(other for other in others if other.name != runtime.name and other.can_run() is None)):
        try:
            graph = open_inner(bundle, each, role)
        except RefusedError as error:
            reasons.append(str(error))
            continue
        found.unchecked += [f"blocks of {role}: {reason}; they were read on {graph.description}" for reason in reasons]
        return graph
    found.unchecked.append(f"blocks of {role}: {'; '.join(reasons)}")
    return None


@dataclass(frozen=True)
class _Network:
    """One network of a comparison."""

    sides: Sides
    record: ComponentRecord
    graph: InnerGraph

    def compare(self, feeds: Mapping[str, Array], found: Found) -> None:
        component = self.sides.student.components[self.record.role]
        return_freed_memory()
        shapes = list_shapes(component, feeds, list_blocks(component.module))
        shapes = {block: shape for block, shape in shapes.items() if not self._is_moved(component, block)}
        values, outputs = self._read_graph(component, feeds, shapes)
        missing = [block for block in shapes if block not in values and is_entry(component.module, block.partition("[")[0])]
        if missing:
            found.unchecked.append(f"blocks of {self.record.role}: the graph has no value of {', '.join(missing)}")
        sides = self._run_torch(component, feeds, values)
        whole = {
            name: Value(
                [], [arrange_torch(outputs[name])], wanted=arrange_torch(sides[0][name]), rounded=arrange_torch(sides[1][name])
            )
            for name in outputs
        }
        spare = self._count_padding(feeds)
        for value in (*values.values(), *whole.values()) if spare else ():
            value.leave_out(spare)
        self._describe({**values, **whole}, found)

    def _count_padding(self, feeds: Mapping[str, Array]) -> int:
        """How many ids behind the prompt's are padding; 0 where the network reads none."""
        ids = feeds.get(self.sides.bundle.chain.names.ids)
        return 0 if ids is None else int(np.argmax(ids[0, ::-1] != self.sides.bundle.prompt.pad_id))

    def _is_moved(self, component: Component, block: str) -> bool:
        """Whether smoothing scales what a block gives, for a reader outside it to scale back."""

        def is_inside(name: str) -> bool:
            return name.startswith(f"{block}.")

        migrations = load_family(self.sides.student.family).list_migrations(self.sides.student, component.role)
        return any(any(map(is_inside, each.producers)) and not all(map(is_inside, each.consumers)) for each in migrations)

    def _read_graph(
        self, component: Component, feeds: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]
    ) -> tuple[dict[str, Value], dict[str, Array]]:
        """The graph's values by block, in every layout that they may have, and its outputs."""
        places = Places(self.graph, component.weights, list(dict.fromkeys(name.partition("[")[0] for name in shapes)))
        layouts = {
            block: [
                layout
                for name in places.find_candidates(block.partition("[")[0])
                for layout in list_layouts(name, self.graph.shapes[name], shape)
            ]
            for block, shape in shapes.items()
        }
        layouts = {block: found for block, found in layouts.items() if found}
        arrays, outputs = self.graph.run(feeds, [layout.sample for found in layouts.values() for layout in found])
        waiting = iter(arrays)
        read = {block: [(each, each.arrange(next(waiting))) for each in found] for block, found in layouts.items()}
        fitting = {block: [pair for pair in pairs if pair[0].fits(pair[1])] for block, pairs in read.items()}
        values = {
            block: Value([layout for layout, _ in pairs], [matrix for _, matrix in pairs])
            for block, pairs in fitting.items()
            if pairs
        }
        return values, outputs

    def _run_torch(
        self, component: Component, feeds: Mapping[str, Array], values: Mapping[str, Value]
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """What float32 and the rounded network give; of each block they are noted in its Value."""
        return_freed_memory()
        plain, sides, role = replace(component, layers={}), self.sides, self.record.role
        wanted, _ = TorchSide(plain, "fp32", sides.compute).run(feeds, values, lambda block, x: values[block].take_wanted(x))
        return_freed_memory()
        dtype = load_target(sides.bundle.target).graph_dtype[sides.bundle.precision]
        side = TorchSide(take_component(sides.bundle, sides.student, self.record), dtype, sides.compute)
        rounded, ran_on = side.run(feeds, values, lambda block, x: values[block].take_rounded(x))
        if sides.keeper is not None:
            sides.keeper.keep(role, feeds, rounded, ran_on)
        return wanted, rounded

    def _describe(self, values: Mapping[str, Value], found: Found) -> None:
        role, has_departed = self.record.role, False
        for place, (block, value) in enumerate(values.items()):
            [exported], wanted, rounded = value.exported, value.wanted, value.rounded
            assert wanted is not None and rounded is not None, "each block ran once on both sides"
            compared = compare_values(exported, rounded, wanted)
            found.excess[role, block] = excess = compared.excess(self.graph.dtype)
            departs = excess > 1 and not has_departed
            has_departed = has_departed or departs
            apart = min(compared.relative_error, FARTHEST), _measure(rounded, wanted), departs
            found.blocks.append(BlockError(role, block, place, _measure(exported, wanted), *apart))


def _measure(found: Array, wanted: Array) -> float:
    """PSNR in dB; what is no number is as far as can be."""
    return max(psnr_arrays(found, wanted), -FARTHEST) if np.isfinite(found).all() else -FARTHEST
