"""The runtime protocol and the text-to-image chain: token ids -> embeddings -> latents -> picture, in numpy only.

A session runs one graph of a bundle; the pipeline chains three of them with the sampler. Nothing here needs torch or the
model's code: prompts are prepared from the bundle's PromptPlan and its `tokenizer.json`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sprint_export.errors import InputError
from sprint_export.sampler import sample
from sprint_export.schema import PromptPlan, StepPlan

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


class PromptReader:
    """Turns prompts into token ids exactly as the student's pipeline does."""

    def __init__(self, plan: PromptPlan, tokenizer_file: Path) -> None:
        from tokenizers import Tokenizer

        self.plan = plan
        self._tokenizer = Tokenizer.from_file(str(tokenizer_file))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(plan.tokens)

    def read(self, prompts: Sequence[str]) -> tuple[Array, Array]:
        """Token ids int64 [B, tokens] and the mask of the kept positions int64 [B, keep]."""
        import numpy as np

        plan = self.plan
        ids = np.full((len(prompts), plan.tokens), plan.pad_id, np.int64)
        mask = np.zeros((len(prompts), plan.tokens), np.int64)
        for row, prompt in enumerate(prompts):
            text = prompt.lower().strip() if plan.lower else prompt.strip()
            tokens = self._tokenizer.encode(plan.prefix + text).ids
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        kept = np.r_[0, plan.tokens - plan.keep + 1 : plan.tokens]
        return ids, mask[:, kept]


def make_noise(seed: int, steps: int, batch: int, latent_shape: tuple[int, int, int]) -> Array:
    """Unit-variance noise float32 [steps, B, C, h, w]; picture i of a batch depends on `seed + i` only."""
    import numpy as np

    rows = [np.random.default_rng(seed + i).standard_normal((steps, *latent_shape), np.float32) for i in range(batch)]
    return np.stack(rows, axis=1)


@dataclass
class Pipeline:
    """Prompts to pictures over one session per component.

    Source of the chain: SanaSprintPipeline.__call__ (diffusers 0.39), with the sampler of `sprint_export.sampler`.
    """

    sessions: Mapping[str, Session]
    reader: PromptReader
    plan: StepPlan
    latent_shape: tuple[int, int, int]
    seconds: dict[str, list[float]] = field(default_factory=dict)

    @property
    def description(self) -> str:
        """What runs the components; one phrase when all agree."""
        return "; ".join(dict.fromkeys(session.description for session in self.sessions.values()))

    def __call__(self, prompts: Sequence[str], seed: int = 0, noise: Array | None = None) -> npt.NDArray[np.uint8]:
        """Draw one picture per prompt.

        Args:
            prompts: B texts.
            seed: picture i uses `seed + i`; ignored when `noise` is given.
            noise: unit-variance float32 [B, C, h, w], or [steps, B, C, h, w] for more than one step.

        Returns:
            uint8 [B, H, W, 3].

        Raises:
            InputError: no prompts, one string in place of a list, or noise of another shape.
        """
        import numpy as np

        if isinstance(prompts, str) or not prompts:
            raise InputError(f"prompts={prompts!r}: expected a non-empty list of texts, e.g. ['a red circle']")
        wanted = (len(self.plan.times), len(prompts), *self.latent_shape)
        if noise is None:
            noise = make_noise(seed, *wanted[:2], self.latent_shape)
        noise = np.asarray(noise, np.float32)
        if noise.shape == wanted[1:]:
            noise = noise[None]
        if noise.shape != wanted:
            raise InputError(
                f"noise has shape {noise.shape}, expected [steps, B, C, h, w] = {wanted}"
                + (f" or {wanted[1:]}" if wanted[0] == 1 else "")
            )
        ids, mask = self.reader.read(prompts)
        pictures = [self._draw(ids[i : i + 1], mask[i : i + 1], noise[:, i : i + 1]) for i in range(len(prompts))]
        return np.concatenate(pictures)

    def _draw(self, ids: Array, mask: Array, noise: Array) -> npt.NDArray[np.uint8]:
        embeds = self._run("text_encoder", {"input_ids": ids})["prompt_embeds"]

        def denoise(x: Array, step: int) -> Array:
            return self.denoise(x, step, embeds, mask)

        return to_uint8(self._run("vae_decoder", {"latents": sample(denoise, list(noise), self.plan.times)})["image"])

    def denoise(self, x: Array, step: int, embeds: Array, mask: Array) -> Array:
        """x0 from x at the plan's time `step`; all float32 [1, C, h, w]."""
        import numpy as np

        feeds = {"latents": x.astype(np.float32), "prompt_embeds": embeds, "prompt_mask": mask}
        if len(self.plan.times) > 1:
            feeds["step"] = np.array([step], np.int64)
        return self._run("transformer", feeds)["denoised"]

    def _run(self, role: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        start = time.perf_counter()
        result = self.sessions[role].run(feeds)
        self.seconds.setdefault(role, []).append(time.perf_counter() - start)
        return result


def to_uint8(image: Array) -> npt.NDArray[np.uint8]:
    """float [B, 3, H, W] in [-1, 1] -> uint8 [B, H, W, 3], rounding as diffusers' VaeImageProcessor does."""
    import numpy as np

    unit = np.clip(image.astype(np.float32) * 0.5 + 0.5, 0.0, 1.0)
    pictures: npt.NDArray[np.uint8] = np.rint(unit * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    return pictures
