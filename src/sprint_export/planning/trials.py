"""Trials: one network with some of its layers in float, built for its kernel table, priced, and kept for the next run.

What is built is short and has made-up weights and ranges (cutting.py, building.py). Each table is written to the cache when it is
there, so a run that was killed goes on where it was.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sprint_export.cache import cache_folder, hash_question, open_cache, write_cached
from sprint_export.errors import InputError
from sprint_export.files import read_signed, sign_text, write_text
from sprint_export.json_forms import from_json, to_json
from sprint_export.nouns.order import Deployment
from sprint_export.nouns.target import BuiltTarget
from sprint_export.planning.building import build_network
from sprint_export.planning.cutting import Cut, count_runs, cut_network
from sprint_export.planning.layer_kernels import LayerWork, join_layers, share_price
from sprint_export.planning.prices import Prices, price_kernel
from sprint_export.strict_json import parse_json

if TYPE_CHECKING:
    from sprint_export.nouns.student import Student

FORM = 2  # of what is kept
KIND = "trials"
Left = frozenset[str]  # names of layers that stay in float, those of blocks that are left out among them


@dataclass(frozen=True)
class Table:
    """The kernels of a short network's engine."""

    kernels: tuple[LayerWork, ...]


class Trials:
    """One network of a student.

    Args:
        student: specialized, and rounded plainly (building.round_plainly).
        role: of the network.
        deployment: of a target that builds files which say what will run; its options are complete.
        prices: of the device.
    """

    def __init__(self, student: Student, role: str, deployment: Deployment, prices: Prices) -> None:
        self.student, self.role, self.deployment, self.prices = student, role, deployment, prices
        self._tables: dict[Left, Table] = {}

    @cached_property
    def _cut(self) -> Cut:
        return cut_network(self.student.components[self.role])

    def price(self, left: Left) -> float:
        """Milliseconds of a run of the whole network at the device's peaks.

        Raises:
            InputError: the built files do not say what will run.
        """
        kernels, counts = self._count(left)
        return sum(price_kernel(each.work, self.prices) * times for each, times in zip(kernels, counts, strict=True))

    def share(self, left: Left) -> dict[str, float]:
        """Milliseconds by layer, of all blocks; a layer that was joined to another counts as that one."""
        kernels, counts = self._count(left)
        shares = share_price(kernels, self.prices, counts)
        return {self._cut.names.get(name, name): share for name, share in shares.items()}

    def join(self, left: Left) -> dict[str, tuple[str, ...]]:
        """Layers that kernels name -> those that are computed with them; of the blocks that were built."""
        names = self._cut.names
        joined = self._join(self._build(left).kernels)
        return {names[first]: tuple(names[other] for other in others) for first, others in joined.items()}

    def _join(self, kernels: tuple[LayerWork, ...]) -> dict[str, tuple[str, ...]]:
        return join_layers(kernels, tuple(self._cut.names))

    def _count(self, left: Left) -> tuple[tuple[LayerWork, ...], list[float]]:
        kernels = self._build(left).kernels
        return kernels, count_runs(kernels, self._cut.repeats, self._join(kernels))

    def _build(self, left: Left) -> Table:
        if left not in self._tables:
            self._tables[left] = self._read(left) or self._make(left)
        return self._tables[left]

    def _read(self, left: Left) -> Table | None:
        path = self._find_file(cache_folder() / KIND, left)
        try:
            return from_json(Table, parse_json(read_signed(path.read_bytes()).encode()))
        except (OSError, ValueError, TypeError, KeyError):  # none, of another version, or damaged: it is built again
            return None

    def _make(self, left: Left) -> Table:
        kernels, _ = build_network(self._leave(left), self.role, self.deployment)
        if not kernels:
            raise InputError(f"--drop-unpaid: the files built for {self.deployment.name} do not say what will run")
        table = Table(kernels)
        text = sign_text(json.dumps(to_json(table)))
        write_cached(self._find_file(open_cache(KIND), left), lambda part: write_text(part, text))
        return table

    def _leave(self, left: Left) -> Student:
        cut = self._cut.component
        kept = {name: layer for name, layer in cut.layers.items() if self._cut.names[name] not in left}
        return replace(self.student, components={self.role: replace(cut, layers=kept)})

    def _find_file(self, folder: Path, left: Left) -> Path:
        from sprint_export.export.student import bundle_key

        target = self.deployment.target
        assert isinstance(target, BuiltTarget)
        builder = str(self.deployment.options["builder"])
        trial, deployment = replace(self._leave(left), recipe=None), replace(self.deployment, hashed={})
        version = target.find_version(builder)
        return folder / f"{hash_question([FORM, bundle_key(trial, deployment), self.role, builder, version])}.json"


class NotKeptError(Exception):
    """A trial that no earlier run built."""


class KeptTrials(Trials):
    """Those of earlier runs alone: nothing is built."""

    def _make(self, left: Left) -> Table:
        raise NotKeptError(self.role)
