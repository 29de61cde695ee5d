"""Measure the largest magnitude every Linear and Conv2d input takes, on real prompts, at the student's own times.

The specialized student runs in torch, float32, component after component (only one is in memory). Results are keyed by layer
name and cached on disk under a hash of (weights, plan, prompts, seed): a recipe only selects among them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from sprint_export.errors import InputError
from sprint_export.progress import Progress, quiet
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.sampler import sample
from sprint_export.schema import ROLES, Student, to_json
from sprint_export.session import PromptReader, make_noise

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
    key = json.dumps([CACHE_FORMAT, student.fingerprint, to_json(student.plan), list(prompts), seed, sorted(student.components)])
    path = cache_folder() / "calibration" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
    if path.is_file():
        stored: dict[str, float] = json.loads(path.read_text())
        return stored
    measured = _Measurement(student, prompts, seed, progress).run()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(measured, indent=1))
    part.replace(path)
    return measured


class _Measurement:
    """One pass over the prompts, component after component, keeping what the next one needs."""

    def __init__(self, student: Student, prompts: Sequence[str], seed: int, progress: Progress) -> None:
        assert student.plan is not None
        self.student, self.plan, self.progress, self.count = student, student.plan, progress, len(prompts)
        self.ids, self.mask = PromptReader(student.prompt, student.tokenizer / "tokenizer.json").read(prompts)
        self.noise = make_noise(seed, len(self.plan.times), self.count, student.latent_shape)
        self.amax: dict[str, float] = {}

    def run(self) -> dict[str, float]:
        hidden = self.student.configs["text_encoder"]["hidden_size"]
        rng = np.random.default_rng(0)
        embeds = [rng.standard_normal((1, self.student.prompt.keep, hidden), np.float32) for _ in range(self.count)]
        latents = [self.noise[0, i : i + 1] for i in range(self.count)]
        for role in ROLES:
            if role not in self.student.components:
                continue
            session = TorchSession(self.student.components[role], watch=True)
            for i in range(self.count):
                self.progress(f"calibrating {role}", i, self.count)
                if role == "text_encoder":
                    embeds[i] = session.run({"input_ids": self.ids[i : i + 1]})["prompt_embeds"]
                elif role == "transformer":
                    latents[i] = self._denoise(session, embeds[i], i)
                else:
                    session.run({"latents": latents[i]})
            self.progress(f"calibrating {role}", self.count, self.count)
            self._keep(role, session.amax)
        return self.amax

    def _denoise(self, session: TorchSession, embeds: np.ndarray, i: int) -> np.ndarray:
        def denoise(x: np.ndarray, step: int) -> np.ndarray:
            feeds = {"latents": x, "prompt_embeds": embeds, "prompt_mask": self.mask[i : i + 1]}
            if len(self.plan.times) > 1:
                feeds["step"] = np.array([step], np.int64)
            return session.run(feeds)["denoised"]

        result: np.ndarray = sample(denoise, [n[i : i + 1] for n in self.noise], self.plan.times)
        return result

    def _keep(self, role: str, amax: dict[str, torch.Tensor]) -> None:
        for name, value in amax.items():
            if not torch.isfinite(value):
                raise InputError(
                    f"{role}.{name}: its input is {value.item()} on the calibration prompts; the weights are damaged "
                    "or overflow float32, so no scale can be measured"
                )
            self.amax[f"{role}.{name}"] = value.item()
