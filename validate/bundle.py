"""validate_bundle: run a bundle beside PyTorch on the same prompts and noise, and write down what is found."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from sprint_export.errors import BundleError, InputError
from sprint_export.export.bundle import read_bundle, write_text
from sprint_export.progress import Progress, quiet
from sprint_export.quantize.patterns import is_pointwise
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.registry import load_member
from sprint_export.runtimes import open_bundle, open_pipeline
from sprint_export.schema import ROLES, Bundle, Measurement, Report, Student, to_json
from sprint_export.session import Pipeline, make_noise
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.validate.gates import apply_gates, read_gates
from sprint_export.validate.images import draw_contact_sheet, relative_error
from sprint_export.validate.machine import describe_machine
from sprint_export.validate.measure import (
    ROLE_SAMPLES,
    compare_adherence,
    compare_components,
    compare_pictures,
    summarize_kernels,
    time_components,
    weigh_files,
)
from sprint_export.validate.reference import draw_reference

if TYPE_CHECKING:
    from sprint_export.session import Array, Session

REPORT, SHEET = "report.json", "contact_sheet.png"
SMALL_PICTURE = 128  # pixels; up to this size all validation prompts are drawn, above it LARGE_COUNT
LARGE_COUNT = 4
NOISE_SEED = 0


def validate_bundle(
    bundle: Bundle | str | Path,
    student: Student | None = None,
    prompts: Sequence[str] | None = None,
    count: int | None = None,
    gates: Sequence[str] = (),
    runtime: str | None = None,
    progress: Progress = quiet,
) -> Report:
    """Measure a bundle against the student it was made from and write `report.json` and `contact_sheet.png` into it.

    Args:
        bundle: a bundle or its folder.
        student: the unspecialized student; default: loaded from the bundle's source.
        prompts: default: the validation prompts that came with the student.
        count: how many of them; default: all for pictures up to 128 px, else 4.
        gates: demands such as 'psnr_db>=30', in place of the precision's default on the same metric.
        runtime: as in `open_bundle`.
        progress: is told (stage, done, total).

    Returns:
        The report; `report.passed` says whether all gates were met.

    Raises:
        InputError: a gate is malformed, there are no prompts, or the student is not the one the bundle was made from.
        BundleError: the bundle lacks a component, so no picture can be drawn, or its files are damaged.
    """
    folder = bundle.folder if isinstance(bundle, Bundle) else Path(bundle)
    bundle = read_bundle(folder)
    chosen_gates = read_gates(gates, bundle.precision)
    student = student or load_student(bundle.source)
    if student.fingerprint != bundle.fingerprint:
        raise InputError(
            f"{bundle.source!r} is not the student this bundle was made from (its weights have another sha256); "
            "give the right one with --student, or export again"
        )
    prompts = _choose_prompts(student, prompts, count, student_side(bundle))
    pipeline = open_bundle(folder, runtime, verify=False)
    rows = _compare(bundle, student, prompts, pipeline, progress)
    rows += weigh_files(bundle) + summarize_kernels(bundle)
    report = Report(
        str(folder),
        f"{bundle.target}-{bundle.precision}",
        pipeline.description,
        describe_machine(),
        len(prompts),
        apply_gates(rows, chosen_gates, [text.strip().split(">")[0].split("<")[0].strip() for text in gates]),
    )
    write_text(folder / REPORT, json.dumps(to_json(report) | {"passed": report.passed}, indent=1) + "\n")
    return report


def student_side(bundle: Bundle) -> int:
    """Width of the pictures in pixels."""
    decoder = next((c for c in bundle.components if c.role == "vae_decoder"), None)
    missing = sorted(set(ROLES) - {c.role for c in bundle.components})
    if decoder is None or missing:
        raise BundleError(
            f"the bundle has no {', '.join(missing)}: no picture can be drawn; export all components to validate it"
        )
    return int(decoder.outputs[0].shape[-1])


def _choose_prompts(student: Student, prompts: Sequence[str] | None, count: int | None, side: int) -> list[str]:
    chosen = list(student.validation_prompts if prompts is None else prompts)
    if count is None and prompts is None and side > SMALL_PICTURE:
        count = LARGE_COUNT
    if count is not None and count < 1:
        raise InputError(f"count={count}: expected at least one prompt to validate with")
    if not chosen:
        raise InputError("no prompts to validate with; give --prompts FILE with one prompt a line")
    return chosen[:count]


def _compare(bundle: Bundle, student: Student, prompts: list[str], pipeline: Pipeline, progress: Progress) -> list[Measurement]:
    steps = len(bundle.plan.times)
    noise = make_noise(NOISE_SEED, steps, len(prompts), bundle.latent_shape)
    reference = draw_reference(student, prompts, noise, steps, bundle.plan.guidance, progress)
    rounded, feeds, torch_sessions = _draw_rounded(bundle, student, prompts, noise, progress)
    ours = _Noting(pipeline.sessions["vae_decoder"])
    pipeline = dataclasses.replace(pipeline, sessions={**pipeline.sessions, "vae_decoder": ours})
    pictures = _draw(pipeline, prompts, noise, "exported", progress)
    rows = compare_components(pipeline.sessions, torch_sessions, feeds)
    rows.append(
        Measurement(
            "denoised_relative_error",
            relative_error(ours.stack("latents", len(prompts)), reference.latents),
            "",
            "transformer",
            note="text encoder and transformer together vs PyTorch float32, largest",
        )
    )
    rows += compare_pictures(pictures, rounded, reference.pictures)
    rows += compare_adherence(prompts, pictures, reference.pictures)
    rows.append(
        Measurement("quantized_share", quantized_share(bundle, student), "", note="of matmul and 1x1-convolution weights")
    )
    rows += time_components(pipeline.seconds, reference.seconds)
    sheet = bundle.folder / f".{SHEET}.part.png"
    draw_contact_sheet([("PyTorch float32", reference.pictures), (f"{bundle.target}-{bundle.precision}", pictures)], sheet)
    sheet.replace(bundle.folder / SHEET)
    return rows


def _draw_rounded(
    bundle: Bundle, student: Student, prompts: list[str], noise: Array, progress: Progress
) -> tuple[Array, Mapping[str, list[Mapping[str, Array]]], Mapping[str, Session]]:
    """Pictures of torch with the bundle's own rounding, and what went into each component for the first prompts."""
    specialized = specialize_student(student, len(bundle.plan.times), bundle.plan.guidance)
    dtype = load_member("target", bundle.target).TARGET.graph_dtype[bundle.precision]
    sessions = {}
    for record in bundle.components:
        component = dataclasses.replace(specialized.components[record.role], layers=record.layers)
        sessions[record.role] = _Noting(TorchSession(component, fake=True, dtype=dtype), keep=ROLE_SAMPLES)
    base = open_pipeline(bundle, "onnx")
    pictures = _draw(dataclasses.replace(base, sessions=sessions, seconds={}), prompts, noise, "torch, rounded", progress)
    return pictures, {role: session.feeds for role, session in sessions.items()}, {r: s.inner for r, s in sessions.items()}


def _draw(pipeline: Pipeline, prompts: list[str], noise: Array, stage: str, progress: Progress) -> Array:
    pictures = []
    for i, prompt in enumerate(prompts):
        progress(stage, i, len(prompts))
        pictures.append(pipeline([prompt], noise=noise[:, i : i + 1]))
    progress(stage, len(prompts), len(prompts))
    return np.concatenate(pictures)


class _Noting:
    """A session that remembers what it was fed, the first `keep` times."""

    def __init__(self, inner: Session, keep: int | None = None) -> None:
        self.inner, self.keep, self.description = inner, keep, inner.description
        self.feeds: list[Mapping[str, Array]] = []

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        if self.keep is None or len(self.feeds) < self.keep:
            self.feeds.append(dict(feeds))
        return self.inner.run(feeds)

    def stack(self, name: str, count: int) -> Array:
        """One input of the first `count` runs, [count, ...]."""
        return np.concatenate([feed[name] for feed in self.feeds[:count]])


def quantized_share(bundle: Bundle, student: Student) -> float:
    """Share of the values in Linear and dense 1x1 Conv2d weights that are stored quantized, over all components."""
    stored = total = 0
    specialized = specialize_student(student, len(bundle.plan.times), bundle.plan.guidance)
    for record in bundle.components:
        for name, module in specialized.components[record.role].module.named_modules():
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d) and is_pointwise(module):
                total += module.weight.numel()
                stored += module.weight.numel() * (name in record.layers)
    return stored / total
