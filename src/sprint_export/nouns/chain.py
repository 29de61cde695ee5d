"""Which networks make a picture, in which order, and the names of the values that no network makes; standard library only.

A stage reads and writes values by name: its network's inputs and outputs. Stages run in order; those of `each step` stand
together and are the sampler's loop, which replaces the state x_s by x0 at the end (sampler.py). An optional stage is skipped
where one of its inputs is not given; who reads what it would have written reads zeros. A stage that replaces another runs in
its place wherever both are there. Where no stage runs in each step, the sampler is a part of a network, which reads the noise of
its one step as the state.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sprint_export.nouns.student import TensorSpec

ONCE, EACH_STEP = "once", "each step"


class Interface(Protocol):
    """What a network reads and writes: a Component's or a ComponentRecord's."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Specs of what it reads."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Specs of what it writes."""


@dataclass(frozen=True)
class Stage:
    """One network's turn: the role it plays, and whether it runs once a picture or in each step of the sampler."""

    role: str
    when: str = ONCE
    optional: bool = False
    replaces: str = ""


@dataclass(frozen=True)
class ValueNames:
    """Names of values: `ids` and `mask` of the prompt, `state` x_s, `step` and `denoised` x0 of the sampler, the `picture`.

    Where a network encodes pictures, `source` is the one it reads, and `encoded`, what it writes, a state without noise: what the
    loop may start from, or what steers it. `scale` is how strongly it steers, [B]; 1 where it is not given.
    """

    ids: str
    mask: str
    state: str
    denoised: str
    picture: str
    step: str = "step"
    source: str = ""
    encoded: str = ""
    scale: str = ""


Group = tuple[Stage, ...]  # stages that run together: one that runs once, or all of the loop


@dataclass(frozen=True)
class Chain:
    """The stages in order, and the names that tie them to prompt, sampler and picture."""

    stages: tuple[Stage, ...]
    names: ValueNames

    @property
    def has_loop(self) -> bool:
        """Whether the sampler's steps are run around networks, and not within one."""
        return any(is_loop((stage,)) for stage in self.stages)

    @property
    def roles(self) -> tuple[str, ...]:
        """Of all stages, in order."""
        return tuple(stage.role for stage in self.stages)

    def keep(self, roles: Collection[str]) -> Chain:
        """The stages of these roles, for a student that has no others; nothing is encoded where no network is left that does."""
        stages = tuple(stage for stage in self.stages if stage.role in roles)
        is_encoding = any(stage.optional for stage in stages)
        names = self.names if is_encoding else replace(self.names, source="", encoded="", scale="")
        return Chain(stages, names)

    def list_missing(self, present: Collection[str]) -> tuple[str, ...]:
        """Roles without which no picture is made: neither optional, nor replaced by one that is present."""
        replaced = {stage.replaces for stage in self.stages if stage.role in present}
        needed = (stage.role for stage in self.stages if not (stage.optional or stage.replaces))
        return tuple(role for role in needed if role not in present and role not in replaced)

    def group(self, present: Collection[str]) -> tuple[Group, ...]:
        """The stages that run where these roles are present, each alone but for those of the loop."""
        replaced = {stage.replaces for stage in self.stages if stage.role in present}
        running = [stage for stage in self.stages if stage.role in present and stage.role not in replaced]
        keys = {stage.role: EACH_STEP if is_loop((stage,)) else stage.role for stage in running}
        return tuple(tuple(stages) for _, stages in groupby(running, key=lambda stage: keys[stage.role]))

    def list_given(self, networks: Mapping[str, Interface]) -> dict[str, TensorSpec]:
        """Values that only the caller can give: what optional networks read and none writes."""
        names = self.names
        known = {names.ids, names.mask, names.state, names.step} | {
            spec.name for network in networks.values() for spec in network.outputs
        }
        optional = [networks[stage.role] for stage in self.stages if stage.optional and stage.role in networks]
        return {spec.name: spec for network in optional for spec in network.inputs if spec.name not in known}

    def find_writer(self, name: str, networks: Mapping[str, Interface]) -> str | None:
        """The role that writes a value, the last where one replaces another; None where none does."""
        writers = (role for role in self.roles if role in networks and name in {s.name for s in networks[role].outputs})
        return next(reversed(list(writers)), None)

    def find_spec(self, name: str, networks: Mapping[str, Interface]) -> TensorSpec | None:
        """How a value is read, or else written; None where no network knows it."""
        sides = [network.inputs for network in networks.values()] + [network.outputs for network in networks.values()]
        return next((spec for side in sides for spec in side if spec.name == name), None)


def is_loop(group: Group) -> bool:
    """Whether a group runs in each step of the sampler."""
    return group[0].when == EACH_STEP


def name_group(group: Group) -> str:
    """The group's roles as one text."""
    return "+".join(stage.role for stage in group)
