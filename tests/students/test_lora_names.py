"""Names of a LoRA's layers: underscores for dots are looked up in the student, never guessed; other methods are named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sprint_export.errors import InputError
from sprint_export.nouns.parts import Lora
from sprint_export.nouns.student import Student
from sprint_export.students.family import list_families, load_family
from sprint_export.students.lora_names import FOREIGN, Layers, is_flat
from sprint_export.weights import constant
from tests.students.test_lora import ATTENTION, CONVOLUTION, RANK, TEXT, TIME, Tensors, check_merged, load, make_factors

LORA = Lora(Path("a.safetensors"))
FAMILIES = {family.name: family for family in list_families()}


def spell_flat(factors: Tensors, prefix: str, alpha: float | None = None) -> Tensors:
    """Factors as kohya's scripts write them: `<prefix>a_b_c.lora_down.weight`, with an alpha a layer."""
    sides = {"A": "lora_down.weight", "B": "lora_up.weight"}
    split = [(*name.rpartition(".")[::2], value) for name, value in factors.items()]
    named = {f"{prefix}{layer.replace('.', '_')}.{sides[side]}": value for layer, side, value in split}
    alphas = {f"{prefix}{layer.replace('.', '_')}.alpha": torch.tensor(alpha) for layer, _, _ in split if alpha is not None}
    return named | alphas


@pytest.mark.parametrize("prefix", ["lora_unet_", "lora_transformer_", "lycoris_"])
def test_underscores_of_the_denoiser_are_the_formula(made: Student, made_folder: Path, prefix: str, tmp_path: Path) -> None:
    factors = make_factors(made)
    save_file(spell_flat(factors, prefix, 2.0), tmp_path / "a.safetensors")
    check_merged(load(made_folder, tmp_path / "a.safetensors", 0.5), made, factors, 0.5 * 2 / RANK)


@pytest.mark.parametrize("prefix", ["lora_te_", "lora_te1_", "lora_te_model_", "lora_text_encoder_"])
def test_underscores_of_the_text_encoder_are_the_formula(made: Student, made_folder: Path, prefix: str, tmp_path: Path) -> None:
    """As part of a whole language model, or by itself."""
    factors = make_factors(made, "text_encoder", (TEXT,))
    save_file(spell_flat(factors, prefix), tmp_path / "a.safetensors")
    check_merged(load(made_folder, tmp_path / "a.safetensors"), made, factors, 1.0, "text_encoder")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "lora_unet_transformer_blocks_1_attn_to_q",
            "changes layers that the student has not: lora_unet_transformer_blocks_1_attn_to_q; expected layers of text_encoder, "
            "transformer, vae_decoder, such as transformer.transformer_blocks.1.attn",
        ),
        (
            "lora_te2_layers_0_self_attn_q_proj",
            "has not: lora_te2_layers_0_self_attn_q_proj; expected layers of text_encoder, trans",
        ),
        ("lora_unet_transformer_blocks_01_attn1_to_q", "has not: lora_unet_transformer_blocks_01_attn1_to_q; expected layers"),
    ],
)
def test_a_name_that_reads_like_no_layer_is_refused(made_folder: Path, name: str, said: str, tmp_path: Path) -> None:
    tensors = {f"{name}.lora_down.weight": torch.zeros(RANK, 48), f"{name}.lora_up.weight": torch.zeros(48, RANK)}
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(InputError) as caught:
        load(made_folder, tmp_path / "a.safetensors")
    assert said in str(caught.value)


def test_a_name_that_reads_like_two_layers_is_refused() -> None:
    weight = constant(torch.zeros(2, 2))
    tree = {"transformer": {"a.b_c.weight": weight, "a_b.c.weight": weight, "a.d.weight": weight}}
    layers = Layers(load_family("sana_sprint"), tree)
    assert layers.find(LORA, "lora_unet_a_d") == ("transformer", "a.d.weight")
    assert layers.find(LORA, "transformer.a_b.c") == ("transformer", "a_b.c.weight"), "dots say which"
    with pytest.raises(
        InputError, match=r"lora_unet_a_b_c, whose underscores read like several layers: a\.b_c, a_b\.c; expected dots"
    ):
        layers.find(LORA, "lora_unet_a_b_c")


@pytest.mark.parametrize("name", FAMILIES)
def test_no_two_layers_of_a_family_read_alike(name: str) -> None:
    """So every layer of every family can be changed by a file with underscores."""
    student = FAMILIES[name].tiny()
    layers = Layers(FAMILIES[name], {role: each.weights for role, each in student.components.items()})
    checked = 0
    for role, component in student.components.items():
        for layer, module in component.module.named_modules():
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
                assert layers.find(LORA, f"lora_{role}_{layer.replace('.', '_')}") == (role, f"{layer}.weight")
                checked += 1
    assert checked > 20


def test_what_has_dots_is_not_flat() -> None:
    assert is_flat("lora_unet_proj_out")
    assert not any(map(is_flat, ("lora_unet.proj_out", "proj_out", f"transformer.{TIME}", CONVOLUTION)))


KINDS = {
    "LoHa": "hada_w1_a",
    "LoKr": "lokr_w2",
    "OFT": "oft_blocks",
    "GLoRA": "a1.weight",
    "Tucker": "lora_mid.weight",
    "change alone": "wd_for_diff",
    "whole differences": "diff_b",
    "(IA)3": "on_input",
    "AdaLoRA": "lora_E",
    "of an embedding": "lora_embedding_A",
    "have a bias": "lora_B.bias",
    "another method": "vera_lambda_b",
}


def test_every_other_method_has_a_case() -> None:
    assert len(KINDS) == len(FOREIGN)


@pytest.mark.parametrize("kind", KINDS)
def test_other_methods_are_refused_by_their_names(made_folder: Path, made: Student, kind: str, tmp_path: Path) -> None:
    layer = f"lora_unet_{ATTENTION.replace('.', '_')}"
    tensors = spell_flat(make_factors(made, layers=(TIME,)), "lora_unet_") | {f"{layer}.{KINDS[kind]}": torch.ones(1)}
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(InputError) as caught:
        load(made_folder, tmp_path / "a.safetensors")
    message = str(caught.value)
    assert kind in message
    assert f"which is not taken: {layer}.{KINDS[kind]}; expected LoRA, rsLoRA or DoRA under the names of PEFT" in message
