"""No weight and no input loses digits to the type of its scale: weights times 2^k, pictures of every size, every target."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import pytest
import torch

from sprint_export.errors import InputError
from sprint_export.nouns.recipe import FLOAT, FLOAT_DTYPES, QuantizedLayer
from sprint_export.nouns.student import Student
from sprint_export.nouns.target import Target
from sprint_export.quantize import quantize_student
from sprint_export.quantize.measure.observers import choose_range
from sprint_export.quantize.palettes import look_up, palettize
from sprint_export.quantize.recipes import default_recipe
from sprint_export.quantize.scales import find_lift, holds_input, input_scale, round_weight, smallest_normal, weight_scale
from sprint_export.quantize.schemes.scheme import Palette, load_scheme
from sprint_export.registry import list_members, load_target
from sprint_export.specialize import specialize_student
from sprint_export.students.sana_sprint.presets import tiny

MIN_DB = 40.0  # of 8-bit integers: what normally distributed rows of 127 codes give is 43
MAX_LOST_DB = 0.5  # of other precisions, against the same rounding with scales in float64
POWERS = (-30, -24, -20, -16, -12, -11, -10, -8, -6, -3, 0, 5, 10)
GRAPHS_OF_HALF = ("coreml-int8", "coreml-w8a8", "coreai-int8", "openvino-int8")


def list_pairs() -> Iterator[tuple[str, str, str]]:
    """Target, precision of a layer, and the type of its scales."""
    for name in list_members("target"):
        target: Target = load_target(name)
        quantized = {asked: offer for asked, offer in target.offers.items() if offer.is_quantized}
        dtype = target.scale_dtype or next(offer.graph for offer in quantized.values())
        assert dtype is not None
        yield from ((name, asked, dtype) for asked in quantized)


def decibels(found: torch.Tensor, wanted: torch.Tensor) -> float:
    error = (found.double() - wanted.double()).square().sum()
    return 10 * math.log10(float(wanted.double().square().sum()) / max(float(error), 1e-300))


def round_ideally(weight: torch.Tensor, layer: QuantizedLayer) -> torch.Tensor:
    """The same rounding with scales, or tables, of unlimited range and precision."""
    scheme = load_scheme(layer.scheme)
    if isinstance(scheme, Palette):
        return look_up(*palettize(weight, dataclasses.replace(layer, scale_dtype="fp32")))
    grouped = weight.double().unflatten(1, (-1, layer.group or weight.shape[1]))
    scale = grouped.abs().amax(2, keepdim=True) / scheme.weights.qmax
    scaled = torch.where(scale > 0, grouped / scale, 0.0)
    codes = scaled.to(torch.float8_e4m3fn).double() if scheme.weights.is_float else scaled.round()
    rounded: torch.Tensor = codes.clamp(scheme.weights.qmin, scheme.weights.qmax) * scale
    return rounded.flatten(1)


def make_weight(power: int) -> torch.Tensor:
    """[64, 256] of several sizes, one row nothing but zeros."""
    weight = torch.randn(64, 256, generator=torch.Generator().manual_seed(0)) * 0.05
    weight[:8] *= 4.0
    weight[5] = 0.0
    return weight * 2.0**power


@pytest.mark.parametrize(("target", "precision", "dtype"), list(list_pairs()))
def test_weights_times_a_power_of_two_keep_their_digits(target: str, precision: str, dtype: str) -> None:
    offer = load_target(target).offers[precision]
    scheme = load_scheme(offer.scheme)
    is_palette = isinstance(scheme, Palette)
    layer = QuantizedLayer(offer.scheme, None, 0, dtype, 0 if is_palette else offer.group)
    held = "fp16" if scheme.packed_by else dtype  # of the weights that are packed
    tried = 0
    for power in POWERS:
        weight = make_weight(power)
        magnitudes = weight.abs().amax(1)
        if magnitudes[magnitudes > 0].min() < smallest_normal(held) or magnitudes.max() > torch.finfo(torch.float16).max:
            continue  # the float graph does not hold it either
        tried += 1
        found = decibels(round_weight(weight, layer), weight)
        ideal = decibels(round_ideally(weight, layer), weight)
        assert found >= ideal - MAX_LOST_DB, f"{target}-{precision}, 2^{power}: {found:.1f} dB, ideally {ideal:.1f} dB"
        if scheme.weights.bits == 8 and not scheme.weights.is_float:
            assert found >= MIN_DB, f"{target}-{precision}, 2^{power}: {found:.1f} dB"
        assert is_palette or torch.equal(round_weight(weight, layer)[5], weight[5]), "zeros stay zeros"
    assert tried >= 6


@pytest.mark.parametrize("side", [32, 64, 128])
@pytest.mark.parametrize("norm", ["rms_norm_across_heads", None])
@pytest.mark.parametrize("name", GRAPHS_OF_HALF)
def test_no_layer_loses_digits_to_the_size_of_the_picture(name: str, norm: str | None, side: int) -> None:
    """The range folds divide weights by the number of positions, up to 16,384."""
    special = specialize_student(tiny(sample_size=side, qk_norm=norm))
    target, precision = load_target(name.partition("-")[0]), name.partition("-")[2]
    offer = dataclasses.replace(target.offers[precision], scheme="w8a16")  # weights alone: nothing is measured
    alone = dataclasses.replace(target, offers={precision: offer}, rounds_output=None)
    recipe = dataclasses.replace(default_recipe(precision, special, alone), smooth=0.0, correct_bias=False)
    quantized = quantize_student(special, precision, alone, recipe)
    for role, component in quantized.components.items():
        for layer, how in component.layers.items():
            weight = component.weights[f"{layer}.weight"].load().float()
            found = decibels(round_weight(weight, how), weight)
            assert found >= MIN_DB, f"{role}.{layer}: {found:.1f} dB"


@pytest.mark.parametrize("norm", ["rms_norm_across_heads", None])
def test_the_weights_that_make_keys_do_not_shrink_with_the_picture(norm: str | None) -> None:
    small, large = (specialize_student(tiny(sample_size=side, qk_norm=norm)).components["transformer"] for side in (16, 128))
    name = "transformer_blocks.0.attn1.to_k.weight"
    assert torch.equal(small.weights[name].load(), large.weights[name].load())


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_what_a_file_holds_of_a_scale_is_a_normal_number(dtype: str) -> None:
    layer = QuantizedLayer("w8a16", None, 0, dtype)
    scale = weight_scale(torch.tensor([[1e-3], [6e-7], [0.5], [0.0], [127 * 2.0**-14]]), layer)
    lift = find_lift(scale, dtype)
    stored = scale * lift
    assert (stored >= smallest_normal(dtype)).all()
    assert torch.equal(stored.to(getattr(torch, FLOAT_DTYPES[dtype])).float(), stored), "no digit is lost in the file"
    assert (1 / lift >= smallest_normal(dtype)).all()
    assert bool((lift > 1).any()) == (dtype == "fp16")


@pytest.mark.parametrize(("dtype", "holds"), [("fp32", True), ("bf16", True), ("fp16", False)])
def test_a_small_input_keeps_eight_bits_or_is_not_rounded(dtype: str, holds: bool) -> None:
    layer = QuantizedLayer("w8a8", 1e-5, 0, dtype)
    assert holds_input(1e-5, layer) == holds
    assert holds_input(0.0, layer), "an input of zeros has any scale"
    if holds:
        assert float(input_scale(layer)) == pytest.approx(1e-5 / 127, rel=4e-3)


def test_a_layer_whose_small_input_half_precision_cannot_scale_stays_float_and_is_named(
    tiny_student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    special = specialize_student(tiny_student)
    target = load_target("coreml")
    made = iter(range(1000))
    monkeypatch.setattr(
        "sprint_export.quantize.student.choose_range", lambda *given: 1e-5 if next(made) == 0 else choose_range(*given)
    )
    recipe = dataclasses.replace(default_recipe("w8a8", special, target), prompts=("a red circle",))
    quantized = quantize_student(special, "w8a8", target, recipe)
    first = next(d.layer for d in quantized.components["text_encoder"].decisions if d.is_refused and "half precision" in d.reason)
    component, name = quantized.components["text_encoder"], first.removeprefix("text_encoder.")
    assert name not in component.layers
    assert next(d for d in component.decisions if d.layer == first).precision == FLOAT
    assert component.notes[-1] == f"float: reads values whose scale half precision cannot hold (1): {name}"


def test_a_scale_beyond_the_type_is_refused() -> None:
    layer = QuantizedLayer("w8a16", None, 0, "fp16")
    with pytest.raises(InputError, match=r"a scale of 7.874e\+06 is beyond float16; choose a target of another type"):
        weight_scale(torch.tensor([[1e9]]), layer)
