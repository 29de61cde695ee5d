"""The whole of Stripes in plain torch, as it was trained: the tokenizer's own call, the time path, a loop of its own."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from sprint_export.errors import InputError
from sprint_export.nouns.student import Student
from sprint_export.prompt_reader import PromptReader
from sprint_export.students.family import Draws, Reference, time_calls
from sprint_export.weights import materialize

TEMPLATE = "<system> <user> {} <end> <assistant>"
LONGEST, BEGINNING = 14, 2  # words with the template around them, and those of its beginning


def open_tokenizer(student: Student) -> Tokenizer:
    """As the pipeline sets it up."""
    tokenizer = Tokenizer.from_file(str(student.tokenizer / "tokenizer.json"))
    tokenizer.enable_truncation(LONGEST)
    tokenizer.enable_padding(length=LONGEST)
    return tokenizer


def check_tokenizer(student: Student) -> None:
    """Whether the plan makes the same ids of prompts."""
    reader, tokenizer = PromptReader(student.prompt, student.tokenizer / "tokenizer.json"), open_tokenizer(student)
    for prompt in (*student.calibration_prompts, "", " green ", "red " * 20):
        if reader.read([prompt])[0][0].tolist() != tokenizer.encode(TEMPLATE.format(prompt)).ids:
            raise InputError(f"{student.source}: the tokenizer reads {prompt!r} in another way than the bundle will")


def draw_reference(student: Student, draws: Draws) -> Reference:
    """Outlines steer where they are given."""
    networks: dict[str, Any] = {role: materialize(c.module, c.weights).eval() for role, c in student.components.items()}
    seconds: dict[str, list[float]] = {role: [] for role in networks}
    for role, module in networks.items():
        time_calls(module, seconds[role], time.perf_counter)
    tokenizer = open_tokenizer(student)
    unpack = networks.get("thin_unpacker") or networks["unpacker"]
    pictures, states = [], []
    for i, prompt in enumerate(draws.prompts):
        text = tokenizer.encode(TEMPLATE.format(prompt))
        outline = torch.from_numpy(draws.inputs["outline"][i : i + 1]) if "outline" in draws.inputs else None
        with torch.no_grad():
            rows = networks["reader"](torch.tensor([text.ids]))
            mask = torch.tensor([text.attention_mask])[:, BEGINNING:]
            x = clean = torch.from_numpy(draws.noise[0, i : i + 1])
            for step in range(len(draws.noise)):
                s = torch.tensor([1 - step / len(draws.noise)])
                if step:
                    x = (1 - s) * clean + s * torch.from_numpy(draws.noise[step, i : i + 1])
                hint = torch.zeros(1, 1, 32) if outline is None else networks["hinter"](x, outline)
                clean = networks["painter"](x, rows, mask, hint, s)
            picture = unpack(clean)
        pictures.append(np.rint((picture.clamp(-1, 1) / 2 + 0.5).numpy() * 255).astype(np.uint8).transpose(0, 2, 3, 1))
        states.append(clean.numpy())
    return Reference(np.concatenate(pictures), np.concatenate(states), seconds)
