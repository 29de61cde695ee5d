"""LoRA files: every spelling gives the same merged weights, exactly the formula's; what is not covered is refused by name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sprint_export.errors import InputError
from sprint_export.noise import make_noise
from sprint_export.nouns.parts import Lora, Parts
from sprint_export.nouns.student import Student
from sprint_export.quantize.torch_session import open_torch
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.students.family import Draws, load_family
from sprint_export.students.lora import MergedHandle, is_merged
from sprint_export.weights import constant
from tests.made_student import make_pipeline

RANK = 4
ATTENTION, CONVOLUTION = "transformer_blocks.1.attn1.to_q", "transformer_blocks.0.ff.conv_inverted"
TIME, TEXT = "time_embed.timestep_embedder.linear_1", "layers.0.self_attn.q_proj"
Tensors = dict[str, torch.Tensor]


def make_factors(
    student: Student, role: str = "transformer", layers: tuple[str, ...] = (ATTENTION, CONVOLUTION, TIME)
) -> Tensors:
    """`<layer>.A` and `<layer>.B`, random, as large as the weights."""
    generator = torch.Generator().manual_seed(0)
    made = {}
    for layer in layers:
        shape = student.components[role].weights[f"{layer}.weight"].shape
        made[f"{layer}.A"] = torch.randn((RANK, *shape[1:]), generator=generator) / math.sqrt(shape[1])
        made[f"{layer}.B"] = torch.randn((shape[0], RANK, *([1] * (len(shape) - 2))), generator=generator)
    return made


def spell(factors: Tensors, form: str) -> Tensors:
    """Factors under names such as `transformer.{layer}.lora_{side}.weight`; diffusers' old sides are down and up."""
    old = {"A": "down", "B": "up"}
    split = [(*name.rpartition(".")[::2], value) for name, value in factors.items()]
    return {form.format(layer=layer, side=side, old=old[side]): value for layer, side, value in split}


FORMS = {
    "PEFT": "base_model.model.{layer}.lora_{side}.weight",
    "PEFT's adapter": "base_model.model.transformer.{layer}.lora_{side}.default.weight",
    "diffusers": "transformer.{layer}.lora_{side}.weight",
    "old diffusers": "transformer.{layer}.lora.{old}.weight",
    "others": "diffusion_model.{layer}.lora_{old}.weight",
    "bare": "{layer}.lora_{side}.weight",
}


@pytest.fixture(scope="module")
def factors(made: Student) -> Tensors:
    return make_factors(made)


def load(folder: Path, file: Path, scale: float = 1.0) -> Student:
    return load_student(folder, parts=Parts((Lora(file, scale),)))


def check_merged(student: Student, plain: Student, factors: Tensors, factor: float, role: str = "transformer") -> None:
    """All changed weights are W + factor B A to the last bits of float32, all others are untouched."""
    layers = {name.rpartition(".")[0] for name in factors}
    found, wanted = student.components[role].weights, plain.components[role].weights
    assert {name for name, handle in found.items() if isinstance(handle, MergedHandle)} == {f"{layer}.weight" for layer in layers}
    for layer in layers:
        change = factors[f"{layer}.B"].double().flatten(1) @ factors[f"{layer}.A"].double().flatten(1)
        value = wanted[f"{layer}.weight"].load().double() + factor * change.reshape(wanted[f"{layer}.weight"].shape)
        off = (found[f"{layer}.weight"].load().double() - value).abs().max() / value.abs().max()
        assert off < 1e-6, f"{layer}: off by {off:.1e} of the largest, tolerance 1e-6 (float32)"
    assert all(found[name] == wanted[name] for name in wanted if name.rpartition(".")[0] not in layers)


@pytest.mark.parametrize("form", FORMS)
def test_every_spelling_is_the_formula(made: Student, made_folder: Path, factors: Tensors, form: str, tmp_path: Path) -> None:
    file = tmp_path / "style.safetensors"
    save_file(spell(factors, FORMS[form]), file)
    student = load(made_folder, file, 0.5)
    check_merged(student, made, factors, 0.5)
    assert student.components["transformer"].notes == ("lora: style.safetensors x 0.5, 3 layers, merged in float32",)
    assert student.fingerprint != made.fingerprint != load(made_folder, file, 0.25).fingerprint != student.fingerprint


def test_a_merge_in_float64_is_exact(factors: Tensors) -> None:
    down, up = (factors[f"{CONVOLUTION}.{side}"].double() for side in "AB")
    weight = torch.randn(up.shape[0], *down.shape[1:], dtype=torch.float64)
    merged = MergedHandle(constant(weight), constant(down), constant(up), 0.7)
    wanted = weight + 0.7 * torch.einsum("orxy,rihw->oihw", up, down)
    assert merged.dtype == torch.float64
    assert (merged.load() - wanted).abs().max() <= 1e-12 * wanted.abs().max()


def test_alpha_is_a_tensor_a_config_or_metadata(made: Student, made_folder: Path, factors: Tensors, tmp_path: Path) -> None:
    tensors = spell(factors, FORMS["diffusers"])
    alphas = {f"transformer.{layer}.alpha": torch.tensor(6.0) for layer in (ATTENTION, CONVOLUTION, TIME)}
    save_file(tensors | alphas, tmp_path / "tensors.safetensors")
    said = {"transformer.r": RANK, "transformer.lora_alpha": 8}
    save_file(tensors, tmp_path / "metadata.safetensors", {"format": "pt", "lora_adapter_metadata": json.dumps(said)})
    save_file(spell(factors, FORMS["PEFT"]), tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "lora_alpha": 3, "use_rslora": True}))
    for name, factor in (("tensors", 6 / RANK), ("metadata", 8 / RANK), ("adapter_model", 3 / math.sqrt(RANK))):
        check_merged(load(made_folder, tmp_path / f"{name}.safetensors"), made, factors, factor)


def test_peft_s_folder_with_an_alpha_of_one_layer(made: Student, made_folder: Path, tmp_path: Path) -> None:
    factors = make_factors(made, layers=(ATTENTION,))
    save_file(spell(factors, FORMS["PEFT"]), tmp_path / "adapter_model.safetensors")
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps({"lora_alpha": 1, "alpha_pattern": {"attn1.to_q": 2}}))
    student = load(made_folder, tmp_path)
    check_merged(student, made, factors, 2 / RANK)
    file.write_text(json.dumps({"lora_alpha": 1}))
    changed = load(made_folder, tmp_path)
    check_merged(changed, made, factors, 1 / RANK)
    assert changed.fingerprint != student.fingerprint, "the config decides too"


def test_diffusers_metadata_is_read_by_network_and_of_a_folder_too(
    made: Student, made_folder: Path, factors: Tensors, tmp_path: Path
) -> None:
    text = make_factors(made, "text_encoder", (TEXT,))
    tensors = spell(factors, FORMS["diffusers"]) | spell(text, "text_encoder.{layer}.lora_{side}.weight")
    said: dict[str, object] = {"transformer.r": RANK, "transformer.lora_alpha": 8, "transformer.alpha_pattern": {ATTENTION: 6}}
    said |= {"text_encoder.r": RANK, "text_encoder.lora_alpha": 2}
    file = tmp_path / "pytorch_lora_weights.safetensors"
    save_file(tensors, file, {"format": "pt", "lora_adapter_metadata": json.dumps(said)})
    for source in (file, tmp_path):
        student = load(made_folder, source)
        check_merged(student, made, text, 2 / RANK, "text_encoder")
        found = {
            name: handle.factor
            for name, handle in student.components["transformer"].weights.items()
            if isinstance(handle, MergedHandle)
        }
        assert found == {f"{ATTENTION}.weight": 6 / RANK, f"{CONVOLUTION}.weight": 8 / RANK, f"{TIME}.weight": 8 / RANK}


def test_a_layer_s_rank_and_alpha_by_pattern(made: Student, made_folder: Path, tmp_path: Path) -> None:
    """Regular expressions for the end of a name, the first that fits, as PEFT's get_pattern_key has it."""
    factors = make_factors(made, layers=(ATTENTION, TIME))
    narrow = {
        name: value[:2].contiguous() if name.endswith("A") else value[:, :2].contiguous() for name, value in factors.items()
    }
    mixed = {name: (narrow if name.startswith(TIME) else factors)[name] for name in factors}
    save_file(spell(mixed, FORMS["PEFT"]), tmp_path / "adapter_model.safetensors")
    config: dict[str, object] = {"r": RANK, "lora_alpha": 1, "use_rslora": True}
    config |= {"rank_pattern": {r"^time_embed\..*linear_1": 2}, "alpha_pattern": {r"attn\d+\.to_q": 5, "to_q": 7}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    weights = load(made_folder, tmp_path).components["transformer"].weights
    attention, time = weights[f"{ATTENTION}.weight"], weights[f"{TIME}.weight"]
    assert isinstance(attention, MergedHandle)
    assert isinstance(time, MergedHandle)
    assert (attention.factor, time.factor) == (5 / math.sqrt(RANK), 1 / math.sqrt(2))


def test_a_network_that_a_file_only_holds_whole_weights_of_gets_them(made: Student, made_folder: Path, tmp_path: Path) -> None:
    tensors = spell(make_factors(made, layers=(ATTENTION,)), FORMS["diffusers"])
    norm = torch.full(made.components["text_encoder"].weights["norm.weight"].shape, 0.5)
    save_file(tensors | {"text_encoder.model.norm.weight": norm}, tmp_path / "a.safetensors")
    text = load(made_folder, tmp_path / "a.safetensors").components["text_encoder"]
    assert torch.equal(text.weights["norm.weight"].load(), norm)
    assert is_merged(text.weights), "so that a reference does not read the folder"
    assert text.notes == ("lora: a.safetensors x 1, 1 whole weights, merged in float32",)


def test_a_folder_of_several_loras_lists_them(made_folder: Path, factors: Tensors, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_file(spell(factors, FORMS["bare"]), tmp_path / f"{name}.safetensors")
    with pytest.raises(InputError, match=r"expected a folder with one LoRA, .*; found a\.safetensors, b\.safetensors; name one"):
        load(made_folder, tmp_path)
    (tmp_path / "b.safetensors").unlink()
    assert load(made_folder, tmp_path).fingerprint == load(made_folder, tmp_path / "a.safetensors").fingerprint


def test_a_whole_checkpoint_with_two_adapters(made: Student, made_folder: Path, factors: Tensors, tmp_path: Path) -> None:
    """As TwinFlow's trainer saves one: all weights, `base_layer` where there is an adapter, `default` beside `old`."""
    weights = {name: handle.load() + 1 for name, handle in made.components["transformer"].weights.items()}
    whole = {
        name.replace(".weight", ".base_layer.weight") if f"{name.removesuffix('weight')}A" in factors else name: value
        for name, value in weights.items()
    }
    adapters = spell(factors, "{layer}.lora_{side}.default.weight") | {
        name: torch.full_like(value, 9.0) for name, value in spell(factors, "{layer}.lora_{side}.old.weight").items()
    }
    save_file(whole | adapters, tmp_path / "diffusion_pytorch_model.safetensors")
    found = load(made_folder, tmp_path).components["transformer"].weights
    for layer in (ATTENTION, CONVOLUTION, TIME):
        change = factors[f"{layer}.B"].flatten(1) @ factors[f"{layer}.A"].flatten(1)
        wanted = weights[f"{layer}.weight"] + change.reshape(weights[f"{layer}.weight"].shape)
        assert torch.allclose(found[f"{layer}.weight"].load(), wanted, atol=1e-6)
    assert torch.equal(found["proj_out.weight"].load(), weights["proj_out.weight"])


def test_a_text_encoder_s_lora_and_two_in_a_row(made: Student, made_folder: Path, factors: Tensors, tmp_path: Path) -> None:
    text = make_factors(made, "text_encoder", (TEXT,))
    save_file(spell(text, "text_encoder.{layer}.lora_{side}.weight"), tmp_path / "a.safetensors")
    save_file(spell(factors, FORMS["bare"]), tmp_path / "b.safetensors")
    loras = tuple(Lora(tmp_path / f"{name}.safetensors", scale) for name, scale in (("a", 1.0), ("b", 1.0), ("b", 0.5)))
    student = load_student(made_folder, parts=Parts(loras))
    check_merged(student, made, text, 1.0, "text_encoder")
    check_merged(student, made, factors, 1.5)


def test_pictures_are_those_of_diffusers_with_the_changed_weights(
    made_folder: Path, made: Student, factors: Tensors, tmp_path: Path
) -> None:
    """From end to end: specialized and drawn here, and by the stock pipeline whose modules were changed by hand."""
    pipeline = make_pipeline()
    for layer in (ATTENTION, CONVOLUTION, TIME):
        weight = pipeline.transformer.get_submodule(layer).weight
        weight.data += 0.5 * (factors[f"{layer}.B"].flatten(1) @ factors[f"{layer}.A"].flatten(1)).reshape(weight.shape)
    pipeline.save_pretrained(tmp_path / "merged")
    save_file(spell(factors, FORMS["diffusers"]), tmp_path / "style.safetensors")
    student, family = load(made_folder, tmp_path / "style.safetensors", 0.5), load_family(made.family)
    noise = make_noise(1, 1, 1, student.latent_shape)
    draws = Draws(["a red circle"], noise, family.guidance)
    wanted = family.draw_reference(load_student(tmp_path / "merged"), draws)
    own = family.draw_reference(student, draws)
    unchanged = family.draw_reference(made, draws)
    assert np.abs(own.latents - wanted.latents).max() < 1e-4 * np.abs(wanted.latents).max(), "the reference has the LoRA too"
    assert np.abs(unchanged.latents - wanted.latents).max() > 0.01 * np.abs(wanted.latents).max(), "the LoRA does something"
    specialized = specialize_student(student)
    assert any(note.startswith("lora: style.safetensors x 0.5") for note in specialized.components["transformer"].notes)
    pictures = open_torch(specialized)(["a red circle"], noise=noise)
    off = int(np.abs(pictures.astype(int) - wanted.pictures).max())
    assert off <= 1, f"a pixel is off by {off} of 255, tolerance 1 (rounding)"


A, B = (f"transformer.{ATTENTION}.lora_{side}.weight" for side in "AB")


def rename(**names: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {names.get(name[-8], name): value for name, value in tensors.items()}


BAD: dict[str, tuple[Callable[[Tensors], Tensors], list[str]]] = {
    "empty": (
        lambda tensors: {"x": torch.zeros(1)},
        [
            "holds no LoRA: x; expected LoRA, rsLoRA or DoRA under the names of",
            "e.g. <layer>.lora_A.weight and <layer>.lora_B.weight",
        ],
    ),
    "one factor": (lambda tensors: {A: tensors[A]}, ["has one factor only of layers", ATTENTION]),
    "another model": (
        lambda tensors: {name.replace("attn1", "self_attention"): value for name, value in tensors.items()},
        [
            "changes layers that the student has not: transformer.transformer_blocks.1.self_attention.to_q",
            "expected layers of text_encoder, transformer, vae_decoder, such as transformer.transformer_blocks.1.attn",
        ],
    ),
    "another width": (
        lambda tensors: tensors | {A: torch.zeros(RANK, 7)},
        ["does not fit the student's layers", f"{ATTENTION} (B (48, 4) A (4, 7) for (48, 48))"],
    ),
    "another rank": (lambda tensors: tensors | {A: torch.zeros(3, 48)}, ["(B (48, 4) A (3, 48) for (48, 48))"]),
    "no rank": (lambda tensors: {A: torch.zeros(0, 48), B: torch.zeros(48, 0)}, ["(B (48, 0) A (0, 48) for (48, 48))"]),
    "an alpha without a pair": (
        lambda tensors: tensors | {"transformer.proj_out.alpha": torch.ones(1)},
        ["has an alpha or a magnitude without A and B of layers: transformer.proj_out"],
    ),
    "an alpha that is no number": (
        lambda tensors: tensors | {f"transformer.{ATTENTION}.alpha": torch.tensor(float("nan"))},
        [f"tensor 'transformer.{ATTENTION}.alpha' holds NaN"],
    ),
    "two spellings": (
        lambda tensors: tensors | {A.replace("lora_A", "lora_down"): tensors[A].clone()},
        ["has a tensor under two spellings: ", "expected each once"],
    ),
    "two names": (
        lambda tensors: tensors | {name.removeprefix("transformer."): value.clone() for name, value in tensors.items()},
        [f"changes transformer.{ATTENTION}.weight under several names: transformer.{ATTENTION}, {ATTENTION}; expected each"],
    ),
    "a norm": (
        lambda tensors: {A.replace("to_q", "norm_q"): torch.zeros(4), B.replace("to_q", "norm_q"): torch.zeros(48, 4)},
        ["(B (48, 4) A (4,) for (48,))"],
    ),
    "a foreign bias": (
        lambda tensors: tensors | {"transformer.nothing.bias": torch.ones(3)},
        ["in that shape: transformer.nothing"],
    ),
    "adapters without names": (
        lambda tensors: {
            f"{name[:-7]}.{adapter}.weight": value.clone() for name, value in tensors.items() for adapter in ("x", "y")
        },
        ["has several adapters and none named default: x, y"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_refused_by_name(made: Student, made_folder: Path, case: str, tmp_path: Path) -> None:
    change, parts = BAD[case]
    save_file(change(spell(make_factors(made, layers=(ATTENTION,)), FORMS["diffusers"])), tmp_path / "a.safetensors")
    with pytest.raises(InputError) as caught:
        load(made_folder, tmp_path / "a.safetensors")
    for part in ("a.safetensors", *parts):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"peft_type": "LOHA"}, "an adapter of the kind LOHA, expected LORA (use_rslora and use_dora too)"),
        ({"use_dora": True}, "(no magnitude, where the config says use_dora=true)"),
        ({"use_dora": "yes"}, "use_dora='yes': expected true or false"),
        ({"lora_alpha": "many"}, "lora_alpha='many': expected a finite number"),
        ({"r": 3}, f"{TIME} (of rank 4, where the config says 3)"),
        ({"r": 4, "rank_pattern": {"attn1.to_q": 8}}, f"{ATTENTION} (of rank 4, where the config says 8)"),
        ({"alpha_pattern": {"to_q": True}}, "alpha_pattern['to_q']=True: expected a finite number"),
        ({"alpha_pattern": [1]}, "alpha_pattern: expected at most 5,000 numbers by pattern of layers' names"),
        ({"rank_pattern": {"(a+)+$": 4}}, "rank_pattern '(a+)+$': expected the end of a layer's name, or a regular expression"),
        ({"rank_pattern": {"a?" * 9 + "a" * 9: 4}}, "at most 2 repetitions and 2 groups, no group repeated"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa' changes the weights below too; expected one of None, True,"),
        ({"layer_replication": [[0, 2]]}, "layer_replication=[[0, 2]]: layers that are repeated; expected none"),
        ({"lora_alpha": 10**400}, "the number 100000000000000000000000... has 401 digits, more than float64 holds"),
        ({"alpha_pattern": {"[": 1}}, "alpha_pattern '[' is no regular expression"),
    ],
)
def test_a_config_that_is_not_covered(made: Student, made_folder: Path, config: object, said: str, tmp_path: Path) -> None:
    save_file(spell(make_factors(made), FORMS["PEFT"]), tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError) as caught:
        load(made_folder, tmp_path)
    assert said in str(caught.value)


def test_a_truncated_lora_is_named(made_folder: Path, factors: Tensors, tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    save_file(spell(factors, FORMS["bare"]), file)
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"a\.safetensors is truncated or not a safetensors file"):
        load(made_folder, file)
