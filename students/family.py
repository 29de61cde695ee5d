"""What a family is: the Protocol that every `students/<family>/family.py` inherits from, so that mypy says what is missing.

A family file is light: it imports the standard library and nouns, names stages, times and presets, and fetches what computes
inside its methods. So it can be asked before any library is loaded, and on machines that only open bundles.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sprint_export.compute import CPU, Compute
from sprint_export.errors import InputError, RefusedError, unknown_choice
from sprint_export.nouns.chain import EACH_STEP, Chain
from sprint_export.nouns.parts import NO_PARTS, Parts
from sprint_export.nouns.student import Component, Migration, StepPlan, Student
from sprint_export.progress import Progress, quiet
from sprint_export.registry import list_members, load_member
from sprint_export.students.folder import has_tensor, read_pipeline
from sprint_export.students.schedule import Schedule, read_schedule

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[Any]


PICTURES_INSTEAD = "let that program draw, and give the folder of its pictures"


@dataclass
class Reference:
    """Pictures uint8 [B, H, W, 3] and denoised states float32 [B, *latents]; seconds by role."""

    pictures: npt.NDArray[np.uint8]
    latents: npt.NDArray[np.float32]
    seconds: dict[str, list[float]] = field(default_factory=dict)


class WholeStock(Protocol):
    """The original implementation kept open, as its users call it, to be timed."""

    networks: Mapping[str, Any]  # torch modules by role, whose calls count

    def draw(self, prompts: Sequence[str], noise: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """Pictures uint8 [B, H, W, 3] of B prompts and their noise [steps, B, *latents]."""


Made = Mapping[str, "Array"]


def make_anew(question: object, make: Callable[[], Made]) -> Made:
    """Recall nothing."""
    return make()


def keep_nothing(row: int, picture: npt.NDArray[np.uint8], latents: npt.NDArray[np.float32]) -> None:
    """Heed no picture."""


@dataclass(frozen=True)
class Draws:
    """Prompts; noise, unit variance float32 [steps, B, *latents]; what optional networks take, [B, ...] by name; where.

    A killed run loses little where a reference tells what it has: `hand_over(row, picture [H, W, 3], latents)` takes each picture
    when it is drawn, `recall(question, make)` gives what `make` made of the question before, e.g. a prompt's embeddings.
    """

    prompts: Sequence[str]
    noise: npt.NDArray[np.float32]
    guidance: float
    inputs: Mapping[str, Array] = field(default_factory=dict)
    compute: Compute = CPU
    hand_over: Callable[[int, npt.NDArray[np.uint8], npt.NDArray[np.float32]], None] = keep_nothing
    recall: Callable[[object, Callable[[], Made]], Made] = make_anew
    times: tuple[float, ...] = ()  # flow times; empty: the family's own of that many steps

    def take(self, rows: Sequence[int]) -> Draws:
        """Some of them."""
        inputs = {name: value[list(rows)] for name, value in self.inputs.items()}
        return replace(self, prompts=[self.prompts[i] for i in rows], noise=self.noise[:, list(rows)], inputs=inputs)

    def split(self) -> list[Draws]:
        """Each of them."""
        return [self.take([i]) for i in range(len(self.prompts))]


class Family(Protocol):
    """One family of students. Its `family.py` declares it as `FAMILY = <Class>(name="<family>")`."""

    name: str
    pipelines: tuple[str, ...]  # `_class_name` of the model_index.json of its folders
    chain: Chain
    guidance: float  # the default
    time_dtype: str = "float32"  # whose constants the family's times are
    starts_from_noise: bool = False  # and not from the first time times the noise
    marks: tuple[str, ...] = ()  # beginnings of `folder/tensor` that tell its folders from others of the same pipeline class
    text_layers: tuple[str, ...] = ()  # patterns of `role.layer` that read rows of the prompt: padded ones are not looked at
    local_roles: tuple[str, ...] = ()  # whose layers read in a quarter of a large picture what they read in the whole
    presets: Mapping[str, str] = {}  # `random:<preset>` -> title
    hub_ids: Mapping[str, str] = {}  # known students on the hub -> title
    schedules: Mapping[str, Schedule] = {}  # by name, beside `plan_times`
    completed_by: Mapping[
        str, str
    ] = {}  # parts that its checkpoint files come without -> where they are; none: it reads no files
    notices: tuple[str, ...] = ()  # terms of what released checkpoints took from others, a sentence each
    holds_prefix: bool = False  # whether its text encoder can hold what it makes of a prompt's prefix

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return Path(str(sys.modules[type(self).__module__].__file__)).parent

    @property
    def recipes(self) -> Path:
        """Where the recipes for it lie; those of the family whose networks it takes, where they are the same."""
        return self.folder / "recipes"

    def reads(self, path: Path, parts: Parts) -> bool:
        """Whether a folder, completed by `parts`, is this family's: by its pipeline class and the names of its weights alone.

        Of files, whether it is a native checkpoint, by its name.
        """
        if path.is_file():
            return path.suffix == ".pth" and bool(self.completed_by)
        return path.is_dir() and read_pipeline(path) in self.pipelines and all(has_tensor(path, mark) for mark in self.marks)

    @abstractmethod
    def load(
        self, folder: Path, source: str, revision: str | None, variant: str | None = None, parts: Parts = NO_PARTS
    ) -> Student:
        """Read a pipeline folder: configs, tokenizer, handles of the weights; of `parts` (their paths), what completes it.

        Raises:
            InputError: a file is missing or damaged, a value is not covered, or a config does not fit its weights.
        """

    @abstractmethod
    def plan_times(self, steps: int) -> tuple[float, ...]:
        """Flow times of the family's schedule, noise first.

        Raises:
            InputError: it has none of that many steps.
        """

    @abstractmethod
    def specialize(self, student: Student, plan: StepPlan) -> Student:
        """The student with `plan` and its prompt fixed: networks with specs, what is constant folded.

        A network's module takes and gives float32 and int64, as its specs say, and computes in the type of its weights.
        """

    @abstractmethod
    def draw_reference(self, student: Student, draws: Draws, progress: Progress = quiet) -> Reference:
        """What the original implementation draws in float32 with an unspecialized student; each picture is handed over."""

    def open_whole(self, student: Student, plan: StepPlan, device: str, dtype: str) -> WholeStock:
        """The original implementation of an unspecialized student, all its networks on a device of torch's.

        Args:
            student: as it was loaded.
            plan: the times and the guidance that a bundle has.
            device: by torch's name.
            dtype: torch's name of the type of weights and arithmetic, e.g. "bfloat16".

        Raises:
            RefusedError: what is drawn in one go is not known of this family.
        """
        raise RefusedError(f"--against pytorch: students of {self.name} are not timed in PyTorch yet; leave --against out")

    @abstractmethod
    def tiny(self, seed: int = 0) -> Student:
        """A two-layer twin with random weights, for tests."""

    def replace_decoder(self, student: Student, folder: Path) -> Student:
        """A loaded student with the decoder of another folder; RefusedError where the family knows of no other."""
        raise RefusedError(f"--decoder: students of {self.name} have one decoder; leave --decoder out")

    def open_stock(self, student: Student, folder: Path, has_networks: bool = True) -> Any:
        """The stock pipeline over another program's folder of the student, quantized or not; nothing in it is executed.

        Without networks it has a tokenizer and a scheduler alone.

        Raises:
            RefusedError: this is not done for the family. InputError: the stock classes refuse the folder.
        """
        raise RefusedError(f"students of {self.name} are not drawn from other programs' folders; {PICTURES_INSTEAD}")

    def draw_stock(self, student: Student, pipeline: Any, draws: Draws) -> npt.NDArray[np.float32]:
        """Pictures in [0, 1], float32 [B, H, W, 3], by a stock pipeline or one with its interface; RefusedError likewise."""
        raise RefusedError(f"students of {self.name} are not drawn by other programs' pipelines; {PICTURES_INSTEAD}")

    def decode_own(self, student: Student, latents: npt.NDArray[np.float32], compute: Compute) -> npt.NDArray[np.uint8]:
        """Pictures of unit-variance latents by the decoder that another one took the place of, in PyTorch, float32."""
        raise RefusedError(f"--decoder: students of {self.name} have one decoder")

    def find_lora_layer(self, name: str) -> tuple[str, str]:
        """Role and name there of a layer of a LoRA; one that no role's name stands before is the denoiser's."""
        role, _, inner = name.partition(".")
        if role in self.chain.roles:
            return role, inner
        return next(stage.role for stage in self.chain.stages if stage.when == EACH_STEP and not stage.optional), name

    def add_encoder(self, student: Student) -> Student:
        """A student with the network that encodes pictures (`Chain.names.source`); RefusedError where the family has none."""
        raise RefusedError(f"--image-to-image: students of {self.name} start from noise only; leave --image-to-image out")

    def add_controlnet(self, student: Student, folder: Path) -> Student:
        """A loaded student with the ControlNet of a folder; RefusedError where the family has none."""
        raise RefusedError(f"--controlnet: students of {self.name} take none; leave --controlnet out")

    def load_preset(self, preset: str) -> Student:
        """A student of one of `presets`, with random weights."""
        raise unknown_choice("random preset", preset, self.presets)

    @abstractmethod
    def check_tokenizer(self, student: Student) -> None:
        """Whether the ids that a bundle makes of prompts are those of the original tokenizer; InputError where not."""

    def check_free_sizes(self, student: Student) -> None:
        """Whether the student draws more than one size of picture; RefusedError where not."""
        raise RefusedError(f"--dynamic: students of {self.name} draw one size only; leave --dynamic out")

    def free_sizes(self, student: Student) -> Student:
        """A specialized student whose specs leave height and width free (sizes.py); RefusedError where it has one size."""
        self.check_free_sizes(student)
        return student

    def arrange_channels_first(self, student: Student) -> Student:
        """A specialized student laid out for Neural Engines; one that has no such form says so in its notes."""
        note = f"layout: channels last; {self.name} has no channels-first form"
        noted = {role: replace(network, notes=(*network.notes, note)) for role, network in student.components.items()}
        return replace(student, components=noted)

    def list_migrations(self, student: Student, role: str) -> tuple[Migration, ...]:
        """Places of one network of a specialized student where channels can be scaled."""
        return ()

    def make_inputs(self, student: Student, prompts: Sequence[str], first: int = 0) -> dict[str, Array]:
        """What optional networks are calibrated and validated with, a row a prompt [B, ...] by name: unit noise.

        `first` is the place of the first of these prompts: a row depends on its prompt and place alone.
        """
        import numpy as np

        made: dict[str, Array] = {}
        for name, spec in student.chain.list_given(student.components).items():
            shape, draw = tuple(map(int, spec.shape[1:])), np.random.default_rng(0).standard_normal
            for _ in range(first):
                draw(shape)
            made[name] = draw((len(prompts), *shape)).astype(spec.dtype)
        return made


def load_family(name: str) -> Family:
    """The family of a name.

    Raises:
        InputError: there is none.
    """
    family: Family = load_member("student", name).FAMILY
    return family


def list_families() -> tuple[Family, ...]:
    """All families."""
    return tuple(load_family(name) for name in list_members("student"))


def plan_steps(
    family: Family, steps: int | Sequence[int], guidance: float | None = None, times: str | Sequence[float] | None = None
) -> StepPlan:
    """The schedules of one or several step counts, the default first; or the one of `times`, whose guidance holds unless given.

    Raises:
        InputError: no count, or one that the family has no schedule for; times that are no schedule, or not of that many steps.
    """
    counts = (steps,) if isinstance(steps, int) else tuple(dict.fromkeys(steps))
    if not counts:
        raise InputError("steps=(): expected at least one step count from 1 to 4")
    if times is not None:
        return _plan_given(family, counts, guidance, times)
    planned = tuple(s for count in counts for s in family.plan_times(count))
    scale = family.guidance if guidance is None else guidance
    several = counts if len(counts) > 1 else ()
    return StepPlan(planned, scale, family.time_dtype, several, family.starts_from_noise)


def _plan_given(family: Family, counts: Sequence[int], guidance: float | None, times: str | Sequence[float]) -> StepPlan:
    schedule = read_schedule(times, family.schedules)
    count = len(schedule.times)
    if counts not in ((1,), (count,)):  # one step is what a run has that says nothing of steps
        raise InputError(f"times={times!r} are one schedule of {count} steps; leave steps={','.join(map(str, counts))} out")
    given = (guidance, schedule.guidance, family.guidance)
    scale = next(each for each in given if each is not None)
    return StepPlan(schedule.times, scale, starts_from_noise=family.starts_from_noise)


def time_calls(module: Any, seconds: list[float], clock: Callable[[], float]) -> None:
    """Note how long each call of a torch module takes, but for those that end in an error."""

    def start(*_: Any) -> None:
        if seconds and seconds[-1] < 0:  # of a call that ended in an error
            seconds.pop()
        seconds.append(-clock())

    module.register_forward_pre_hook(start)

    def stop(*_: Any) -> None:
        seconds[-1] += clock()

    module.register_forward_hook(stop)


def replace_components(student: Student, *components: Component) -> Student:
    """The student with these networks in place of those of their roles."""
    return replace(student, components={**student.components, **{c.role: c for c in components}})
