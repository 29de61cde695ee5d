"""TwinFlow-Z's stock networks in one pipeline: of another program's folder, or the student's own to be timed (reference.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline
from diffusers.image_processor import VaeImageProcessor

from sprint_export.compute import CPU
from sprint_export.nouns.student import Student
from sprint_export.students.chat_prompt import open_stock_tokenizer
from sprint_export.students.checkpoints import FOLDERS
from sprint_export.students.stock_networks import open_network
from sprint_export.students.twinflow_stock import Float32, TwinFlowStock
from sprint_export.students.twinflow_z.published import TEMPLATE
from sprint_export.students.twinflow_z.reference import (
    CLASSES,
    decode_stock,
    encode_stock,
    give_second_time,
    make_networks,
    sample_stock,
)


class ZStock(TwinFlowStock):
    """The networks, with the tokenizer of a folder."""

    def __init__(
        self, student: Student, parts: Mapping[str, Any], device: str = CPU.device, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__({**parts, "vae_decoder": parts["vae_decoder"].decoder}, device, dtype)
        self.vae, self.transformer, self.tokens = parts["vae_decoder"], parts["transformer"], student.prompt.tokens
        tokenizer = open_stock_tokenizer(student)
        tokenizer.chat_template = TEMPLATE
        self.pipeline = ZImagePipeline(FlowMatchEulerDiscreteScheduler(), None, parts["text_encoder"], tokenizer, None)

    def encode(self, prompts: Sequence[str]) -> list[torch.Tensor]:
        return encode_stock(self.pipeline, prompts, self.device, self.tokens)

    def sample(self, texts: Sequence[torch.Tensor], noise: Sequence[torch.Tensor], times: Sequence[float]) -> torch.Tensor:
        return sample_stock(self.transformer, [text.to(self.dtype) for text in texts], noise, times)

    def decode(self, clean: torch.Tensor) -> Float32:
        pictures: Float32 = VaeImageProcessor().postprocess(decode_stock(self.vae, clean.to(self.dtype)), output_type="np")
        return pictures


def open_folder(student: Student, folder: Path) -> ZStock:
    """Over another program's folder; the second time embedder, which stock classes leave out, is the student's.

    Raises:
        InputError: a stock class cannot load what lies in it.
    """
    parts = {role: open_network(folder / FOLDERS[role][0], CLASSES[role]) for role in FOLDERS}
    give_second_time(parts["transformer"], student)
    own = replace(student, folder=folder) if (folder / "tokenizer").is_dir() else student
    return ZStock(own, parts)


def open_own(student: Student, device: str, dtype: str) -> ZStock:
    """The student's own networks, whole, on a device and in a type by torch's names.

    Raises:
        InputError: a stock class refuses what lies in the folder.
    """
    kind = getattr(torch, dtype)
    return ZStock(student, make_networks(student, tuple(FOLDERS), device, kind), device, kind)
