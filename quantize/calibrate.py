"""Measure the largest magnitude every Linear and Conv2d input takes, on real prompts, at the student's own times.

The specialized student runs in torch, float32, component after component (only one is in memory). Results are keyed by layer
name and cached on disk under a hash of (weights, plan, prompts, seed): a recipe only selects among them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from sprint_export.errors import InputError
from sprint_export.json_forms import to_json
from sprint_export.progress import Progress, quiet
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.schema import ROLES, Student
from sprint_export.session import OneAtATime, Pipeline, PromptReader, Session

CACHE_FORMAT = 1


def cache_folder() -> Path:
    """Where calibrations are kept: $SPRINT_EXPORT_CACHE, else ~/.cache/sprint-export."""
    return Path(os.environ.get("SPRINT_EXPORT_CACHE") or Path.home() / ".cache" / "sprint-export")


def calibrate(student: Student, prompts: Sequence[str], seed: int, progress: Progress = quiet) -> dict[str, float]:
    """Largest input magnitude by `role.layer`.

    Args:
        student: specialized; components that are missing are skipped with what feeds them replaced by unit noise.
        prompts: texts typical for the student; 16 to 64 suffice for the maximum.
        seed: of the noise.
        progress: is told (stage, done, total).

    Raises:
        InputError: no prompts, or an activation is NaN or infinite.
    """
    if not prompts:
        raise InputError("calibration needs prompts and got none; give --prompts FILE with one prompt a line")
    how = [to_json(student.plan), to_json(student.prompt), list(prompts), seed, sorted(student.components)]
    key = json.dumps([CACHE_FORMAT, student.fingerprint, *how])
    path = cache_folder() / "calibration" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
    if path.is_file():
        with contextlib.suppress(ValueError):  # a damaged cache is measured anew, and replaced
            stored: dict[str, float] = json.loads(path.read_text())
            return stored
    measured = _measure(student, prompts, seed, progress)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(measured, indent=1))
    part.replace(path)
    return measured


def _measure(student: Student, prompts: Sequence[str], seed: int, progress: Progress) -> dict[str, float]:
    """Draw the prompts with one component in memory at a time, watching what goes into its layers."""
    assert student.plan is not None
    seen: dict[str, dict[str, torch.Tensor]] = {}

    def open_session(role: str) -> Session:
        if role not in student.components:
            return _Absent(role, (1, student.prompt.keep, student.configs["text_encoder"]["hidden_size"]))
        session = TorchSession(student.components[role], watch=True)
        seen[role] = session.amax
        return session

    reader = PromptReader(student.prompt, student.tokenizer / "tokenizer.json")
    largest: dict[str, float] = {}
    for steps in student.plan.counts or (student.plan.steps,):
        pipeline = Pipeline(OneAtATime(ROLES, open_session), reader, student.plan, student.latent_shape, steps)
        pipeline(prompts, seed=seed, progress=lambda stage, done, total: progress("calibrating", *_overall(stage, done, total)))
        for role, layers in seen.items():
            for name, value in layers.items():
                layer = f"{role}.{name}"
                largest[layer] = max(largest.get(layer, 0.0), _finite(role, name, value))
    return largest


def _overall(stage: str, done: int, total: int) -> tuple[int, int]:
    """Progress over all three components, from that of one."""
    return ROLES.index(stage.rpartition(" ")[2]) * total + done, len(ROLES) * total


def _finite(role: str, name: str, value: torch.Tensor) -> float:
    if not torch.isfinite(value):
        raise InputError(
            f"{role}.{name}: its input is {value.item()} on the calibration prompts; the weights are damaged or overflow "
            "float32, so no scale can be measured"
        )
    return value.item()


class _Absent:
    """Stands in for a component that is not exported: unit noise for texts, latents as they come, a grey picture."""

    description = "absent"

    def __init__(self, role: str, embeds_shape: tuple[int, ...]) -> None:
        self.role, self.embeds_shape, self._rng = role, embeds_shape, np.random.default_rng(0)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self.role == "text_encoder":
            return {"prompt_embeds": self._rng.standard_normal(self.embeds_shape, np.float32)}
        return {"denoised": feeds["latents"], "image": np.zeros((1, 3, 1, 1), np.float32)}
