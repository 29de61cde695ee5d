"""SANA-Sprint with a ControlNet: diffusers' SanaControlNetModel beside the stock transformer in the Sprint loop."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import SanaControlNetModel

from sprint_export.errors import InputError
from sprint_export.export.bundle import read_bundle
from sprint_export.inspection import describe_bundle
from sprint_export.noise import make_noise
from sprint_export.nouns.parts import Parts
from sprint_export.psnr import psnr_images
from sprint_export.quantize.torch_session import TorchSession, open_torch
from sprint_export.runtimes import open_bundle
from sprint_export.runtimes.open import chain_sessions
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.students.family import Draws, plan_steps
from sprint_export.students.sana_sprint.controlnet import ControlResiduals, fold_control
from sprint_export.students.sana_sprint.drawings import draw_outlines
from sprint_export.students.sana_sprint.family import FAMILY
from sprint_export.students.sana_sprint.presets import load_preset, tiny
from sprint_export.students.sana_sprint.published import control_config
from sprint_export.weights import check_fit, constant, materialize
from tests.made_student import TRANSFORMER, make_pipeline
from tests.students.contract import check_conversion
from tests.test_specialize import EXACT, _double  # noqa: F401  a fixture

LEAST_DB = 75


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made student as diffusers saves it, with a ControlNet beside its other parts."""
    path = tmp_path_factory.mktemp("controlled")
    make_pipeline().save_pretrained(path)
    make_controlnet().save_pretrained(path / "controlnet")
    return path


def make_controlnet(**changes: Any) -> SanaControlNetModel:
    """Random weights, its zero projections too, or it would steer nothing."""
    torch.manual_seed(2)
    network = SanaControlNetModel.from_config(control_config(TRANSFORMER, 2) | changes)
    for parameter in network.parameters():
        spread = 0.2 if parameter.ndim < 2 else parameter[0].numel() ** -0.5
        parameter.data += spread * torch.randn_like(parameter) * (not parameter.any() or parameter.ndim < 2)
    return network.eval()


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_it_draws_what_diffusers_draws(folder: Path, steps: int) -> None:
    student = load_student(folder)
    pipe, noise = open_torch(specialize_student(student, steps)), make_noise(7, steps, 1, student.latent_shape)
    prompts, drawn = student.validation_prompts[:1], []
    for scale in (0.8, 2.0):
        inputs = {"source_image": draw_outlines(3, 64)[None], "control_scale": np.array([scale], np.float32)}
        wanted = FAMILY.draw_reference(student, Draws(prompts, noise, FAMILY.guidance, inputs))
        found = pipe(prompts, noise=noise, inputs=inputs)
        db = psnr_images(found, wanted.pictures)[0]
        assert db >= LEAST_DB, f"scale {scale}: {db:.1f} dB, at least {LEAST_DB}"
        drawn.append(found)
    as_pixels = np.rint((draw_outlines(3, 64).transpose(1, 2, 0) + 1) * 127.5).astype(np.uint8)
    given = pipe(prompts, noise=noise, control=as_pixels, control_scale=2.0)
    assert psnr_images(given, drawn[1])[0] > 40, "the same but for the rounding of its greys to 8 bits"
    plain = pipe(prompts, noise=noise)
    assert not any(np.array_equal(plain, each) for each in drawn), "it steers"
    bare = dataclasses.replace(student, components={r: c for r, c in student.components.items() if r != "controlnet"})
    without = {k: v for k, v in bare.configs.items() if k != "controlnet"}
    np.testing.assert_array_equal(
        plain, open_torch(specialize_student(dataclasses.replace(bare, configs=without), steps))(prompts, noise=noise)
    )


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize(
    "changes", [{}, {"patch_size": 2, "interpolation_scale": 1, "norm_elementwise_affine": True, "attention_bias": True}]
)
def test_its_folds_are_exact(steps: int, changes: dict[str, Any]) -> None:
    student = tiny(control_layers=1, **changes)
    config, stock = student.configs["controlnet"], student.components["controlnet"]
    stock = dataclasses.replace(stock, weights={name: constant(handle.load().double()) for name, handle in stock.weights.items()})
    plan = plan_steps(FAMILY, steps)
    weights, notes = fold_control(stock, config, plan, student.latent_shape)
    with torch.device("meta"):
        network = ControlResiduals(config, steps).eval()
    check_fit(network, weights, "folded")
    ours, theirs = (materialize(m, w, torch.float64) for m, w in ((network, weights), (stock.module, stock.weights)))
    random = torch.Generator().manual_seed(0)
    x, control = (torch.randn(1, *student.latent_shape, dtype=torch.float64, generator=random) for _ in range(2))
    text, mask = torch.randn(1, 9, 48, dtype=torch.float64, generator=random), torch.tensor([[1] * 5 + [0] * 4])
    for step, s in enumerate(plan.times):
        with torch.no_grad():
            scale, which = torch.tensor([0.8], dtype=torch.float64), [torch.tensor([step])] * (steps > 1)
            found = ours(x, control, text, mask, scale, *which)
            read = {"timestep": torch.tensor([s]), "controlnet_cond": control, "encoder_attention_mask": mask}
            wanted = theirs(x, text, conditioning_scale=0.8, **read).controlnet_block_samples
        joined = torch.cat(wanted, dim=2).transpose(1, 2).reshape(found.shape)
        assert joined.abs().max() > 0.1, "residuals near zero prove nothing"
        off = float((found - joined).abs().max())
        assert off <= EXACT, f"deviation {off:.2e}, tolerance {EXACT}"
    assert notes[0] == "control: its projection and both patch embeddings are one convolution"


def test_it_goes_the_whole_road(tmp_path: Path) -> None:
    """With --dynamic too: the picture is fitted to the size that is drawn, residuals grow with it."""
    student = tiny(control_layers=1)
    rows = check_conversion(FAMILY, "onnx-int8", tmp_path / "bundle", 25, student, dynamic=True)
    assert {role for role, _ in rows} == {"", *student.components}
    pipe = open_bundle(tmp_path / "bundle")
    plain = pipe(["a red circle"], seed=1)
    assert set(pipe.seconds) == {"text_encoder", "transformer", "vae_decoder"}
    steered = pipe(["a red circle"], seed=1, control=np.full((40, 30, 3), 200, np.uint8), control_scale=0.8)
    assert {"vae_encoder", "controlnet"} < set(pipe.seconds)
    assert not np.array_equal(plain, steered)
    sessions = {role: TorchSession(network) for role, network in specialize_student(student).components.items()}
    pipes, given = (pipe, chain_sessions(read_bundle(tmp_path / "bundle"), sessions)), np.full((40, 30, 3), 200, np.uint8)
    given[10:20] = 0
    found, wanted = (each(["a red circle"], seed=1, control=given, height=48, width=64) for each in pipes)
    assert found.shape == (1, 48, 64, 3)
    assert psnr_images(found, wanted)[0] > 25, "int8 beside float"
    lines = list(describe_bundle(read_bundle(tmp_path / "bundle")))
    taken = "a control picture and its scale (run --control, --control-scale), a picture to start from (run --image, --strength)"
    assert f"takes beside prompts: {taken}" in lines


def test_it_may_lie_elsewhere(folder: Path, tmp_path: Path) -> None:
    """In a folder of its own, or that of a whole pipeline; its files are part of the fingerprint."""
    make_pipeline().save_pretrained(tmp_path / "plain")
    make_controlnet().save_pretrained(tmp_path / "control" / "controlnet")
    beside = load_student(tmp_path / "plain", parts=Parts(controlnet=tmp_path / "control"))
    direct = load_student(tmp_path / "plain", parts=Parts(controlnet=tmp_path / "control" / "controlnet"))
    assert list(beside.components) == list(load_student(folder).components) == list(direct.components)
    plain = load_student(tmp_path / "plain")
    assert beside.fingerprint != plain.fingerprint
    assert (
        list(plain.components) == [stage.role for stage in plain.chain.stages] == ["text_encoder", "transformer", "vae_decoder"]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_layers": 3}, "num_layers=3: the config does not fit its weights, which are of 2 layers"),
        ({"qk_norm": "rms_norm_across_heads"}, "qk_norm='rms_norm_across_heads': this key is not covered"),
        (
            {"caption_channels": 41},
            "caption_channels is 41, expected 40, the transformer's; this is another student's ControlNet",
        ),
        ({"num_attention_heads": 2}, "width, heads times their size, is 32, expected 48"),
        ({"_class_name": "ControlNetModel"}, "_class_name='ControlNetModel' is not covered; expected 'SanaControlNetModel'"),
    ],
)
def test_another_students_is_refused(folder: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    make_controlnet().save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | change), "utf-8")
    with pytest.raises(InputError, match=message):
        load_student(folder, parts=Parts(controlnet=tmp_path))


def test_more_residuals_than_blocks_are_refused(folder: Path, tmp_path: Path) -> None:
    make_controlnet(num_layers=3).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="num_layers=3: expected at most 2, one fewer than the transformer's 3 blocks"):
        load_student(folder, parts=Parts(controlnet=tmp_path))


@pytest.mark.parametrize(("preset", "values"), [("0.6b", 168_765_696), ("1.6b", 631_576_960)])
def test_a_controlnet_of_full_size_has_as_many_values_as_diffusers(preset: str, values: int) -> None:
    """On `meta`: as many values as diffusers' ControlNet of 7 blocks has, and residuals of the width of the transformer."""
    student = load_preset(f"sana-sprint-{preset}-controlnet")
    stock = student.components["controlnet"]
    assert sum(math.prod(handle.shape) for handle in stock.weights.values()) == values
