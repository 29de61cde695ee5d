"""The reference: the stock SanaSprintPipeline, loaded by the stock classes from the student's own folder, in float32.

Nothing of our reading comes between the folder and these classes, so a fault of our loader shows as a difference. Students with
random weights have no folder; theirs is filled from their handles. Attention of the text encoder is eager, the one form that
applies Gemma-2's soft cap in every version of transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderDC, SanaSprintPipeline, SanaTransformer2DModel, SCMScheduler
from transformers import Gemma2Model

from sprint_export.errors import InputError
from sprint_export.nouns.student import ROLES, Student
from sprint_export.registry import hush
from sprint_export.students.networks.gemma2 import ATTENTION
from sprint_export.students.sana_sprint.configs import SCHEDULER
from sprint_export.students.sana_sprint.prompt import open_stock_tokenizer
from sprint_export.weights import choose_variant, materialize

FOLDERS = {
    "text_encoder": ("text_encoder", "model"),
    "transformer": ("transformer", "diffusion_pytorch_model"),
    "vae_decoder": ("vae", "diffusion_pytorch_model"),
}


def make_reference(student: Student, roles: Sequence[str] = ROLES) -> SanaSprintPipeline:
    """The stock pipeline with the networks of these roles; the others are None.

    Raises:
        InputError: a stock class refuses what lies in the folder.
    """
    parts: dict[str, Any] = {role: _make_network(student, role) if role in roles else None for role in ROLES}
    return SanaSprintPipeline(
        tokenizer=open_stock_tokenizer(student),
        text_encoder=parts["text_encoder"],
        vae=parts["vae_decoder"],
        transformer=parts["transformer"],
        scheduler=_make_scheduler(student.folder),
    )


def _make_network(student: Student, role: str) -> torch.nn.Module:
    if student.folder is None:
        component = student.components[role]
        return materialize(component.module, component.weights)
    name, stem = FOLDERS[role]
    cls: Any = {"text_encoder": Gemma2Model, "transformer": SanaTransformer2DModel, "vae_decoder": AutoencoderDC}[role]
    named = (
        {"dtype": torch.float32, "attn_implementation": ATTENTION} if role == "text_encoder" else {"torch_dtype": torch.float32}
    )
    folder = student.folder / name
    variant = choose_variant(folder, stem, student.variant) or None
    try:
        with hush():
            network = cls.from_pretrained(folder, variant=variant, use_safetensors=True, local_files_only=True, **named)
    except Exception as error:  # the stock classes raise all kinds
        raise InputError(f"{folder}: {cls.__name__} itself cannot load it ({' '.join(str(error).split())[:300]})") from error
    real: torch.nn.Module = network.eval()
    return real


def _make_scheduler(folder: Path | None) -> SCMScheduler:
    return SCMScheduler.from_config(SCHEDULER) if folder is None else SCMScheduler.from_pretrained(folder / "scheduler")
