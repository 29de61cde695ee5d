"""DoRA: W' = m (W + s B A) / ||W + s B A||, for Linear and convolutions, in the shapes that PEFT and LyCORIS write m in."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sprint_export.errors import InputError
from sprint_export.noise import make_noise
from sprint_export.nouns.student import Student
from sprint_export.quantize.torch_session import open_torch
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.students.family import Draws, load_family
from tests.made_student import make_pipeline
from tests.students.test_lora import ATTENTION, CONVOLUTION, FORMS, RANK, TIME, Tensors, load, make_factors, spell
from tests.students.test_lora_names import spell_flat

LAYERS = (ATTENTION, CONVOLUTION, TIME)
ROUNDING = 1e-6  # of the largest weight: float32


def make_magnitudes(made: Student, factors: Tensors, axis: int = 0) -> Tensors:
    """Positive values a row (axis 0) or column of each layer, 0.5 to 1.5, far from the norms."""
    generator, weights = torch.Generator().manual_seed(1), made.components["transformer"].weights
    layers = dict.fromkeys(name.rpartition(".")[0] for name in factors)
    return {layer: torch.rand(weights[f"{layer}.weight"].shape[axis], generator=generator) + 0.5 for layer in layers}


def merge(made: Student, factors: Tensors, magnitudes: Tensors, factor: float, axis: int = 0) -> Tensors:
    """The formula in float64, a row or column at a time."""
    found = {}
    for layer, magnitude in magnitudes.items():
        weight = made.components["transformer"].weights[f"{layer}.weight"].load().double()
        change = factors[f"{layer}.B"].double().flatten(1) @ factors[f"{layer}.A"].double().flatten(1)
        changed = (weight + factor * change.reshape(weight.shape)).transpose(0, axis)
        rows = [m.double() * row / row.pow(2).sum().sqrt() for m, row in zip(magnitude, changed, strict=True)]
        found[layer] = torch.stack(rows).transpose(0, axis)
    return found


def check(student: Student, wanted: Tensors) -> None:
    """All weights that a LoRA changes are the wanted ones."""
    for layer, value in wanted.items():
        off = (
            student.components["transformer"].weights[f"{layer}.weight"].load().double() - value
        ).abs().max() / value.abs().max()
        assert off < ROUNDING, f"{layer}: off by {off:.1e} of the largest, tolerance {ROUNDING:.0e}"


def shape_peft(layer: str, magnitude: torch.Tensor) -> torch.Tensor:
    """[out] of a Linear, [1, out, 1, 1] of a convolution."""
    return magnitude.reshape(1, -1, 1, 1).clone() if layer == CONVOLUTION else magnitude


def shape_lycoris(layer: str, magnitude: torch.Tensor, axis: int) -> torch.Tensor:
    """[out, 1] and [out, 1, 1, 1], or [1, in] and [1, in, 1, 1]."""
    ones = [1, 1] if layer == CONVOLUTION else []
    return magnitude.reshape(*([-1, 1] if axis == 0 else [1, -1]), *ones).clone()


@pytest.mark.parametrize("ending", ["", ".weight", ".default.weight"])
def test_peft_s_names_are_the_formula(made: Student, made_folder: Path, ending: str, tmp_path: Path) -> None:
    """The user's scale is within the norm, alpha by rank or by its root."""
    factors = make_factors(made)
    magnitudes = make_magnitudes(made, factors)
    form = "base_model.model.{layer}.lora_{side}" + (ending if "default" in ending else ".weight")
    named = {f"base_model.model.{layer}.lora_magnitude_vector{ending}": shape_peft(layer, m) for layer, m in magnitudes.items()}
    save_file(spell(factors, form) | named, tmp_path / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "use_dora": True, "r": RANK, "lora_alpha": 6}
    for is_stabilized, size in ((False, 6 / RANK), (True, 6 / math.sqrt(RANK))):
        (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"use_rslora": is_stabilized}))
        student = load(made_folder, tmp_path, 0.5)
        check(student, merge(made, factors, magnitudes, 0.5 * size))
        assert student.components["transformer"].notes[-1].endswith("x 0.5, 3 layers (DoRA), merged in float32")


@pytest.mark.parametrize("axis", [0, 1])
def test_lycoris_names_are_the_formula_by_rows_and_by_columns(
    made: Student, made_folder: Path, axis: int, tmp_path: Path
) -> None:
    factors = make_factors(made)
    magnitudes = make_magnitudes(made, factors, axis)
    scales = {f"lycoris_{layer.replace('.', '_')}.dora_scale": shape_lycoris(layer, m, axis) for layer, m in magnitudes.items()}
    save_file(spell_flat(factors, "lycoris_", 2.0) | scales, tmp_path / "a.safetensors")
    check(load(made_folder, tmp_path / "a.safetensors"), merge(made, factors, magnitudes, 2 / RANK, axis))


def test_a_magnitude_equal_to_the_norm_is_a_plain_lora(made: Student, made_folder: Path, tmp_path: Path) -> None:
    factors, weights = make_factors(made), made.components["transformer"].weights
    plain, named = {}, spell(factors, FORMS["diffusers"])
    for layer in LAYERS:
        change = (factors[f"{layer}.B"].flatten(1) @ factors[f"{layer}.A"].flatten(1)).reshape(weights[f"{layer}.weight"].shape)
        plain[layer] = (weights[f"{layer}.weight"].load() + change).double()
        named[f"transformer.{layer}.lora_magnitude_vector"] = shape_peft(layer, plain[layer].flatten(1).norm(dim=1).float())
    save_file(named, tmp_path / "a.safetensors")
    check(load(made_folder, tmp_path / "a.safetensors"), plain)


def test_pictures_are_those_of_diffusers_with_the_formulas_weights(made_folder: Path, made: Student, tmp_path: Path) -> None:
    factors = make_factors(made)
    magnitudes = make_magnitudes(made, factors)
    named = {f"transformer.{layer}.lora_magnitude_vector": shape_peft(layer, m) for layer, m in magnitudes.items()}
    save_file(spell(factors, FORMS["diffusers"]) | named, tmp_path / "style.safetensors")
    pipeline = make_pipeline()
    for layer, value in merge(made, factors, magnitudes, 1.0).items():
        pipeline.transformer.get_submodule(layer).weight.data = value.float()
    pipeline.save_pretrained(tmp_path / "merged")
    student, family = load(made_folder, tmp_path / "style.safetensors"), load_family(made.family)
    noise = make_noise(1, 1, 1, student.latent_shape)
    draws = Draws(["a red circle"], noise, family.guidance)
    wanted, unchanged = (family.draw_reference(each, draws) for each in (load_student(tmp_path / "merged"), made))
    assert np.abs(unchanged.latents - wanted.latents).max() > 0.01 * np.abs(wanted.latents).max(), "the LoRA does something"
    own = family.draw_reference(student, draws)
    assert np.abs(own.latents - wanted.latents).max() < 1e-4 * np.abs(wanted.latents).max(), "the reference has the LoRA too"
    pictures = open_torch(specialize_student(student))(["a red circle"], noise=noise)
    off = int(np.abs(pictures.astype(int) - wanted.pictures).max())
    assert off <= 1, f"a pixel is off by {off} of 255, tolerance 1 (rounding)"


BASE = f"transformer.{ATTENTION}"
BAD = {
    "without a pair": (
        {"transformer.proj_out.lora_magnitude_vector": torch.ones(4)},
        "has an alpha or a magnitude without A and B",
    ),
    "of another length": ({f"{BASE}.lora_magnitude_vector": torch.ones(47)}, f"{ATTENTION} (magnitude (47,) for (48, 48))"),
    "by columns": ({f"{BASE}.lora_magnitude_vector": torch.ones(2, 24)}, f"{ATTENTION} (magnitude (2, 24) for (48, 48))"),
    "twice": (
        {f"{BASE}.lora_magnitude_vector": torch.ones(48), f"{BASE}.dora_scale": torch.ones(48, 1)},
        f"has two magnitudes of layers: {BASE}",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_magnitude_that_does_not_fit_is_refused(made: Student, made_folder: Path, case: str, tmp_path: Path) -> None:
    added, said = BAD[case]
    save_file(spell(make_factors(made, layers=(ATTENTION,)), FORMS["diffusers"]) | added, tmp_path / "a.safetensors")
    with pytest.raises(InputError) as caught:
        load(made_folder, tmp_path / "a.safetensors")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("value", "said"),
    [(float("nan"), r"lora_magnitude_vector' holds NaN"), (None, r"to_q\.weight: DoRA's change leaves a row of zeros")],
)
def test_damaged_values_are_said_when_a_weight_is_pulled(
    made: Student, made_folder: Path, value: float | None, said: str, tmp_path: Path
) -> None:
    """NaN; and a change that is the weight itself taken away, so that nothing has a direction."""
    weight = made.components["transformer"].weights[f"{ATTENTION}.weight"].load()
    tensors = {f"{BASE}.lora_A.weight": torch.eye(48), f"{BASE}.lora_B.weight": -weight if value is None else weight.clone()}
    tensors[f"{BASE}.lora_magnitude_vector"] = torch.full((48,), value or 1.0)
    save_file(tensors, tmp_path / "a.safetensors")
    student = load(made_folder, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=said):
        student.components["transformer"].weights[f"{ATTENTION}.weight"].load()


def test_a_config_without_magnitudes_does_not_fit_a_file_with_them(made: Student, made_folder: Path, tmp_path: Path) -> None:
    factors = make_factors(made, layers=(ATTENTION,))
    tensors = spell(factors, FORMS["PEFT"]) | {f"base_model.model.{ATTENTION}.lora_magnitude_vector": torch.ones(48)}
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"use_dora": False}))
    with pytest.raises(InputError, match=r"\(a magnitude, where the config says use_dora=false\)"):
        load(made_folder, tmp_path)
