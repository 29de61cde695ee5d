"""`convert` from end to end: a student nobody made for it, and sprint-tiny to engines, read from the reports they leave."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sprint_export import load_student, open_bundle
from sprint_export.conversion import convert
from sprint_export.export.bundle import find_artifact, read_bundle
from sprint_export.noise import make_noise
from sprint_export.run_checks import parse_target
from sprint_export.runtimes.trt.kernels import Kernel, parse_kernels
from sprint_export.students.family import Draws
from sprint_export.students.sana_sprint.family import FAMILY
from tests.bundles import COUNTS, read_rows, shared_bundle
from tests.made_student import PROMPTS
from tests.tree import ROLES

MIN_PSNR_DB = 45.0  # Must show 1: under one grey level
MAX_DENOISED_ERROR = 1e-4
MAX_DROP_POINTS = 2.0  # Must show 2
MIN_SHARE = 0.9
STORED = {"fp16": "FLOAT16", "bf16": "BFLOAT16", "w8a8": "INT8", "fp8": "FLOAT8E4M3FN"}
QUANTIZED = {"text_encoder": "fp8", "transformer": "fp8", "vae_decoder": "w8a8"}  # of a trt-fp8 bundle


@pytest.mark.parametrize("steps", [1, 2])
def test_a_student_the_tests_made_draws_what_diffusers_draws(made_folder: Path, tmp_path: Path, steps: int) -> None:
    """Must show 1, at one step (folded) and at two (a table by step): from the report, and again by hand."""
    bundle = convert(str(made_folder), "onnx-fp32", tmp_path / "out", steps=steps, prompts=PROMPTS)
    rows = read_rows(bundle.folder)
    psnr, error = rows["", "psnr_db"]["value"], rows["transformer", "denoised_relative_error"]["value"]
    assert psnr >= MIN_PSNR_DB, f"{psnr:.1f} dB, demanded {MIN_PSNR_DB}"
    assert error <= MAX_DENOISED_ERROR, f"denoiser deviates by {error:.1e}, tolerance {MAX_DENOISED_ERROR}"
    assert rows["", "psnr_worst_db"]["value"] >= MIN_PSNR_DB
    for role in ROLES:
        assert rows[role, "converter_relative_error"]["value"] <= MAX_DENOISED_ERROR, role
    assert ("step" in {spec.name for spec in bundle.components[1].inputs}) == (steps > 1)

    student = load_student(made_folder)
    noise = make_noise(99, steps, len(PROMPTS), student.latent_shape)
    wanted = FAMILY.draw_reference(student, Draws(PROMPTS, noise, FAMILY.guidance)).pictures
    found = open_bundle(bundle.folder)(PROMPTS, noise=noise)
    assert found.shape == wanted.shape == (2, 64, 64, 3)
    assert wanted.std() > 10, "a flat picture proves nothing"
    assert np.abs(found.astype(int) - wanted).max() <= 1, "more than a rounding apart"


@pytest.fixture(scope="module")
def fp8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("tensorrt_rtx")
    return shared_bundle(tmp_path_factory.getbasetemp(), "trt-fp8")


def read_kernels(folder: Path, role: str) -> tuple[Kernel, ...]:
    artifact = find_artifact(read_bundle(folder), role, "kernels", "rtx-4090")
    assert artifact is not None
    return parse_kernels((folder / artifact.path).read_text("utf-8"))


def test_trt_fp8_leaves_three_engines_a_report_and_a_contact_sheet(fp8: Path) -> None:
    bundle = read_bundle(fp8)
    assert [record.role for record in bundle.components] == list(ROLES)
    for role in ROLES:
        engine = find_artifact(bundle, role, "engine", "rtx-4090")
        assert engine is not None
        assert engine.path == f"{role}/model.sm89.engine"
        assert (fp8 / engine.path).read_bytes()[:4] == b"vtrt"
    report = json.loads((fp8 / "report.json").read_text("utf-8"))
    assert (report["target"], report["prompts"], report["passed"]) == ("trt-fp8", COUNTS["trt-fp8"], True)
    sheet = Image.open(fp8 / "contact_sheet.png")
    assert sheet.width == 8 * 128
    assert sheet.height == 3 * (128 + 16)


def test_trt_fp8_stores_nearly_all_matmul_weights_in_fp8(fp8: Path) -> None:
    """Must show 2, from the report and from what the graphs store."""
    share = read_rows(fp8)["", "quantized_share"]["value"]
    assert share >= MIN_SHARE, f"{share:.3f} of the weights, demanded {MIN_SHARE}"
    for record in read_bundle(fp8).components:
        precision = QUANTIZED[record.role]
        stored = record.precision_counts[STORED[precision]]
        assert stored > 0.5 * sum(record.precision_counts.values()), record.role
        assert {layer.scheme for layer in record.layers.values()} == {precision}
        assert {layer.scale_dtype for layer in record.layers.values()} == {"bf16"}


def test_trt_fp8_shows_what_pytorch_shows(fp8: Path) -> None:
    """Must show 2: adherence within two points over 64 captions it was never trained on."""
    rows = read_rows(fp8)
    reference, drop = rows["", "adherence_reference_percent"]["value"], rows["", "adherence_drop_points"]["value"]
    assert drop <= MAX_DROP_POINTS, f"{drop:.1f} points below PyTorch's {reference:.1f} %, tolerance {MAX_DROP_POINTS}"
    assert rows["", "adherence_percent"]["value"] == pytest.approx(reference - drop)
    assert reference >= 50, "an adherence near zero cannot drop"
    unchecked = json.loads((fp8 / "report.json").read_text("utf-8"))["unchecked"]
    assert any("adherence_drop_points" in text for text in unchecked), "64 pictures cannot decide it"
    for metric in ("psnr_db", "quantized_share"):
        assert rows["", metric]["verdict"] == "met"
        assert rows["", metric]["limit"].startswith(metric)


@pytest.mark.parametrize("role", ROLES)
def test_trt_fp8_multiplies_in_8_bits(fp8: Path, role: str) -> None:
    """The quantized layers are FP8 (the decoder's INT8) kernels of the engine, by the builder's own table and by the report."""
    kind = {"fp8": "FP8", "w8a8": "Int8"}[QUANTIZED[role]]
    kernels = [kernel for kernel in read_kernels(fp8, role) if kernel.flop and not kernel.is_attention]
    narrow = [kernel for kernel in kernels if kernel.dtype == kind.lower()]
    share = sum(kernel.flop for kernel in narrow) / sum(kernel.flop for kernel in kernels)
    assert share >= 0.5, f"{share:.2f} of the multiplications of {role} are {kind}"
    for kernel in narrow:
        read = [t for t in (*kernel.inputs, *kernel.constants) if t.dtype == kind]
        assert len(read) >= 2, f"{kernel.name}: activation and weight should both be {kind}"
    rows = read_rows(fp8)
    assert rows[role, f"kernels_{kind.lower()}"]["value"] >= len(narrow) > 0
    assert rows[role, "priced_ms"]["value"] > 0


def test_trt_fp8_runs_cross_attention_in_one_kernel_a_block(fp8: Path) -> None:
    blocks = read_bundle(fp8)
    layers = {name.split(".")[1] for name in blocks.components[1].layers if name.startswith("transformer_blocks.")}
    attention = [kernel for kernel in read_kernels(fp8, "transformer") if kernel.is_attention]
    assert len(attention) == len(layers) == read_rows(fp8)["transformer", "fused_attention"]["value"]
    assert all(kernel.flop > 0 for kernel in attention)


@pytest.mark.parametrize(
    "target", ["trt-int8", "trt-bf16", "onnx-int8", "onnx-fp8", "onnx-fp16", "openvino-int8", "openvino-fp16"]
)
def test_the_other_targets_keep_what_the_picture_shows(target: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    if target.startswith("trt"):
        pytest.importorskip("tensorrt_rtx")
    folder = shared_bundle(tmp_path_factory.getbasetemp(), target)
    bundle, rows, precision = read_bundle(folder), read_rows(folder), target.partition("-")[2]
    made_for, _ = parse_target(target)
    assert json.loads((folder / "report.json").read_text("utf-8"))["passed"] is True
    for record in bundle.components:
        counts = record.precision_counts
        assert counts[STORED[made_for.offers[precision].scheme]] > 0.5 * sum(counts.values()), f"{record.role} stores {counts}"
        assert bool(record.layers) == (precision in ("int8", "fp8"))
        has_shadow = find_artifact(bundle, record.role, "shadow") is not None
        assert has_shadow == made_for.needs_build, f"{record.role}: a shadow is for a graph that cannot run here itself"
        assert (find_artifact(bundle, record.role, "engine", "rtx-4090") is not None) == made_for.needs_build
        assert rows[record.role, "converter_psnr_db"]["value"] >= 30, f"{record.role}: graph and torch, rounded alike"
    share = rows["", "quantized_share"]["value"]
    assert share >= MIN_SHARE if precision in ("int8", "fp8") else share == 0
    if target == "trt-int8":
        assert rows["transformer", "kernels_int8"]["value"] > 0
    if target == "trt-bf16":
        assert ("transformer", "kernels_fp8") not in rows
