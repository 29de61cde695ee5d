"""Watch what goes into every Linear and Conv2d, and what wide convolutions give, on real prompts, at the student's own times.

The specialized student runs in torch, float32, network after network and chunk of prompts after chunk, its weights streamed
(quantize/streaming.py). What is kept are records (quantize/records.py), not decisions: cached on disk under a hash of
(weights, plan, prompts, seed), they serve every recipe. Each chunk is written when it is done, so a run that was killed goes on
after the last one. Rows of texts that are only padding are not counted: nothing reads what becomes of them.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError

from sprint_export.errors import InputError
from sprint_export.json_forms import to_json
from sprint_export.progress import Progress, quiet
from sprint_export.quantize.records import Record, load_records, merge_records, record_rows, save_records
from sprint_export.quantize.streaming import OUTPUT, StreamedNetwork, count_layers, count_rows_at_once
from sprint_export.registry import load_member
from sprint_export.sampler import sample
from sprint_export.schema import Student
from sprint_export.session import PromptReader, make_noise
from sprint_export.weights import free_large_tensors_at_once

if TYPE_CHECKING:
    from sprint_export.session import Array

CACHE_FORMAT = 3


def cache_folder() -> Path:
    """Where calibrations are kept: $SPRINT_EXPORT_CACHE, else ~/.cache/sprint-export."""
    return Path(os.environ.get("SPRINT_EXPORT_CACHE") or Path.home() / ".cache" / "sprint-export")


def calibrate(student: Student, prompts: Sequence[str], seed: int, progress: Progress = quiet) -> dict[str, Record]:
    """Records of inputs by `role.layer`, and of outputs by `role.layer:output` where streaming.py tells of them.

    Args:
        student: specialized; components that are missing are skipped with what feeds them replaced by unit noise.
        prompts: texts typical for the student; 16 to 64 suffice for the maximum.
        seed: of the noise.
        progress: is told (stage, done, total); what it raises ends the run, and the next call goes on from there.

    Raises:
        InputError: no prompts, or an activation is NaN or infinite.
    """
    if not prompts:
        raise InputError("calibration needs prompts and got none; give --prompts FILE with one prompt a line")
    how = [to_json(student.plan), to_json(student.prompt), list(prompts), seed, sorted(student.components)]
    key = json.dumps([CACHE_FORMAT, student.fingerprint, *how])
    path = cache_folder() / "calibration" / f"{hashlib.sha256(key.encode()).hexdigest()}.safetensors"
    if path.is_file():
        with contextlib.suppress(SafetensorError, KeyError):  # a damaged cache is measured anew, and replaced
            return load_records(path)[0]
    free_large_tensors_at_once()
    unfinished = path.with_suffix(".chunks")
    records = _Calibration(student, prompts, seed, progress, unfinished).measure()
    save_records(path, records)
    shutil.rmtree(unfinished, ignore_errors=True)
    return records


@dataclass
class _Calibration:
    """One run: its chunks' records gathered by layer, in the order of the networks."""

    student: Student
    prompts: Sequence[str]
    seed: int
    progress: Progress
    folder: Path
    found: dict[str, list[Record]] = field(default_factory=dict)
    done: int = 0

    def measure(self) -> dict[str, Record]:
        """All prompts through all networks; the transformer and decoder once for each number of steps."""
        student, plan = self.student, self.student.plan
        assert plan is not None
        reader = PromptReader(student.prompt, student.tokenizer / "tokenizer.json")
        ids, mask = reader.read(self.prompts)
        self.total = (1 + 2 * len(plan.counts or (1,))) * len(self.prompts)
        embeds = self._run_texts(ids)
        for steps in plan.counts or (plan.steps,):
            noise = make_noise(self.seed, steps, len(self.prompts), student.latent_shape)
            latents = self._run_denoiser(steps, noise, embeds, mask)
            self._run_decoder(steps, latents)
        self.progress("calibrating", self.total, self.total)
        return {layer: merge_records(records) for layer, records in self.found.items()}

    def _run_texts(self, ids: Array) -> Array:
        if "text_encoder" not in self.student.components:
            shape = (len(ids), self.student.prompt.keep, self.student.configs["text_encoder"]["hidden_size"])
            return self._skip(np.random.default_rng(0).standard_normal(shape, np.float32))

        def encode(network: StreamedNetwork, rows: slice) -> Array:
            return network.run({"input_ids": ids[rows]})["prompt_embeds"]

        return self._run("text_encoder", 1, encode, ids != self.student.prompt.pad_id)

    def _run_denoiser(self, steps: int, noise: Array, embeds: Array, mask: Array) -> Array:
        plan = self.student.plan
        assert plan is not None
        times = [plan.times[row] for row in plan.rows(steps)]
        if "transformer" not in self.student.components:
            return self._skip(sample(lambda x, _: x, list(noise), times).astype(np.float32))

        def denoise(network: StreamedNetwork, rows: slice) -> Array:
            fixed = {"prompt_embeds": embeds[rows], "prompt_mask": mask[rows]}

            def once(x: Array, step: int) -> Array:
                place = {"step": np.array([plan.rows(steps)[step]])} if len(plan.times) > 1 else {}
                return network.run({"latents": x.astype(np.float32), **fixed, **place})["denoised"]

            drawn: Array = sample(once, list(noise[:, rows]), times)
            return drawn

        return self._run("transformer", steps, denoise, mask.astype(bool))

    def _run_decoder(self, steps: int, latents: Array) -> None:
        def decode(network: StreamedNetwork, rows: slice) -> Array:
            network.run({"latents": latents[rows].astype(np.float32)})
            return np.zeros(len(latents[rows]), np.float32)  # the picture itself is not needed

        if "vae_decoder" in self.student.components:
            self._run("vae_decoder", steps, decode, None)

    def _skip(self, stand_in: Array) -> Array:
        self.done += len(self.prompts)
        return stand_in

    def _run(self, role: str, steps: int, call: Callable[[StreamedNetwork, slice], Array], text_rows: Array | None) -> Array:
        """Chunk after chunk: from the disk where an earlier run wrote it, else measured and written."""
        component = self.student.components[role]
        text_layers = ("*",) if role == "text_encoder" else load_member("student", self.student.family).TEXT_LAYERS
        inputs = count_layers(component) * (steps if role == "transformer" else 1)
        network: StreamedNetwork | None = None
        size, outputs = count_rows_at_once(component), []
        for start in range(0, len(self.prompts), size):
            rows = slice(start, min(start + size, len(self.prompts)))
            tell = functools.partial(self._tell, rows.stop - start, inputs)
            tell(0)
            path = self.folder / f"{role}.{steps}.{start}.safetensors"
            kept = _load_chunk(path)
            if kept is None:
                watcher = _Watcher(role, text_layers, None if text_rows is None else torch.from_numpy(text_rows[rows]), tell)
                network = network or StreamedNetwork(component)
                network.listen = watcher.listen
                output = call(network, rows)
                kept = watcher.gather(), output
                save_records(path, kept[0], {"output": torch.from_numpy(output)})
            for layer, record in kept[0].items():
                self.found.setdefault(layer, []).append(record)
            outputs.append(kept[1])
            self.done += rows.stop - start
        return np.concatenate(outputs)

    def _tell(self, prompts: int, inputs: int, heard: int) -> None:
        """Progress within a chunk, in prompts: all of them pass a layer together."""
        self.progress("calibrating", self.done + min(prompts - 1, prompts * heard // inputs), self.total)


def _load_chunk(path: Path) -> tuple[dict[str, Record], Array] | None:
    if path.is_file():
        with contextlib.suppress(SafetensorError, KeyError):  # damaged: measured again
            records, others = load_records(path)
            return records, others["output"].numpy()
    return None


class _Watcher:
    """Records what the layers of one network read; `text_rows` bool [b, T] says which rows of texts are not padding."""

    def __init__(
        self, role: str, text_layers: Sequence[str], text_rows: torch.Tensor | None, tell: Callable[[int], None]
    ) -> None:
        self.role, self.text_layers, self.text_rows, self.tell = role, text_layers, text_rows, tell
        self.heard = 0
        self._seen: dict[str, list[Record]] = {}
        self._last: tuple[torch.Tensor, Record] | None = None  # Q, K and V read one tensor: it is looked at once

    def listen(self, name: str, layer: torch.nn.Module, x: torch.Tensor) -> None:
        """A layer's input or output, [b, ..., C] of a Linear or [b, C, h, w] of a Conv2d."""
        if self._last is None or self._last[0] is not x:
            self._last = x, self._record(name, layer, x)
        self._seen.setdefault(f"{self.role}.{name}", []).append(self._last[1])
        self.heard += not name.endswith(OUTPUT)
        self.tell(self.heard)

    def gather(self) -> dict[str, Record]:
        """By `role.layer`, of all that was listened to."""
        return {layer: merge_records(seen) for layer, seen in self._seen.items()}

    def _record(self, name: str, layer: torch.nn.Module, x: torch.Tensor) -> Record:
        rows = x.flatten(2).transpose(1, 2) if isinstance(layer, torch.nn.Conv2d) else x.reshape(len(x), -1, x.shape[-1])
        is_text = self.text_rows is not None and any(fnmatchcase(name, pattern) for pattern in self.text_layers)
        record = record_rows(rows[self.text_rows] if is_text else rows.flatten(0, 1))
        if not torch.isfinite(record.amax).all():
            raise InputError(
                f"{self.role}.{name.removesuffix(OUTPUT)}: its {'output' if name.endswith(OUTPUT) else 'input'} is "
                f"{_first_wrong(record.amax)} on the calibration prompts; the weights are damaged or overflow float32, so no "
                "scale can be measured"
            )
        return record


def _first_wrong(values: torch.Tensor) -> float:
    return float(values[~torch.isfinite(values)][0])
