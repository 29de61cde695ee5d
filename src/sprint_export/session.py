"""Prompts to pictures over the sessions of a chain, in numpy only; the networks' order is the executor's (executor.py).

Nothing here needs torch or the model's code: prompts are prepared from the PromptPlan and its `tokenizer.json`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from sprint_export.errors import BundleError, InputError
from sprint_export.executor import Executor, OneAtATime, Session, Values, check_finite, make_executor
from sprint_export.noise import make_noise
from sprint_export.nouns.chain import Group, is_loop, name_group
from sprint_export.nouns.report import Finding
from sprint_export.nouns.student import StepPlan, Student
from sprint_export.pictures import read_pictures
from sprint_export.progress import Progress, Step, quiet, track
from sprint_export.prompt_reader import PromptReader
from sprint_export.sizes import PictureSizes, fill_axes, find_units

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sprint_export.pictures import SomeGiven

    Array = npt.NDArray[Any]

T = TypeVar("T")

__all__ = ["JoinedSession", "OneAtATime", "Pipeline", "Session", "check_ids", "list_findings", "open_student", "to_uint8"]


class JoinedSession:
    """Several graphs as one: each takes what it needs from the inputs and from what ran before; the last one's outputs count."""

    def __init__(self, parts: Sequence[Session]) -> None:
        self.parts, self.description = tuple(parts), parts[0].description

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs by name -> outputs by name."""
        known, last = dict(feeds), {}
        for part in self.parts:
            last = part.run(known)
            known |= last
        return last

    def findings(self) -> list[Finding]:
        """What the parts noticed, put together."""
        return join_findings(found for part in self.parts for found in list_findings(part))


@runtime_checkable
class Noticing(Protocol):
    """A session that notices something by itself while it runs, such as infinities; most do not."""

    def findings(self) -> list[Finding]:
        """What it noticed since it was opened."""


def join_findings(findings: Iterable[Finding]) -> list[Finding]:
    """One of each metric."""
    joined: dict[str, Finding] = {}
    for found in findings:
        before = joined.get(found.metric)
        joined[found.metric] = found if before is None else before.join(found)
    return list(joined.values())


def list_findings(session: Session) -> list[Finding]:
    """What a session noticed; nothing where it is none that does."""
    return session.findings() if isinstance(session, Noticing) else []


@dataclass(frozen=True)
class Request:
    """What pictures are drawn from beside prompts and noise.

    Args:
        height: pixels; default: what the noise is for where it is given, else what the student was made for.
        width: likewise. Other sizes than the student's want a bundle that was exported with --dynamic.
        inputs: what optional networks take, [B, ...] by name; those whose input is not given do not run.
        control: a picture that steers, or one a prompt: a file, a PIL image or uint8 [H, W, 3]; it is resized as diffusers does.
        control_scale: how strongly, 1 as trained.
        image: a picture to start from, likewise.
        strength: how far from it, above 0 to 1: the last so much of the steps is run; at 1 they start from noise alone.
        count: pictures of each prompt, one after the other; its text is encoded once. What is given for each prompt holds for all
            of its pictures.
    """

    height: int | None = None
    width: int | None = None
    inputs: Mapping[str, Array] | None = None
    control: SomeGiven | None = None
    control_scale: float = 1.0
    image: SomeGiven | None = None
    strength: float = 0.6  # the default of diffusers' SANA-Sprint
    count: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.count, bool) or not isinstance(self.count, int) or self.count < 1:
            raise InputError(f"count={self.count!r}: expected how many pictures of each prompt, at least 1")


@dataclass
class Pipeline:
    """Prompts to pictures over one session per component, in `steps` steps or the plan's default.

    `sizes` says which sizes of picture there are; without it, those of `latent_shape` only. `batch` prompts run at once.
    """

    executor: Executor
    reader: PromptReader
    latent_shape: tuple[int, ...]
    steps: int | None = None
    sizes: PictureSizes | None = None
    batch: int = 1

    @property
    def plan(self) -> StepPlan:
        """The sampler's times."""
        return self.executor.plan

    @property
    def sessions(self) -> Mapping[str, Session]:
        """What runs the networks, by role."""
        return self.executor.sessions

    @property
    def seconds(self) -> dict[str, list[float]]:
        """How long each call of a network took, by role."""
        return self.executor.seconds

    @property
    def description(self) -> str:
        """What runs the components; one phrase when all agree."""
        phrases = self.executor.ran_on or {role: session.description for role, session in self.sessions.items()}
        return "; ".join(dict.fromkeys(phrases.values()))

    def over(self, sessions: Mapping[str, Session]) -> Pipeline:
        """The same pipeline over other sessions."""
        return replace(self, executor=replace(self.executor, sessions=sessions, seconds={}, ran_on={}))

    def __call__(
        self, prompts: Sequence[str], seed: int = 0, noise: Array | None = None, progress: Progress = quiet, **asked: Any
    ) -> npt.NDArray[np.uint8]:
        """Draw one picture per prompt, or `count`: all texts first, then all latents, then all pictures.

        Args:
            prompts: B texts.
            seed: picture i uses `seed + i`; ignored when `noise` is given.
            noise: unit-variance float32 [B, *latents], or [steps, B, *latents] for more than one step that is run.
            progress: is told (step, done, total).
            asked: fields of `Request`, by name: height, width, inputs, control, control_scale, image, strength, count.

        Returns:
            uint8 [B * count, H, W, 3], those of one prompt together.

        Raises:
            InputError: no prompts, one string in place of a list, a size that cannot be drawn, noise of another shape, or a
                picture that is none, or that no network takes.
        """
        import numpy as np

        tables = self.draw(prompts, seed, noise, progress, **asked)
        return np.concatenate([to_uint8(table[self.executor.chain.names.picture]) for table in tables])

    def draw(
        self, prompts: Sequence[str], seed: int = 0, noise: Array | None = None, progress: Progress = quiet, **asked: Any
    ) -> Iterator[Values]:
        """What a call computes: a table of values for each picture in turn, with the picture, float [1, 3, H, W], among them."""
        request = Request(**asked)
        rows = self._choose_rows(request)
        shape = (len(rows), len(prompts) * request.count, *self._choose_latents(noise, request.height, request.width))
        noise = self._check_noise(prompts, seed, noise, shape)
        ids, mask = self.reader.read(prompts)
        check_ids(ids, self.reader.plan.vocabulary)
        whole = self.executor.start(ids, mask, self._read_control(request, len(prompts), noise.shape[2:]))
        tables = [{name: value[i : i + 1] for name, value in whole.items()} for i in range(len(prompts))]
        pictures = self._read_start(request, len(prompts), noise.shape[2:])
        encoded = [self.executor.encode(picture[None]) for picture in track(pictures, Step("drawing", "given picture"), progress)]
        starts: list[Array | None] = [encoded[i % len(encoded)] if encoded else None for i in range(len(prompts))]
        *groups, last = self.executor.groups
        for group in groups:
            if is_loop(group):
                tables, starts = _repeat(tables, request.count), _repeat(starts, request.count)
            told = track(tables, Step("drawing", name_group(group)), progress)
            tables = list(self._run_group(group, told, noise, rows, starts))
        if is_loop(last):
            tables, starts = _repeat(tables, request.count), _repeat(starts, request.count)
        told = track(tables, Step("drawing", name_group(last)), progress)
        yield from self._run_group(last, told, noise, rows, starts)

    def _run_group(
        self, group: Group, tables: Iterable[Values], noise: Array, rows: range, starts: Sequence[Array | None]
    ) -> Iterator[Values]:
        """The table of each picture after a group, which runs `batch` of them at once."""
        import numpy as np

        done, each, weights = 0, iter(tables), self.plan.list_weights(rows)
        while chunk := list(islice(each, self.batch)):
            there = slice(done, done + len(chunk))
            joined = {name: np.concatenate([table[name] for table in chunk]) for name in chunk[0]} if len(chunk) > 1 else chunk[0]
            given = [start for start in starts[there] if start is not None]
            start = np.concatenate(given) if given else None
            made = self.executor.run(group, joined, noise[:, there], rows, start, weights)
            yield from ({name: value[i : i + 1] for name, value in made.items()} for i in range(len(chunk)))
            done += len(chunk)

    def check(self, prompts: int, **asked: Any) -> float:
        """The time of the first step that is run for so many prompts and what is asked; sessions need not be there.

        Raises:
            InputError: as a call does.
        """
        request = Request(**asked)
        state = self._choose_latents(None, request.height, request.width)
        self._read_control(request, prompts, state)
        self._read_start(request, prompts, state)
        return self.plan.times[self._choose_rows(request)[0]]

    def _choose_rows(self, request: Request) -> range:
        return self.plan.rows(self.steps, 1.0 if request.image is None else request.strength)

    def _read_control(self, request: Request, count: int, state: Sequence[int]) -> Mapping[str, Array] | None:
        """What optional networks are given: `inputs`, and the control picture with its scale."""
        import numpy as np

        if request.control is None:
            return request.inputs
        chain, networks = self.executor.chain, self.executor.networks
        if chain.names.scale not in chain.list_given(networks):
            raise InputError(
                "control: no network here takes a control picture; export a student with a ControlNet (--controlnet)"
            )
        pictures = self._read_pictures("control", request.control, count, state)
        scale = np.full(count, request.control_scale, np.float32)
        return {chain.names.source: np.broadcast_to(pictures, (count, *pictures.shape[1:])), chain.names.scale: scale} | dict(
            request.inputs or {}
        )

    def _read_start(self, request: Request, count: int, state: Sequence[int]) -> Sequence[Array]:
        """The pictures to start from: none, one for all prompts, or one for each."""
        if request.image is None:
            return ()
        if self.executor.encoder is None:
            raise InputError("image: no network here encodes pictures; export the student with --image-to-image")
        return list(self._read_pictures("image", request.image, count, state))

    def _read_pictures(self, name: str, given: SomeGiven, count: int, state: Sequence[int]) -> Array:
        """Pictures of the size that is drawn for a state, float32 [1 or count, 3, H, W]."""
        chain, networks = self.executor.chain, self.executor.networks
        spec, own = chain.find_spec(chain.names.source, networks), chain.find_spec(chain.names.state, networks)
        assert spec is not None, "asked for by the callers"
        units = (find_units(own.shape[1:], state) if own else None) or {}
        height, width = fill_axes(spec.shape[2:], units)
        return read_pictures(name, given, count, height, width)

    def _choose_latents(self, noise: Array | None, height: int | None, width: int | None) -> tuple[int, ...]:
        """The shape of one picture's latents: of the size that is asked for, else of the noise's where it can be drawn."""
        import numpy as np

        if height is None and width is None:
            shape = () if noise is None else np.shape(noise)[-len(self.latent_shape) :]
            return shape if self.sizes is not None and self.sizes.fits(shape) else self.latent_shape
        if self.sizes is None:
            raise InputError(f"height={height}, width={width}: these sessions have one size; leave height and width out")
        return self.sizes.choose(height, width)

    def _check_noise(self, prompts: Sequence[str], seed: int, noise: Array | None, wanted: tuple[int, ...]) -> Array:
        """The noise to use, float32 [steps, pictures, *latents], which is what `wanted` counts."""
        import numpy as np

        if isinstance(prompts, str) or not prompts:
            raise InputError(f"prompts={prompts!r}: expected a non-empty list, e.g. ['a red circle above a blue square']")
        noise = np.asarray(make_noise(seed, wanted[0], wanted[1], wanted[2:]) if noise is None else noise, np.float32)
        if noise.shape == wanted[1:] and wanted[0] == 1:
            noise = noise[None]
        if noise.shape != wanted:
            raise InputError(
                f"noise has shape {noise.shape}, expected [steps, B, *latents] = {wanted}"
                + (f" or {wanted[1:]}" if wanted[0] == 1 else "")
            )
        return noise


def _repeat(values: Sequence[T], count: int) -> list[T]:
    """Each of them `count` times: what was made before the loop knows no noise and serves all pictures of a prompt."""
    return [value for value in values for _ in range(count)]


def open_student(student: Student, sessions: Mapping[str, Session]) -> Pipeline:
    """A specialized student's pipeline, over sessions of any kind."""
    reader = PromptReader(student.prompt, student.tokenizer / "tokenizer.json")
    return Pipeline(make_executor(student, sessions, is_checked=True), reader, student.latent_shape)


def check_ids(ids: Array, vocabulary: int) -> None:
    """Raise BundleError unless every id is one of the vocabulary (0: not known)."""
    if vocabulary and not 0 <= int(ids.min()) <= int(ids.max()) < vocabulary:
        raise BundleError(
            f"the tokenizer gives ids from {ids.min()} to {ids.max()}, the text encoder knows 0 to {vocabulary - 1}: they do not "
            "belong together; export the student again"
        )


def to_uint8(image: Array) -> npt.NDArray[np.uint8]:
    """float [B, 3, H, W] in [-1, 1] -> uint8 [B, H, W, 3], rounding as diffusers' VaeImageProcessor does.

    Raises:
        BundleError: it holds NaN or infinity.
    """
    import numpy as np

    check_finite("the decoder", {"image": image})
    unit = np.clip(image.astype(np.float32) * 0.5 + 0.5, 0.0, 1.0)
    pictures: npt.NDArray[np.uint8] = np.rint(unit * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    return pictures
