"""The one executor of a chain (nouns/chain.py): values by name through networks and sampler, in numpy, without torch.

Values are one table a prompt, or a chunk of prompts: arrays [rows, ...] by name. A group of stages takes a table and gives one
with what it wrote; the loop's group runs in each step and leaves x0 under the state's name. Who runs the networks (a bundle's
graphs, torch, streamed weights), one prompt or many at a time, is the caller's choice: sessions are asked for when they run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from sprint_export.errors import BundleError, InputError
from sprint_export.freed_memory import return_freed_memory
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.chain import Chain, Group, Interface, Stage, is_loop, name_group
from sprint_export.nouns.student import StepPlan, Student, TensorSpec
from sprint_export.sampler import sample
from sprint_export.sizes import fill_axes, find_units

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

Values = dict[str, "Array"]


class Session(Protocol):
    """One loaded graph. `description` says what runs it and where, e.g. "ONNX Runtime 1.32 CPU, fp32-compute shadow"."""

    @property
    def description(self) -> str:
        """What runs it and where."""

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs by name -> outputs by name, with the dtypes and shapes of the component's TensorSpecs."""


class OneAtATime(Mapping[str, Session]):
    """Sessions opened when asked for, those of a group each closing the group before it.

    Memory is then the largest group (one network, but for the loop's) and not the sum of all: what makes calibrating and
    validating a full-size student fit.
    """

    def __init__(self, groups: Sequence[Group], open_session: Callable[[str], Session]) -> None:
        self._groups = {stage.role: name_group(group) for group in groups for stage in group}
        self._open, self._group = open_session, ""
        self._sessions: dict[str, Session] = {}

    def __getitem__(self, role: str) -> Session:
        if self._groups[role] != self._group:
            self._sessions.clear()  # freed before the next one is loaded
            return_freed_memory()
            self._group = self._groups[role]
        if role not in self._sessions:
            self._sessions[role] = self._open(role)
        return self._sessions[role]

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)


@dataclass
class Executor:
    """The stages that have a network here, over one session each.

    Args:
        chain: of all stages.
        plan: the sampler's times.
        networks: what each role reads and writes.
        sessions: by role.
        is_checked: whether NaN and infinity in what a network gives are an error.
    """

    chain: Chain
    plan: StepPlan
    networks: Mapping[str, Interface]
    sessions: Mapping[str, Session]
    is_checked: bool = False
    seconds: dict[str, list[float]] = field(default_factory=dict)
    ran_on: dict[str, str] = field(default_factory=dict)

    @property
    def groups(self) -> tuple[Group, ...]:
        """Stages that run together, in order."""
        return self.chain.group(self.networks)

    def start(self, ids: Array, mask: Array, inputs: Mapping[str, Array] | None = None) -> Values:
        """The table before the first group.

        Raises:
            InputError: `inputs` names a value that no optional network takes, or has another shape.
        """
        import numpy as np

        known = self.chain.list_given(self.networks)
        for name, value in (inputs or {}).items():
            if name not in known:
                raise InputError(f"inputs: no network takes {name!r}; those that can be given: {', '.join(known) or 'none'}")
            if find_units(known[name].shape[1:], np.shape(value)[1:]) is None or len(value) != len(ids):
                expected = [len(ids), *known[name].shape[1:]]
                raise InputError(f"inputs: {name} has shape {list(np.shape(value))}, expected {expected}")
        given = {name: np.asarray(value, known[name].dtype) for name, value in (inputs or {}).items()}
        if given and self.chain.names.scale in known:
            given = {self.chain.names.scale: np.ones(len(ids), known[self.chain.names.scale].dtype)} | given
        return {self.chain.names.ids: ids, self.chain.names.mask: mask, **given}

    @property
    def encoder(self) -> Stage | None:
        """Whose network makes a state without noise of a picture, where one is here."""
        role = self.chain.find_writer(self.chain.names.encoded, self.networks)
        return next((stage for stage in self.chain.stages if stage.role == role), None)

    def encode(self, picture: Array) -> Array:
        """The state without noise of a picture [1, 3, H, W] in [-1, 1]; there is an encoder."""
        assert self.encoder is not None
        return self._run(self.encoder, {self.chain.names.source: picture})[self.chain.names.encoded]

    def run(
        self,
        group: Group,
        values: Values,
        noise: Array,
        rows: range | None = None,
        start: Array | None = None,
        weights: Sequence[float] | None = None,
    ) -> Values:
        """The table after a group.

        Args:
            group: of the chain.
            values: the table before it.
            noise: unit variance, [steps, rows, ...].
            rows: of the plan's times; default: the schedule of as many steps as there is noise for.
            start: a state without noise that the loop starts from; default: noise alone.
            weights: of the noise in each step; default: the plan's times as they are.
        """
        import numpy as np

        if not is_loop(group):
            state = {} if self.chain.has_loop else {self.chain.names.state: noise[0]}
            return self._run_stages(group, state | values)
        names, rows = self.chain.names, self.plan.rows(len(noise)) if rows is None else rows

        def denoise(x: Array, step: int) -> Array:
            table = values | {names.state: x.astype(np.float32), names.step: np.array([rows[step]], np.int64)}
            return self._run_stages(group, table).get(names.denoised, x)  # where the network that writes it is left out

        times = [self.plan.times[row] for row in rows] if weights is None else weights
        return values | {names.state: sample(denoise, list(noise), times, self.plan.starts_from_noise, start)}

    def _run_stages(self, group: Group, values: Values) -> Values:
        for stage in group:
            values = values | self._run(stage, values)
        return values

    def _run(self, stage: Stage, values: Values) -> Values:
        network = self.networks[stage.role]
        if stage.optional and any(spec.name not in values for spec in network.inputs):
            return {}
        feeds = {spec.name: values[spec.name] if spec.name in values else self._fill(spec, values) for spec in network.inputs}
        session = self.sessions[stage.role]
        start = time.perf_counter()
        result = session.run(feeds)
        if self.is_checked:
            check_finite(stage.role, result)
        self.ran_on[stage.role] = session.description
        self.seconds.setdefault(stage.role, []).append(time.perf_counter() - start)
        return result

    def _fill(self, spec: TensorSpec, values: Values) -> Array:
        """Zeros for what an optional network would have written."""
        import numpy as np

        if not any(stage.optional for stage in self.chain.stages):
            raise BundleError(f"no network writes {spec.name!r}, which another one reads; export the student again")
        names = self.chain.names
        state, units = self.chain.find_spec(names.state, self.networks), {}
        if state is not None and names.state in values:
            units = find_units(state.shape[1:], values[names.state].shape[1:]) or {}
        return np.zeros((len(values[names.ids]), *fill_axes(spec.shape[1:], units)), spec.dtype)


def make_executor(source: Student | Bundle, sessions: Mapping[str, Session], is_checked: bool = False) -> Executor:
    """The executor of a specialized student's chain, or a bundle's."""
    networks: Mapping[str, Interface]
    networks = source.components if isinstance(source, Student) else {record.role: record for record in source.components}
    assert source.plan is not None
    return Executor(source.chain, source.plan, networks, sessions, is_checked)


def check_finite(role: str, outputs: Mapping[str, Array]) -> None:
    """Raise BundleError where a network gave NaN or infinity: what is made of that is no picture."""
    import numpy as np

    for name, values in outputs.items():
        bad = values.size - int(np.count_nonzero(np.isfinite(values)))
        if bad:
            raise BundleError(
                f"{role} gave {bad} of {values.size} values of {name!r} that are NaN or infinite: its weights are damaged or too "
                "large for the type it computes in; export the student again, or for a target of wider floats"
            )
