"""Prompts through all networks of a specialized student, in order, chunk after chunk, in torch with streamed weights.

The transformer and the decoder run at the student's own times, once for each number of steps. What is looked at is the visitor's
business: calibrate.py records what layers read, fit.py rounds weights by it. Rows of texts that are only padding are not
looked at: nothing reads what becomes of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from sprint_export.nouns.student import ROLES, Student
from sprint_export.prompt_reader import PromptReader
from sprint_export.quantize.measure.streaming import Listener, StreamedNetwork, count_layers, count_rows_at_once
from sprint_export.registry import load_member
from sprint_export.sampler import sample
from sprint_export.session import make_noise

if TYPE_CHECKING:
    from sprint_export.session import Array


@dataclass(frozen=True)
class Chunk:
    """Prompts `start` to `stop` on their way through one network.

    `text_rows` bool [prompts, T] says which rows of texts are not padding (None: no layer reads texts) and `text_layers` names
    the layers that read them; `done` of `total` prompts times networks went before; `inputs` is how many layers will be heard.
    """

    role: str
    steps: int
    start: int
    stop: int
    text_rows: torch.Tensor | None
    text_layers: Sequence[str]
    inputs: int
    done: int
    total: int

    def select_rows(self, name: str, layer: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        """The rows [n, C] that count of a layer's input or output: [b, ..., C] of a Linear, [b, C, h, w] of a Conv2d."""
        rows = x.flatten(2).transpose(1, 2) if isinstance(layer, torch.nn.Conv2d) else x.reshape(len(x), -1, x.shape[-1])
        is_text = self.text_rows is not None and any(fnmatchcase(name, pattern) for pattern in self.text_layers)
        return rows[self.text_rows] if is_text else rows.flatten(0, 1)


class Visitor(Protocol):
    """What is done with a chunk."""

    def visit(self, chunk: Chunk, run: Callable[[Listener], Array]) -> Array:
        """The chunk's output, [prompts, ...]: what `run(listen)` returns, or what it returned before."""


def walk_networks(student: Student, prompts: Sequence[str], seed: int, visitor: Visitor, last: str = ROLES[-1]) -> None:
    """Take all prompts through the networks up to `last`; one that is missing gives unit noise to the next.

    Args:
        student: specialized.
        prompts: texts.
        seed: of the noise.
        visitor: sees every chunk.
        last: the role that ends the walk.
    """
    walk = _Walk(student, prompts, seed, visitor)
    for role in ROLES[: ROLES.index(last) + 1]:
        walk.go(role)


class _Walk:
    """Outputs so far: text rows, and latents by number of steps."""

    def __init__(self, student: Student, prompts: Sequence[str], seed: int, visitor: Visitor) -> None:
        assert student.plan is not None
        self.student, self.prompts, self.seed, self.visitor, self.plan = student, prompts, seed, visitor, student.plan
        self.counts = self.plan.counts or (self.plan.steps,)
        self.ids, self.mask = PromptReader(student.prompt, student.tokenizer / "tokenizer.json").read(prompts)
        self.done, self.total = 0, (1 + 2 * len(self.counts)) * len(prompts)
        self.latents: dict[int, Array] = {}

    def go(self, role: str) -> None:
        """All prompts through one network."""
        if role == "text_encoder":
            self.embeds = self._read_texts()
            return
        for steps in self.counts:
            if role == "transformer":
                self.latents[steps] = self._denoise(steps)
            else:
                self._decode(steps)

    def _read_texts(self) -> Array:
        if "text_encoder" not in self.student.components:
            shape = (len(self.ids), self.student.prompt.keep, self.student.configs["text_encoder"]["hidden_size"])
            return self._skip(np.random.default_rng(0).standard_normal(shape, np.float32))

        def encode(network: StreamedNetwork, rows: slice) -> Array:
            return network.run({"input_ids": self.ids[rows]})["prompt_embeds"]

        return self._run("text_encoder", 1, encode, self.ids != self.student.prompt.pad_id)

    def _denoise(self, steps: int) -> Array:
        noise = make_noise(self.seed, steps, len(self.prompts), self.student.latent_shape)
        times = [self.plan.times[row] for row in self.plan.rows(steps)]
        if "transformer" not in self.student.components:
            return self._skip(sample(lambda x, _: x, list(noise), times).astype(np.float32))

        def denoise(network: StreamedNetwork, rows: slice) -> Array:
            fixed = {"prompt_embeds": self.embeds[rows], "prompt_mask": self.mask[rows]}

            def once(x: Array, step: int) -> Array:
                place = {"step": np.array([self.plan.rows(steps)[step]])} if len(self.plan.times) > 1 else {}
                return network.run({"latents": x.astype(np.float32), **fixed, **place})["denoised"]

            drawn: Array = sample(once, list(noise[:, rows]), times)
            return drawn

        return self._run("transformer", steps, denoise, self.mask.astype(bool))

    def _decode(self, steps: int) -> None:
        def decode(network: StreamedNetwork, rows: slice) -> Array:
            network.run({"latents": self.latents[steps][rows].astype(np.float32)})
            return np.zeros(rows.stop - rows.start, np.float32)  # the picture itself is not needed

        if "vae_decoder" in self.student.components:
            self._run("vae_decoder", steps, decode, None)

    def _skip(self, stand_in: Array) -> Array:
        self.done += len(self.prompts)
        return stand_in

    def _run(self, role: str, steps: int, call: Callable[[StreamedNetwork, slice], Array], text_rows: Array | None) -> Array:
        component = self.student.components[role]
        text_layers = ("*",) if role == "text_encoder" else load_member("student", self.student.family).TEXT_LAYERS
        inputs = count_layers(component) * (steps if role == "transformer" else 1)
        open_network = functools.cache(lambda: StreamedNetwork(component))  # not at all where every chunk is on disk
        size, outputs = count_rows_at_once(component), []
        for start in range(0, len(self.prompts), size):
            stop = min(start + size, len(self.prompts))
            rows = None if text_rows is None else torch.from_numpy(text_rows[start:stop])
            chunk = Chunk(role, steps, start, stop, rows, text_layers, inputs, self.done, self.total)

            def run(listen: Listener, rows: slice = slice(start, stop)) -> Array:
                network = open_network()
                network.listen = listen
                return call(network, rows)

            outputs.append(self.visitor.visit(chunk, run))
            self.done += stop - start
        return np.concatenate(outputs)
