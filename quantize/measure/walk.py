"""Prompts through all networks of a specialized student, in order, chunk after chunk, in torch with streamed weights.

The chain is the executor's (executor.py): a group of stages at a time, the loop's at the student's own times, it and what follows
once for each number of steps. What is looked at is the visitor's business: calibrate.py records what layers read, fit.py rounds
weights by it. Rows of texts that are only padding are not looked at: nothing reads what becomes of them. What optional networks
take is the family's choice (`make_inputs`), so that they run too.

Rounds are for a visitor that may have seen enough: some prompts after others, each round up to the last network that it wants
more of. Of large pictures a network behind the loop may then be shown a part, another for each prompt (`Family.local_roles`).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from sprint_export.compute import CPU, Compute
from sprint_export.executor import Executor, OneAtATime, Values, make_executor
from sprint_export.noise import make_calibration_noise
from sprint_export.nouns.chain import Group, is_loop, name_group
from sprint_export.nouns.student import Component, Student, TensorSpec
from sprint_export.prompt_reader import PromptReader
from sprint_export.quantize.measure.streaming import Listener, StreamedNetwork, count_layers, count_rows_at_once
from sprint_export.sampler import sample
from sprint_export.students.family import load_family

if TYPE_CHECKING:
    from sprint_export.executor import Array

LARGE_LATENTS = 1 << 13  # values; of a larger state a quarter shows a network behind the loop what the whole does


@dataclass(frozen=True)
class Chunk:
    """Prompts `start` to `stop` on their way through the networks of one group, which `name` names.

    `text_rows` bool [prompts, T] by role says which rows of texts are not padding, `text_layers` which layers (`role.layer`) read
    texts; `done` of `total` prompts times groups went before, of those that are sure to go; `inputs` is how many layers will be
    heard.
    """

    name: str
    steps: int
    start: int
    stop: int
    text_rows: Mapping[str, torch.Tensor]
    text_layers: Sequence[str]
    inputs: int
    done: int
    total: int

    def select_rows(self, name: str, layer: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        """The rows [..., C] that count of what a Linear reads, [b, ..., C], or a Conv2d reads or gives, [b, C, h, w]."""
        rows = x.flatten(2).transpose(1, 2) if isinstance(layer, torch.nn.Conv2d) else x.reshape(len(x), -1, x.shape[-1])
        is_text = any(fnmatchcase(name, pattern) for pattern in self.text_layers)
        return rows[self.text_rows[name.partition(".")[0]].to(x.device)] if is_text else rows


class Visitor(Protocol):
    """What is done with a chunk; `is_divisible`: whether prompts that a device's memory is too small for may come in parts."""

    is_divisible: bool

    def visit(self, chunk: Chunk, run: Callable[[Listener], Values]) -> Values:
        """The chunk's outputs, [prompts, ...] by name: what `run(listen)` returns, or what it returned before."""


class RoundsVisitor(Visitor, Protocol):
    """A visitor that may have seen enough."""

    def wants(self, name: str) -> bool:
        """Whether it is to see more of the group of that name."""


Round = Sequence[slice]  # prompts that pass each group together, one slice behind the other


def walk_networks(
    student: Student, prompts: Sequence[str], seed: int, visitor: Visitor, last: str | None = None, compute: Compute = CPU
) -> None:
    """Take all prompts through the networks up to `last`; one that is missing gives unit noise to the next.

    Args:
        student: specialized.
        prompts: texts.
        seed: of the noise.
        visitor: sees every chunk.
        last: the role that ends the walk; default: all networks.
        compute: where networks run. Short of memory there, chunks are halved down to one prompt, then a group goes to the CPU.
    """
    walk = _Walk(student, prompts, seed, visitor, compute)
    ends = (i for i, group in enumerate(walk.groups) if last in [stage.role for stage in group])
    walk.go_round((slice(0, len(prompts)),), walk.groups[: next(ends, len(walk.groups)) + 1])


def walk_rounds(
    student: Student, prompts: Sequence[str], seed: int, visitor: RoundsVisitor, rounds: Sequence[Round], compute: Compute = CPU
) -> None:
    """As `walk_networks`, round after round, each up to the last network that the visitor wants more of.

    Args:
        student: specialized.
        prompts: texts.
        seed: of the noise.
        visitor: sees every chunk, and is asked before each round.
        rounds: of all prompts; no chunk has prompts of two slices.
        compute: where networks run.
    """
    walk = _Walk(student, prompts, seed, visitor, compute, shows_parts=True)
    for parts in rounds:
        here = ((i, group) for i, group in enumerate(walk.groups) if {stage.role for stage in group} & set(student.components))
        wanted = [i for i, group in here if visitor.wants(name_group(group))]
        walk.go_round(parts, walk.groups[: max(wanted, default=-1) + 1])


class _Place:
    """Where a group runs and how many prompts at once; both give way where the device's memory is short."""

    def __init__(self, compute: Compute, size: int, components: Mapping[str, Component]) -> None:
        self.compute, self.size, self._components = compute, size, components
        self._networks: dict[str, StreamedNetwork] = {}

    def open_network(self, role: str) -> StreamedNetwork:
        """Opened when asked for: not where every chunk is on disk."""
        if role not in self._networks:
            self._networks[role] = StreamedNetwork(self._components[role], compute=self.compute)
        return self._networks[role]

    @contextlib.contextmanager
    def give_way(self, chunk: Chunk, is_divisible: bool) -> Iterator[None]:
        """Where the block ends for want of memory: the next chunk is half as large, or the group goes on on the CPU."""
        count = chunk.stop - chunk.start
        try:
            yield
        except RuntimeError as error:
            if not self.compute.is_short(error):
                raise
            if count > 1 and is_divisible:
                self.size = count // 2
                self.compute.say(
                    f"{chunk.name}: {count} prompts at once are too large for {self.compute.title}; {self.size} are tried"
                )
            else:
                self.compute = self.compute.leave(chunk.name, count)
                self._networks.clear()


def shows_quarter(student: Student, roles: Collection[str]) -> bool:
    """Whether a visitor that may have seen enough is shown a quarter of each picture in these networks, where they come last."""
    return math.prod(student.latent_shape) > LARGE_LATENTS and set(roles) <= set(load_family(student.family).local_roles)


class _Walk:
    """Tables of a round's values so far: one for all numbers of steps before the loop, then one for each."""

    def __init__(
        self,
        student: Student,
        prompts: Sequence[str],
        seed: int,
        visitor: Visitor,
        compute: Compute,
        shows_parts: bool = False,
    ) -> None:
        assert student.plan is not None
        self.compute = compute
        self.student, self.seed, self.visitor, self.count = student, seed, visitor, len(prompts)
        self.family, self.chain, self.components = load_family(student.family), student.chain, student.components
        self.groups = self.chain.group({*self.components, *self.chain.list_missing(self.components)})
        self.counts = student.plan.counts or (student.plan.steps,)
        self.done = self.total = 0
        self.ids, self.mask = PromptReader(student.prompt, student.tokenizer / "tokenizer.json").read(prompts)
        self.start = make_executor(student, {}).start(self.ids, self.mask, self.family.make_inputs(student, prompts))
        self.shows_parts = shows_parts
        self.tables: dict[int, Values] = {}

    def go_round(self, parts: Round, groups: Sequence[Group]) -> None:
        """Some prompts through these groups, for each number of steps where that makes a difference."""
        rows = slice(parts[0].start, parts[-1].stop)
        loop = next(i for i, group in enumerate(self.groups) if is_loop(group))
        runs = sum(len(self.counts) if i >= loop else 1 for i in range(len(groups)))
        self.total += runs * (rows.stop - rows.start)
        start = {name: value[rows] for name, value in self.start.items()}
        self.tables = dict.fromkeys(self.counts, start)
        for i, group in enumerate(groups):
            tables = self.tables if i >= loop else {1: self.tables[self.counts[0]]}
            gone = {steps: table | self._run(group, steps, table, parts) for steps, table in tables.items()}
            self.tables = gone if i >= loop else dict.fromkeys(self.counts, gone[1])

    def _run(self, group: Group, steps: int, table: Values, parts: Round) -> Values:
        """What the group writes that is read behind it, for the prompts of a round."""
        first, count = parts[0].start, parts[-1].stop - parts[0].start
        noise = np.empty((steps, 0))
        if is_loop(group):
            noise = make_calibration_noise(self.seed + first, steps, count, self.student.latent_shape)
        present = [stage for stage in group if stage.role in self.components]
        if not present:
            self.done += count
            names, plan = self.chain.names, self.student.plan
            if plan is None or not is_loop(group):
                return {}
            times = [plan.times[row] for row in plan.rows(steps)]
            return {names.state: sample(lambda x, _: x, list(noise), times, plan.starts_from_noise).astype(np.float32)}
        table = self._complete(group, table, first)
        place = _Place(self.compute, min(count_rows_at_once(self.components[stage.role]) for stage in present), self.components)
        outputs, start = [], first
        while start < first + count:
            end = next(part.stop for part in parts if part.stop > start)
            rows = slice(start, min(start + place.size, end))

            def run(listen: Listener, rows: slice = rows) -> Values:
                for stage in present:
                    place.open_network(stage.role).tell(listen)
                executor = make_executor(self.student, OneAtATime((group,), place.open_network))
                mine = slice(rows.start - first, rows.stop - first)
                values = self._show(group, {name: value[mine] for name, value in table.items()}, rows.start)
                return self._keep(group, executor, values, noise[:, mine])

            chunk = self._describe(group, steps, rows)
            with place.give_way(chunk, self.visitor.is_divisible):
                outputs.append(self.visitor.visit(chunk, run))
                start = rows.stop
                self.done += chunk.stop - chunk.start
        return {name: np.concatenate([each[name] for each in outputs]) for name in outputs[0]}

    def _show(self, group: Group, table: Values, start: int) -> Values:
        """Of a large state the quarter that a local network is shown, another for each prompt; of others all."""
        roles = [stage.role for stage in group]
        if not (self.shows_parts and group == self.groups[-1] and shows_quarter(self.student, roles)):
            return table
        state = self.chain.names.state
        return table | {state: np.stack([cut_quarter(x, start + i) for i, x in enumerate(table[state])])}

    def _keep(self, group: Group, executor: Executor, table: Values, noise: Array) -> Values:
        """Run a chunk; of what it writes, what later groups read: neither the picture nor what only the loop sees."""
        behind = self.groups[self.groups.index(group) + 1 :]
        read = {spec.name for each in behind for stage in each for spec in self._read(stage.role)}
        after = executor.run(tuple(stage for stage in group if stage.role in self.components), table, noise)
        return {name: value for name, value in after.items() if name in read and value is not table.get(name)}

    def _read(self, role: str) -> tuple[TensorSpec, ...]:
        return self.components[role].inputs if role in self.components else ()

    def _complete(self, group: Group, table: Values, first: int) -> Values:
        """The table with unit noise for what networks that are missing would have written."""
        if not self.chain.list_missing(self.components):
            return table
        written = {spec.name for stage in group for spec in self.components[stage.role].outputs if stage.role in self.components}
        known = {*table, *written, self.chain.names.state, self.chain.names.step}
        specs = {spec.name: spec for stage in group for spec in self._read(stage.role) if spec.name not in known}
        draw, rows = np.random.default_rng(0).standard_normal, slice(first, first + len(table[self.chain.names.ids]))
        return table | {n: draw((self.count, *map(int, s.shape[1:])), np.float32)[rows] for n, s in specs.items()}

    def _describe(self, group: Group, steps: int, rows: slice) -> Chunk:
        roles = [stage.role for stage in group if stage.role in self.components]
        reads_ids = {role: self.chain.names.ids in {spec.name for spec in self._read(role)} for role in roles}
        kept = {True: self.ids[rows] != self.student.prompt.pad_id, False: self.mask[rows].astype(bool)}
        text_rows = {role: torch.from_numpy(kept[reads_ids[role]]) for role in roles}
        inputs = sum(count_layers(self.components[role]) for role in roles) * (steps if is_loop(group) else 1)
        start, stop = rows.start, rows.stop
        layers = self.family.text_layers
        return Chunk(name_group(group), steps, start, stop, text_rows, layers, inputs, self.done, self.total)


def cut_quarter(state: Array, number: int) -> Array:
    """[C, h, w] -> [C, h / 2, w / 2]: upper left, upper right, lower left, lower right in turn."""
    h, w = state.shape[-2] // 2, state.shape[-1] // 2
    down, right = divmod(number % 4, 2)
    return state[..., down * h : down * h + h, right * w : right * w + w]
