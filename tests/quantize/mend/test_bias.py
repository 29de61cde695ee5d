"""Bias correction takes the mean of the weights' rounding error out of what a layer writes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.nouns.student import Component, Student
from sprint_export.progress import Step
from sprint_export.quantize import quantize_student
from sprint_export.quantize.measure.calibrate import calibrate
from sprint_export.quantize.mend.bias import correct_biases
from sprint_export.quantize.mend.edits import edit_component
from sprint_export.quantize.recipes import default_recipe
from sprint_export.quantize.scales import round_weight
from sprint_export.registry import load_target
from sprint_export.specialize import specialize_student
from sprint_export.weights import constant
from tests.made_student import PROMPTS
from tests.planted import plant_outliers

ONNX = load_target("onnx")

LAYERS = {
    "Linear": torch.nn.Linear(32, 24),
    "Conv2d": torch.nn.Conv2d(32, 24, 3),
    "grouped": torch.nn.Conv2d(32, 24, 3, groups=4),
    "depthwise": torch.nn.Conv2d(32, 64, 3, groups=32),
}


def make_component(kind: str, scheme: str) -> Component:
    layer = LAYERS[kind]
    weights = {f"0.{name}": constant(value.detach()) for name, value in layer.named_parameters()}
    return Component("vae_decoder", torch.nn.Sequential(layer), weights, layers={"0": QuantizedLayer(scheme, None, 0, "fp32")})


@pytest.mark.parametrize("scheme", ["p4a16", "w8a16"])
@pytest.mark.parametrize("kind", LAYERS)
def test_the_mean_error_is_gone(kind: str, scheme: str) -> None:
    torch.manual_seed(0)
    component = make_component(kind, scheme)
    x = torch.randn(64, 32) + 2 * torch.randn(32) if kind == "Linear" else torch.randn(64, 32, 5, 5) + 2 * torch.randn(32, 1, 1)
    x = x if kind == "Linear" else x.mean((2, 3), keepdim=True).expand_as(x)  # what a border or corner is: the same everywhere
    means = {"0": x.double().mean(0) if kind == "Linear" else x.double().mean((0, 2, 3))}
    corrected = edit_component(component, correct_biases(component, means))

    def run(of: Component, rounded: bool) -> torch.Tensor:
        layer = LAYERS[kind]
        weight = of.weights["0.weight"].load()
        weight = round_weight(weight, of.layers["0"]) if rounded else weight
        bias = of.weights["0.bias"].load()
        if isinstance(layer, torch.nn.Conv2d):
            return torch.nn.functional.conv2d(x, weight, bias, groups=layer.groups).transpose(0, 1).flatten(1)
        return torch.nn.functional.linear(x, weight, bias).T

    wanted = run(component, False)
    errors = [float((run(of, True) - wanted).mean(1).abs().max()) for of in (component, corrected)]
    print(f"{kind}: mean error {errors[0]:.1e}, corrected {errors[1]:.1e}")
    assert errors[0] > 1e-3
    assert errors[1] < 1e-5
    assert (run(corrected, True) - wanted).square().mean() < (run(component, True) - wanted).square().mean()


def test_only_layers_that_have_a_bias_are_corrected(made: Student) -> None:
    student = dataclasses.replace(specialize_student(made), calibration_prompts=tuple(PROMPTS))
    recipe = dataclasses.replace(default_recipe("int8", student, ONNX), smooth=0.0, correct_bias=True)
    told: list[tuple[Step, int, int]] = []
    target = load_target("onnx")
    quantized = quantize_student(student, "int8", target, recipe, lambda *event: told.append(event))
    for role, component in quantized.components.items():
        wanted = {f"{name}.bias/added" for name in component.layers if f"{name}.bias" in component.weights}
        assert component.edits.keys() == wanted
        assert all(np.abs(value.numpy()).max() > 0 for value in component.edits.values()), role
    assert not quantized.components["text_encoder"].edits, "Gemma has no biases"
    assert told[-1][0] == Step("correcting biases", "vae_decoder")
    assert told[-1][1] == told[-1][2]


def test_smoothed_inputs_have_smoothed_means(made: Student) -> None:
    """(W_q - W) E[x] of the network that is exported: columns times s, means over s."""
    student = plant_outliers(dataclasses.replace(specialize_student(made), calibration_prompts=tuple(PROMPTS)))
    target = load_target("onnx")
    recipe = dataclasses.replace(default_recipe("int8", student, ONNX), smooth=0.5, correct_bias=True)
    component = quantize_student(student, "int8", target, recipe).components["transformer"]
    name = "transformer_blocks.1.attn1.to_out.0"
    record = calibrate(student, PROMPTS, recipe.seed)[f"transformer.{name}"]
    assert component.edits[f"{name}.weight/columns"].std() > 0
    weight = component.weights[f"{name}.weight"].load()
    mean = record.mean / component.edits[f"{name}.weight/columns"]
    wanted = -((round_weight(weight, component.layers[name]) - weight).double() @ mean).float()
    torch.testing.assert_close(component.edits[f"{name}.bias/added"], wanted)
