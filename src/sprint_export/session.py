"""The runtime protocol and the text-to-image chain: token ids -> embeddings -> latents -> picture, in numpy only.

A session runs one graph of a bundle; the pipeline chains three of them with the sampler. Nothing here needs torch or the
model's code: prompts are prepared from the bundle's PromptPlan and its `tokenizer.json`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from sprint_export.errors import BundleError, InputError
from sprint_export.nouns.report import Finding
from sprint_export.nouns.student import StepPlan
from sprint_export.progress import Progress, Step, quiet
from sprint_export.prompt_reader import PromptReader
from sprint_export.sampler import sample
from sprint_export.sizes import PictureSizes

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[Any]


class Session(Protocol):
    """One loaded graph. `description` says what runs it and where, e.g. "ONNX Runtime 1.32 CPU, fp32-compute shadow"."""

    @property
    def description(self) -> str: ...
    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs by name -> outputs by name, with the dtypes and shapes of the component's TensorSpecs."""
        ...


class Chain:
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
        joined: dict[str, Finding] = {}
        for found in (found for part in self.parts for found in list_findings(part)):
            before = joined.get(found.metric)
            joined[found.metric] = found if before is None else before.join(found)
        return list(joined.values())


def list_findings(session: Session) -> list[Finding]:
    """What a session noticed by itself while it ran, such as infinities; most notice nothing."""
    findings: list[Finding] = getattr(session, "findings", list)()
    return findings


class OneAtATime(Mapping[str, Session]):
    """Sessions opened when asked for, each closing the one before it.

    Memory is then the largest component and not their sum: what makes calibrating and validating a full-size student fit.
    """

    def __init__(self, roles: Sequence[str], open_session: Callable[[str], Session]) -> None:
        self._roles, self._open = tuple(roles), open_session
        self._role: str | None = None
        self._session: Session | None = None

    def __getitem__(self, role: str) -> Session:
        if role not in self._roles:
            raise KeyError(role)
        if self._session is None or role != self._role:
            self._session = None  # freed before the next one is loaded
            self._session, self._role = self._open(role), role
        return self._session

    def __iter__(self) -> Iterator[str]:
        return iter(self._roles)

    def __len__(self) -> int:
        return len(self._roles)


def make_noise(seed: int, steps: int, batch: int, latent_shape: tuple[int, int, int]) -> Array:
    """Unit-variance noise float32 [steps, B, C, h, w]; picture i of a batch depends on `seed + i` only.

    Raises:
        InputError: the seed is no whole number from 0 on.
    """
    import numpy as np

    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"seed={seed!r}: expected a whole number from 0 on")

    rows = [np.random.default_rng(seed + i).standard_normal((steps, *latent_shape), np.float32) for i in range(batch)]
    return np.stack(rows, axis=1)


@dataclass
class Pipeline:
    """Prompts to pictures over one session per component, in `steps` steps or the plan's default.

    `sizes` says which sizes of picture there are; without it, those of `latent_shape` only.

    Source of the chain: SanaSprintPipeline.__call__ (diffusers 0.39), with the sampler of `sprint_export.sampler`.
    """

    sessions: Mapping[str, Session]
    reader: PromptReader
    plan: StepPlan
    latent_shape: tuple[int, int, int]
    steps: int | None = None
    sizes: PictureSizes | None = None
    seconds: dict[str, list[float]] = field(default_factory=dict)
    ran_on: dict[str, str] = field(default_factory=dict)

    @property
    def description(self) -> str:
        """What runs the components; one phrase when all agree."""
        phrases = self.ran_on or {role: session.description for role, session in self.sessions.items()}
        return "; ".join(dict.fromkeys(phrases.values()))

    def __call__(
        self,
        prompts: Sequence[str],
        seed: int = 0,
        noise: Array | None = None,
        progress: Progress = quiet,
        height: int | None = None,
        width: int | None = None,
    ) -> npt.NDArray[np.uint8]:
        """Draw one picture per prompt: all texts first, then all latents, then all pictures.

        Args:
            prompts: B texts.
            seed: picture i uses `seed + i`; ignored when `noise` is given.
            noise: unit-variance float32 [B, C, h, w], or [steps, B, C, h, w] for more than one step.
            progress: is told (step, done, total).
            height: pixels; default: what the noise is for where it is given, else what the student was made for.
            width: likewise. Other sizes than the student's want a bundle that was exported with --dynamic.

        Returns:
            uint8 [B, H, W, 3].

        Raises:
            InputError: no prompts, one string in place of a list, a size that cannot be drawn, or noise of another shape.
        """
        import numpy as np

        noise = self._check_noise(prompts, seed, noise, self._choose_latents(noise, height, width))
        ids, mask = self.reader.read(prompts)
        check_ids(ids, self.reader.plan.vocabulary)
        rows = [slice(i, i + 1) for i in range(len(prompts))]

        def tell(role: str, done: int) -> None:
            progress(Step("drawing", role), done, len(rows))

        embeds, latents, pictures = [], [], []
        for i, row in enumerate(rows):
            tell("text_encoder", i)
            embeds.append(self._run("text_encoder", {"input_ids": ids[row]})["prompt_embeds"])
        for i, row in enumerate(rows):
            tell("transformer", i)
            latents.append(self._sample(embeds[i], mask[row], noise[:, row]))
        for i, _ in enumerate(rows):
            tell("vae_decoder", i)
            pictures.append(to_uint8(self._run("vae_decoder", {"latents": latents[i]})["image"]))
        tell("vae_decoder", len(rows))
        return np.concatenate(pictures)

    def _choose_latents(self, noise: Array | None, height: int | None, width: int | None) -> tuple[int, int, int]:
        """The shape of one picture's latents: of the size that is asked for, else of the noise's where it can be drawn."""
        import numpy as np

        channels, *own = self.latent_shape
        if height is None and width is None:
            given = [] if noise is None or self.sizes is None else list(np.shape(noise)[-2:])
            rows, columns = given if self.sizes is not None and self.sizes.fits(given) else own
            return channels, rows, columns
        if self.sizes is None:
            raise InputError(f"height={height}, width={width}: these sessions have one size; leave height and width out")
        return channels, *self.sizes.choose(height, width)

    def _check_noise(self, prompts: Sequence[str], seed: int, noise: Array | None, latent_shape: tuple[int, int, int]) -> Array:
        """The noise to use, float32 [steps, B, C, h, w]."""
        import numpy as np

        if isinstance(prompts, str) or not prompts:
            raise InputError(f"prompts={prompts!r}: expected a non-empty list, e.g. ['a red circle above a blue square']")
        wanted = (len(self.plan.rows(self.steps)), len(prompts), *latent_shape)
        noise = np.asarray(make_noise(seed, *wanted[:2], latent_shape) if noise is None else noise, np.float32)
        if noise.shape == wanted[1:] and wanted[0] == 1:
            noise = noise[None]
        if noise.shape != wanted:
            raise InputError(
                f"noise has shape {noise.shape}, expected [steps, B, C, h, w] = {wanted}"
                + (f" or {wanted[1:]}" if wanted[0] == 1 else "")
            )
        return noise

    def _sample(self, embeds: Array, mask: Array, noise: Array) -> Array:
        rows = self.plan.rows(self.steps)

        def denoise(x: Array, step: int) -> Array:
            return self.denoise(x, rows[step], embeds, mask)

        latents: Array = sample(denoise, list(noise), [self.plan.times[row] for row in rows])
        return latents

    def denoise(self, x: Array, step: int, embeds: Array, mask: Array) -> Array:
        """x0 from x at the plan's time `step`; all float32 [1, C, h, w]."""
        import numpy as np

        feeds = {"latents": x.astype(np.float32), "prompt_embeds": embeds, "prompt_mask": mask}
        if len(self.plan.times) > 1:
            feeds["step"] = np.array([step], np.int64)
        return self._run("transformer", feeds)["denoised"]

    def _run(self, role: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        session = self.sessions[role]
        start = time.perf_counter()
        result = session.run(feeds)
        check_finite(role, result)
        self.ran_on[role] = session.description
        self.seconds.setdefault(role, []).append(time.perf_counter() - start)
        return result


def check_ids(ids: Array, vocabulary: int) -> None:
    """Raise BundleError unless every id is one of the vocabulary (0: not known)."""
    if vocabulary and not 0 <= int(ids.min()) <= int(ids.max()) < vocabulary:
        raise BundleError(
            f"the tokenizer gives ids from {ids.min()} to {ids.max()}, the text encoder knows 0 to {vocabulary - 1}: they do not "
            "belong together; export the student again"
        )


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
