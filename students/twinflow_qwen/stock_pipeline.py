"""TwinFlow-Qwen's stock networks in one pipeline: of another program's folder, or the student's own, to be timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import QwenImagePipeline

from sprint_export.compute import CPU
from sprint_export.nouns.student import Student
from sprint_export.students.chat_prompt import open_stock_tokenizer
from sprint_export.students.checkpoints import FOLDERS
from sprint_export.students.stock_networks import open_network
from sprint_export.students.twinflow_qwen.reference import (
    CLASSES,
    decode_stock,
    encode_stock,
    give_second_time,
    make_networks,
    sample_stock,
)
from sprint_export.students.twinflow_stock import Float32, TwinFlowStock


class QwenStock(TwinFlowStock):
    """The networks, with the tokenizer of a folder."""

    def __init__(
        self, student: Student, parts: Mapping[str, Any], device: str = CPU.device, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__({**parts, "vae_decoder": parts["vae_decoder"].decoder}, device, dtype)
        encoder, vae, transformer = parts["text_encoder"], parts["vae_decoder"], parts["transformer"]
        self.pipeline = QwenImagePipeline(None, vae, encoder, open_stock_tokenizer(student), transformer)
        self.pipeline.tokenizer_max_length = student.prompt.tokens - self.pipeline.prompt_template_encode_start_idx

    def encode(self, prompts: Sequence[str]) -> list[torch.Tensor]:
        return encode_stock(self.pipeline, prompts, self.device)

    def sample(self, texts: Sequence[torch.Tensor], noise: Sequence[torch.Tensor], times: Sequence[float]) -> torch.Tensor:
        return sample_stock(self.pipeline, torch.stack(list(texts)).to(self.dtype), noise, times)

    def decode(self, clean: torch.Tensor) -> Float32:
        return to_floats(decode_stock(self.pipeline, clean.to(self.dtype)))


def to_floats(image: torch.Tensor) -> Float32:
    """A picture [B, 3, H, W] in [-1, 1] -> [B, H, W, 3] in [0, 1], as VaeImageProcessor does."""
    found: Float32 = np.asarray((image / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float().cpu().numpy(), np.float32)
    return found


def open_folder(student: Student, folder: Path) -> QwenStock:
    """Over another program's folder; the second time embedder, which stock classes leave out, is the student's.

    Raises:
        InputError: a stock class cannot load what lies in it.
    """
    parts = {role: open_network(folder / FOLDERS[role][0], CLASSES[role]) for role in FOLDERS}
    give_second_time(parts["transformer"], student)
    own = replace(student, folder=folder) if (folder / "tokenizer").is_dir() else student
    return QwenStock(own, parts)


def open_own(student: Student, device: str, dtype: str) -> QwenStock:
    """The student's own networks, whole, on a device and in a type by torch's names.

    Raises:
        InputError: a stock class refuses what lies in the folder.
    """
    kind = getattr(torch, dtype)
    return QwenStock(student, make_networks(student, tuple(FOLDERS), device, kind), device, kind)
