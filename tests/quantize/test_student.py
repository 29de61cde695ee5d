"""quantize_student attaches what the recipe decides and the calibration measured; TorchSession computes with it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from sprint_export.errors import InputError
from sprint_export.nouns.recipe import QuantizedLayer, Recipe, Rule
from sprint_export.nouns.student import Component, Student, TensorSpec
from sprint_export.nouns.target import Target
from sprint_export.quantize import quantize_student, torch_session
from sprint_export.quantize.measure import streaming
from sprint_export.quantize.measure.calibrate import calibrate
from sprint_export.quantize.measure.observers import round_range
from sprint_export.quantize.measure.streaming import OUTPUT
from sprint_export.quantize.recipes import default_recipe
from sprint_export.quantize.schemes.formats import FP8, INT8, Format
from sprint_export.quantize.schemes.scheme import Palette, load_scheme
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.registry import list_members, load_target
from sprint_export.specialize import specialize_student
from sprint_export.weights import constant
from tests.made_student import PROMPTS, open_torch, snr_db

ONNX: Target = load_target("onnx")
PAIRS = [
    (target, precision)
    for target in list_members("target")
    for precision in load_target(target).precisions
    if load_target(target).offers[precision].is_quantized
]
# Recipes of their own, with embedding and decoder in 8 bits -> the decoder's scheme.
IN_FOUR_BITS = {("onnx", "w4a16"): "w8a8", ("openvino", "int4"): "w8a8", ("trt", "w4a16"): "w8a8", ("web", "w4a16"): "w8a16"}
GROUPS = (64, 32)  # where the wanted one divides no row


@pytest.fixture(scope="module")
def student(made: Student) -> Student:
    return dataclasses.replace(specialize_student(made), calibration_prompts=tuple(PROMPTS))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_float_precision_changes_nothing(student: Student, precision: str) -> None:
    assert quantize_student(student, precision, ONNX) is student


def _find_group(wanted: int, grouped: int) -> int:
    return next((size for size in (wanted, *GROUPS) if 0 < size <= wanted and grouped % size == 0), 0)


@pytest.mark.parametrize(("name", "precision"), PAIRS)
def test_layers_carry_range_axis_and_type(student: Student, name: str, precision: str) -> None:
    target = load_target(name)
    recipe = dataclasses.replace(default_recipe(precision, student, target), smooth=0.0)  # then ranges are as they were seen
    quantized = quantize_student(student, precision, target, recipe)
    assert quantized.recipe is not None
    amax = calibrate(student, PROMPTS, quantized.recipe.seed)
    kinds = set()
    for role, component in quantized.components.items():
        assert component.layers, role
        for layer, found in component.layers.items():
            module = component.module.get_submodule(layer)
            is_conv = isinstance(module, torch.nn.Conv2d)
            offer = target.offers[precision]
            scheme = (offer.convolutions or offer.scheme) if role == "vae_decoder" else offer.scheme
            if (name, precision) in IN_FOUR_BITS:
                own = {"vae_decoder": IN_FOUR_BITS[name, precision], "text_encoder": "w8a16" if "embed" in layer else scheme}
                own["transformer"] = "w8a16" if name == "openvino" and "conv_" in layer else scheme  # NNCF packs matrices alone
                scheme = own.get(role, scheme)
            alone = load_scheme(scheme).inputs is None
            assert alone or not (is_conv and module.groups != 1), f"{layer} is depthwise"
            shape = student.components[role].weights[f"{layer}.weight"].shape
            grouped = shape[0] if isinstance(load_scheme(scheme), Palette) else shape[1]
            group = _find_group(target.find_offer(scheme).group, grouped)
            seen = None if alone else round_range(amax[f"{role}.{layer}"].amax.max().item())
            is_rounded = (name, scheme) in (("onnx", "w8a8"), ("web", "w8a8")) and is_conv and module.kernel_size != (1, 1)
            given = round_range(amax[f"{role}.{layer}{OUTPUT}"].amax.max().item()) if is_rounded else None
            assert found == QuantizedLayer(scheme, seen, 0, target.scale_dtype or target.graph_dtype[precision], group, given)
            kinds.add(is_conv)
    assert kinds == {False, True}
    assert all(not component.layers for component in student.components.values()), "the input is left alone"
    assert student.recipe is None


def test_an_unspecialized_student_is_refused(made: Student) -> None:
    with pytest.raises(InputError, match=r"is not specialized; call specialize_student\(student\) first"):
        quantize_student(made, "int8", ONNX)


def test_an_unknown_precision_lists_them(student: Student) -> None:
    with pytest.raises(InputError, match="unknown precision of onnx 'int7'; choose from: fp16, fp32, fp8, fp8a16, int8, w4a16"):
        quantize_student(student, "int7", ONNX)


def test_an_own_recipe_decides_and_keeps_its_prompts(student: Student) -> None:
    rules = (Rule("transformer.*.to_q", "fp8"), Rule("transformer.*.to_k", "int8"), Rule("*", "float"))
    mine = quantize_student(student, "int8", ONNX, Recipe("mine", rules, (PROMPTS[0],), 5))
    layers = mine.components["transformer"].layers
    assert {(name.rpartition(".")[2], layer.scheme) for name, layer in layers.items()} == {
        ("to_q", "fp8"),
        ("to_k", "w8a8"),
    }
    assert not mine.components["vae_decoder"].layers
    amax = calibrate(student, PROMPTS[:1], 5)
    assert {name: layer.input_amax for name, layer in layers.items()} == {
        name: round_range(amax[f"transformer.{name}"].amax.max().item()) for name in layers
    }


def test_an_own_recipe_without_prompts_uses_the_students(student: Student) -> None:
    mine = quantize_student(student, "int8", ONNX, Recipe("mine", (Rule("*", "int8"),)))
    assert mine.recipe is not None
    assert mine.recipe.prompts == tuple(PROMPTS)


def test_a_rule_of_another_students_layers_is_refused(student: Student) -> None:
    with pytest.raises(InputError, match=r"pattern 'text_encoder_2\.\*' matches no layer"):
        quantize_student(student, "int8", ONNX, Recipe("mine", (Rule("text_encoder_2.*", "int8"), Rule("*", "float"))))


def one_linear(layer: QuantizedLayer | None, dtype: torch.dtype = torch.float32) -> Component:
    random = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        module = torch.nn.Sequential(torch.nn.Linear(32, 16))
    weights = {"0.weight": torch.randn(16, 32, generator=random), "0.bias": torch.randn(16, generator=random)}
    return Component(
        "vae_decoder",
        module,
        {name: constant(value.to(dtype)) for name, value in weights.items()},
        (TensorSpec("x", "float32", (4, 32), "in"),),
        (TensorSpec("y", "float32", (4, 16), "out"),),
        {} if layer is None else {"0": layer},
    )


@pytest.mark.parametrize(("scheme", "format"), [("w8a8", INT8), ("fp8", FP8)])
@pytest.mark.parametrize("output", [None, 1.5])
def test_a_fake_layer_is_the_formula(scheme: str, format: Format, output: float | None) -> None:
    """Input clipped at its range, weight rounded per channel, bias rounded to the graph's type, then the output where told."""
    component = one_linear(QuantizedLayer(scheme, 2.0, 0, "bf16", output_amax=output))
    x = np.random.default_rng(0).standard_normal((4, 32)).astype(np.float32) * 2
    assert np.abs(x).max() > 2.5, "some input must lie beyond the range"
    found = TorchSession(component, fake=True, dtype="bf16").run({"x": x})["y"]

    def rounded(value: torch.Tensor, amax: torch.Tensor) -> torch.Tensor:
        scale = (amax / format.qmax).bfloat16().float()
        q = value / scale
        q = q.clamp(-448, 448).to(torch.float8_e4m3fn).float() if format.is_float else q.round().clamp(-128, 127)
        return q * scale

    weight, bias = (component.weights[f"0.{name}"].load() for name in ("weight", "bias"))
    w = rounded(weight, weight.abs().amax(1, keepdim=True))
    wanted = rounded(torch.from_numpy(x), torch.tensor(2.0)) @ w.T + bias.bfloat16().float()
    if output is not None:
        assert wanted.abs().max() > output, "some output must lie beyond the range"
        wanted = rounded(wanted, torch.tensor(output))
    np.testing.assert_allclose(found, wanted.numpy(), rtol=0, atol=1e-5)


def test_a_session_that_is_not_fake_ignores_layers() -> None:
    x = {"x": np.random.default_rng(0).standard_normal((4, 32)).astype(np.float32)}
    plain = TorchSession(one_linear(None)).run(x)["y"]
    np.testing.assert_array_equal(plain, TorchSession(one_linear(QuantizedLayer("w8a8", 0.1, 0, "fp32"))).run(x)["y"])


def test_sampling_times_keep_float32_in_a_16_bit_graph(student: Student) -> None:
    fake = TorchSession(student.components["transformer"], fake=True, dtype="bf16").module
    assert fake.get_buffer("times").tolist() == student.components["transformer"].weights["times"].load().tolist()
    weight = fake.get_parameter("proj_out.weight")
    assert torch.equal(weight, weight.bfloat16().float())


def test_large_rounded_weights_are_read_when_they_are_needed(student: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    component = quantize_student(student, "int8", ONNX).components["transformer"]
    feeds = {
        spec.name: np.random.default_rng(0).standard_normal([1, *map(int, spec.shape[1:])]).astype(spec.dtype)
        for spec in component.inputs
    }
    whole = TorchSession(component, fake=True, dtype="bf16")
    monkeypatch.setattr(streaming, "SMALL", 100)
    monkeypatch.setattr(streaming, "use_onednn", lambda _: None)  # other last digits, which rounding may make a whole step of
    monkeypatch.setattr(torch_session, "HELD_BYTES", 40_000)
    streamed = TorchSession(component, fake=True, dtype="bf16")
    for _ in range(2):
        np.testing.assert_array_equal(streamed.run(feeds)["denoised"], whole.run(feeds)["denoised"])
    large = [p for n, p in streamed.module.named_parameters() if component.weights[n].load().numel() > 100]
    held = [parameter for parameter in large if not parameter.is_meta]
    assert 0 < sum(parameter.nbytes for parameter in held) <= 40_000 and len(held) < len(large)


@pytest.mark.parametrize(("precision", "least"), [("int8", 20.0), ("fp8", 20.0)])
def test_the_fake_student_stays_near_the_float_one(student: Student, precision: str, least: float) -> None:
    """The loss of the recipe on the picture; random weights amplify it, so the floor is low."""
    quantized = quantize_student(student, precision, ONNX)
    float_pipe = open_torch(student)
    pipe = float_pipe.over({role: TorchSession(c, fake=True) for role, c in quantized.components.items()})
    noise = np.random.default_rng(0).standard_normal((1, *student.latent_shape)).astype(np.float32)
    found = snr_db(*(next(each.draw(PROMPTS[:1], noise=noise))["image"] for each in (pipe, float_pipe)))
    assert found >= least, f"{found:.1f} dB, at least {least}"
    assert found < 80, "nothing was quantized"


@pytest.mark.parametrize(("count", "smooth", "doubts"), [(1, 0.5, 1), (3, 0.5, 1), (4, 0.5, 0), (1, 0.0, 0)])
def test_ranges_smoothed_by_few_prompts_are_doubted_in_a_note(student: Student, count: int, smooth: float, doubts: int) -> None:
    recipe = Recipe("few", (Rule("*", "int8"),), tuple(f"a {i} circle" for i in range(count)), smooth=smooth)
    for component in quantize_student(student, "int8", ONNX, recipe).components.values():
        found = [note for note in component.notes if note.startswith("calibration")]
        assert (
            found == [f"calibration: smoothed by {count} prompts; fewer than 4 may leave ranges too narrow for others"] * doubts
        )
