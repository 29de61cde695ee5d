"""How far a student's pictures move when weights are rounded: the error that counts, and the only one measured here.

    error(layers) = mean over prompts, pixels and colours of (picture with these layers rounded - picture)^2,  pictures in [-1, 1]
Pictures are drawn in torch, float32, with fixed noise. What a layer cannot change is kept and not drawn again: a decoder layer
runs the decoder alone, a transformer layer the transformer and the decoder.
All three networks are in memory throughout, in float32; rounding takes no second copy, the weights come back from their handles.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from sprint_export.errors import InputError
from sprint_export.quantize.scales import round_weight
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.sampler import sample
from sprint_export.schema import ROLES, QuantizedLayer, Student
from sprint_export.session import Pipeline, PromptReader, make_noise

if TYPE_CHECKING:
    from sprint_export.session import Array


class Pictures:
    """The pictures of a specialized student, drawn once, and their distance from those of the same student with rounded weights.

    Args:
        student: specialized, with all three networks.
        prompts: one picture each.
        seed: picture i's noise is made from `seed + i`.

    Raises:
        InputError: a picture holds NaN or infinite values.
    """

    def __init__(self, student: Student, prompts: Sequence[str], seed: int) -> None:
        assert student.plan is not None
        self.components = student.components
        self.sessions = {role: TorchSession(student.components[role]) for role in ROLES}
        reader = PromptReader(student.prompt, student.tokenizer / "tokenizer.json")
        self.pipeline = Pipeline(self.sessions, reader, student.plan, student.latent_shape)
        self.ids, self.mask = reader.read(prompts)
        self.noise = make_noise(seed, len(student.plan.times), len(prompts), student.latent_shape)
        self.embeds = self._encode()
        self.latents = self._denoise(self.embeds)
        self.pictures = self._decode(self.latents)
        if not all(np.isfinite(picture).all() for picture in self.pictures):
            raise InputError(
                f"student {student.source!r} draws NaN or infinite values in float32; the weights are damaged, "
                "so no error can be measured"
            )

    def measure_error(self, layers: Mapping[str, QuantizedLayer]) -> float:
        """The error with the weights of these layers, by `role.module`, rounded and all others float32."""
        first = min((ROLES.index(layer.partition(".")[0]) for layer in layers), default=len(ROLES))
        embeds, latents, pictures = self.embeds, self.latents, self.pictures
        if first == 0:
            with self._rounded("text_encoder", layers):
                embeds = self._encode()
        if first <= 1:
            with self._rounded("transformer", layers):
                latents = self._denoise(embeds)
        if first <= 2:
            with self._rounded("vae_decoder", layers):
                pictures = self._decode(latents)
        return float(np.mean([np.square(a - b).mean() for a, b in zip(pictures, self.pictures, strict=True)]))

    @contextlib.contextmanager
    def _rounded(self, role: str, layers: Mapping[str, QuantizedLayer]) -> Iterator[None]:
        """The role's session with its share of the layers rounded, for the time of the block."""
        names = {layer.partition(".")[2]: how for layer, how in layers.items() if layer.startswith(f"{role}.")}
        weights = {f"{name}.weight": self.sessions[role].module.get_parameter(f"{name}.weight") for name in names}
        try:
            for name, how in names.items():
                weight = weights[f"{name}.weight"]
                weight.data.copy_(round_weight(weight.data, how))
            yield
        finally:
            for key, weight in weights.items():
                weight.data.copy_(self.components[role].weights[key].load())

    def _encode(self) -> list[Array]:
        session = self.sessions["text_encoder"]
        return [session.run({"input_ids": self.ids[row]})["prompt_embeds"] for row in self._rows()]

    def _denoise(self, embeds: Sequence[Array]) -> list[Array]:
        return [self._denoise_one(embeds[i], row) for i, row in enumerate(self._rows())]

    def _denoise_one(self, embeds: Array, row: slice) -> Array:
        def denoise(x: Array, step: int) -> Array:
            return self.pipeline.denoise(x, step, embeds, self.mask[row])

        latents: Array = sample(denoise, list(self.noise[:, row]), self.pipeline.plan.times)
        return latents

    def _decode(self, latents: Sequence[Array]) -> list[Array]:
        session = self.sessions["vae_decoder"]
        return [session.run({"latents": each})["image"].clip(-1, 1) for each in latents]

    def _rows(self) -> list[slice]:
        return [slice(i, i + 1) for i in range(len(self.ids))]
