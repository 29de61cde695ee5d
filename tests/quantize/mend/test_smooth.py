"""Smoothing keeps the network and takes outliers out of what is rounded; planted ones are recovered."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from sprint_export.errors import InputError
from sprint_export.nouns.student import Component, Migration, Student
from sprint_export.nouns.target import Target
from sprint_export.quantize import quantize_student
from sprint_export.quantize.measure.records import record_rows
from sprint_export.quantize.mend.smooth import ENOUGH, MAX_OCTAVES, smooth_component
from sprint_export.quantize.recipes import default_recipe
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.registry import load_target
from sprint_export.specialize import specialize_student
from sprint_export.weights import constant
from tests.export.to_onnx.graphs import make_feeds
from tests.made_student import PROMPTS, snr_db
from tests.planted import FACTOR, plant_outliers
from tests.tree import ROLES

ONNX: Target = load_target("onnx")


@pytest.fixture(scope="module")
def student(made: Student) -> Student:
    return dataclasses.replace(specialize_student(made), calibration_prompts=tuple(PROMPTS))


def make_pair(outlier: float = 1.0) -> tuple[Component, torch.Tensor]:
    """Two Linears one after the other, and rows [500, 4] for the first; channel 1 between them is scaled."""
    random = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        module = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Linear(6, 4))
    weights = {name: torch.randn(value.shape, generator=random) for name, value in module.state_dict().items()}
    weights["0.weight"][1] *= outlier
    weights["0.bias"][1] *= outlier
    weights["1.weight"][:, 1] /= outlier
    component = Component("vae_decoder", module, {name: constant(value) for name, value in weights.items()})
    return component, torch.randn(500, 4, generator=random)


def run(component: Component, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What lies between the two layers, and what comes out."""
    w = {name: handle.load() for name, handle in component.weights.items()}
    between = x @ w["0.weight"].T + w["0.bias"]
    return between, between @ w["1.weight"].T + w["1.bias"]


PAIR = Migration(("0.weight", "0.bias"), ("1",))


@pytest.mark.parametrize("alpha", [0.3, 0.5, 0.9])
def test_factors_are_the_papers(alpha: float) -> None:
    """max|x|^a / max|W|^(1 - a) relative to its median channel, at the nearest power of two."""
    component, x = make_pair(64.0)
    seen = run(component, x)[0]
    smoothed, divisors = smooth_component(component, [PAIR], {"1": record_rows(seen)}, alpha, {"1"})
    weight = component.weights["1.weight"].load().abs().amax(0)
    wanted = seen.abs().amax(0) ** alpha / weight ** (1 - alpha)
    ratio = divisors["1"] * wanted.median() / wanted
    assert divisors["1"].log2().frac().abs().max() == 0, "powers of two"
    assert ((ratio > 2**-0.51) & (ratio < 2**0.51)).all()
    for before, after in zip(run(component, x), run(smoothed, x), strict=True):
        scale = divisors["1"] if before.shape[1] == 6 else 1.0
        assert torch.equal(after * scale, before), "exact to the bit"


def test_an_outlier_is_taken_out_of_the_input() -> None:
    component, x = make_pair(64.0)
    seen = run(component, x)[0]
    smoothed, divisors = smooth_component(component, [PAIR], {"1": record_rows(seen)}, 0.5, {"1"})
    ratios = [float(y.abs().amax(0).max() / y.abs().amax(0).median()) for y in (seen, run(smoothed, x)[0])]
    print(f"largest channel over the median one: {ratios[0]:.0f}, smoothed {ratios[1]:.1f}; channel 1 / {divisors['1'][1]:.0f}")
    assert ratios[0] > 50
    assert ratios[1] < 5


def test_a_place_whose_input_stays_float_is_left_alone() -> None:
    component, x = make_pair(64.0)
    smoothed, divisors = smooth_component(component, [PAIR], {"1": record_rows(run(component, x)[0])}, 0.5, set())
    assert (smoothed, divisors) == (component, {})


def test_few_prompts_divide_outliers_alone() -> None:
    """A channel that they showed to be small may be a rare one: it is divided like the others, and the outlier as ever."""
    component, x = make_pair(64.0)
    seen = run(component, x)[0]
    seen[:, 3] *= 1 / 64
    few, enough = (
        smooth_component(component, [PAIR], {"1": record_rows(seen)}, 0.5, {"1"}, prompts)[1]["1"]
        for prompts in (ENOUGH - 1, ENOUGH)
    )
    others = [i for i in range(6) if i != 1]
    print(f"{ENOUGH} prompts: divided by {enough.tolist()}; one less: {few.tolist()}")
    assert enough[3] <= enough[0] / 4
    assert few[others].unique().tolist() == [1.0]
    assert few[1] > 1


@pytest.mark.parametrize("dead", [[2], [0, 1, 2, 3, 4, 5]])
def test_a_dead_channel_is_left_alone(dead: list[int]) -> None:
    component, x = make_pair(1e9)
    seen = run(component, x)[0]
    seen[:, dead] = 0
    _, divisors = smooth_component(component, [PAIR], {"1": record_rows(seen)}, 0.5, {"1"})
    assert divisors["1"][dead].tolist() == [1.0] * len(dead)
    assert divisors["1"].log2().abs().max() <= MAX_OCTAVES


def test_readers_of_one_tensor_are_divided_alike(student: Student) -> None:
    """So that Q, K and V, gate and up, and all blocks' text keys still share one Q/DQ."""
    quantized = quantize_student(student, "int8", ONNX, dataclasses.replace(default_recipe("int8", student, ONNX), smooth=0.5))
    text, transformer = (quantized.components[role].layers for role in ROLES[:2])
    for i in range(2):
        assert len({text[f"model.layers.{i}.self_attn.{name}_proj"].input_amax for name in "qkv"}) == 1
        assert len({text[f"model.layers.{i}.mlp.{name}_proj"].input_amax for name in ("gate", "up")}) == 1
    assert (
        len({transformer[f"transformer_blocks.{i}.attn2.{name}"].input_amax for i in range(3) for name in ("to_k", "to_v")}) == 1
    )


@pytest.mark.parametrize("role", ROLES)
def test_the_float_network_is_the_same_to_the_bit(student: Student, role: str) -> None:
    quantized = quantize_student(student, "int8", ONNX, dataclasses.replace(default_recipe("int8", student, ONNX), smooth=0.5))
    component, feeds = quantized.components[role], make_feeds(student)[role]
    assert component.edits, "nothing was smoothed"
    smoothed, plain = (next(iter(TorchSession(c).run(feeds).values())) for c in (component, student.components[role]))
    assert np.array_equal(smoothed, plain)


@pytest.mark.parametrize("role", ROLES)
def test_planted_outliers_are_recovered(student: Student, role: str) -> None:
    """Naive INT8 loses what they drown; smoothed it is nearly as good as without them. Padded rows of the text do not count."""
    planted, feeds = plant_outliers(student), make_feeds(student)
    kept = feeds["transformer"]["prompt_mask"].astype(bool) if role == "text_encoder" else ...

    def run_role(component: Component, fake: bool = False) -> np.ndarray:
        return next(iter(TorchSession(component, fake).run(feeds[role]).values()))[kept]

    wanted = run_role(student.components[role])
    assert np.array_equal(wanted, run_role(planted.components[role])), "the same function"
    found = {}
    for name, each, smooth in (("plain", student, 0.0), ("naive", planted, 0.0), ("smooth", planted, 0.5)):
        recipe = dataclasses.replace(default_recipe("int8", each, ONNX), smooth=smooth)
        found[name] = snr_db(run_role(quantize_student(each, "int8", ONNX, recipe).components[role], fake=True), wanted)
    print(f"{role}, outliers times {FACTOR:.0f}: " + ", ".join(f"{name} {value:.1f} dB" for name, value in found.items()))
    assert found["naive"] < found["plain"] - 4
    assert found["smooth"] > found["plain"] - 4
    assert found["smooth"] > found["naive"] + 4


@pytest.mark.parametrize("alpha", [-0.1, 1.0, float("nan")])
def test_an_alpha_that_is_none_is_refused(student: Student, alpha: float) -> None:
    recipe = dataclasses.replace(default_recipe("int8", student, ONNX), smooth=alpha)
    with pytest.raises(InputError, match=rf"smooth={alpha}: expected 0 \(off\) to below 1"):
        quantize_student(student, "int8", ONNX, recipe)
