"""4-bit weights are fitted to what their layers read, once, layer by layer, and nothing else is touched."""

from __future__ import annotations

import dataclasses
import shutil
from typing import Any

import numpy as np
import pytest
import torch

from sprint_export.cache import cache_folder
from sprint_export.errors import InputError
from sprint_export.noise import make_calibration_noise
from sprint_export.nouns.recipe import Recipe, Rule
from sprint_export.nouns.student import Student
from sprint_export.nouns.target import Target
from sprint_export.progress import Step
from sprint_export.quantize import quantize_student
from sprint_export.quantize.mend import fit
from sprint_export.quantize.mend.fit import fit_component
from sprint_export.quantize.mend.gptq import fit_weight
from sprint_export.quantize.scales import round_weight
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.registry import load_target
from sprint_export.specialize import specialize_student
from sprint_export.weights import LazyHandle
from tests.made_student import PROMPTS, open_torch, snr_db
from tests.tree import ROLES

ONNX: Target = load_target("onnx")
ALL_FOUR_BITS = Recipe("small", (Rule("*", "int4"),), tuple(PROMPTS))


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def student(made: Student) -> Student:
    return specialize_student(made)


def quantize(student: Student, recipe: Recipe = ALL_FOUR_BITS, gptq: bool = True) -> Student:
    return quantize_student(student, "int8", ONNX, dataclasses.replace(recipe, gptq=gptq))


def note_fits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What `fit_weight` is called with from here on."""
    notes: list[tuple[Any, ...]] = []

    def noted(*given: Any) -> tuple[torch.Tensor, torch.Tensor]:
        notes.append(given)
        return fit_weight(*given)

    monkeypatch.setattr(fit, "fit_weight", noted)
    return notes


def run_texts(student: Student, fake: bool) -> np.ndarray:
    ids, _ = open_torch(student).reader.read(PROMPTS)
    return TorchSession(student.components["text_encoder"], fake).run({"input_ids": ids})["prompt_embeds"]


def test_texts_come_out_closer_than_with_plain_rounding(student: Student) -> None:
    exact = run_texts(student, fake=False)
    plain, fitted = (snr_db(run_texts(quantize(student, gptq=gptq), True), exact) for gptq in (False, True))
    print(f"plain {plain:.1f} dB, fitted {fitted:.1f} dB, at least 3 dB more")
    assert fitted >= plain + 3


def test_matrices_in_four_bits_are_fitted_and_no_others(student: Student) -> None:
    rules = (Rule("transformer.*.attn1.*", "w8a16"), Rule("transformer.*.attn2.*", "int8"), Rule("*", "int4"))
    quantized = quantize(student, dataclasses.replace(ALL_FOUR_BITS, rules=rules))
    for role, component in quantized.components.items():
        assert component.edits, role
        fitted = {key.removesuffix(".weight/codes") for key in component.edits if key.endswith("/codes")}
        for name, layer in component.layers.items():
            module = component.module.get_submodule(name)
            is_dense = getattr(module, "kernel_size", (1, 1)) == (1, 1) and getattr(module, "groups", 1) == 1
            is_matrix = is_dense and not isinstance(module, torch.nn.Embedding)
            assert (name in fitted) == (layer.scheme == "w4a16" and is_matrix), name
            weight = component.weights[f"{name}.weight"].load().float()
            if name in fitted:
                torch.testing.assert_close(round_weight(weight, layer), weight, rtol=1e-6, atol=0)
    assert not quantize(student, gptq=False).components["text_encoder"].edits


@pytest.mark.parametrize("steps", [1, 2])
def test_the_matrix_is_that_of_all_rows_that_count(made: Student, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Of every step, and without the rows of texts that are padding."""
    student = specialize_student(made, steps)
    layers = ("transformer_blocks.1.attn1.to_q", "transformer_blocks.0.attn2.to_k")
    pipe = open_torch(student)
    seen: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {name: [] for name in layers}
    masks: list[torch.Tensor] = []
    for name in layers:
        module = pipe.sessions["transformer"].module.get_submodule(name)  # type: ignore[attr-defined]
        module.register_forward_pre_hook(lambda _, given, name=name: seen[name].append((given[0], masks[-1])))
    for i, prompt in enumerate(PROMPTS):
        masks.append(torch.from_numpy(pipe.reader.read([prompt])[1]).bool())
        noise = make_calibration_noise(ALL_FOUR_BITS.seed + i, steps, 1, student.latent_shape)
        pipe([prompt], noise=noise)
    fitted = note_fits(monkeypatch)
    rules = (*(Rule(f"transformer.{name}", "int4") for name in layers), Rule("*", "float"))
    quantize(student, dataclasses.replace(ALL_FOUR_BITS, rules=rules))
    wanted = []
    for name in sorted(layers, key=lambda name: name.split(".")[1]):  # in the order they run
        rows = [x[mask] if "attn2" in name else x.flatten(0, -2) for x, mask in seen[name]]
        assert len(rows) == steps * len(PROMPTS)
        wanted.append(torch.stack([part.t() @ part for part in rows]).sum(0))
    for (_, mine, _), theirs in zip(fitted, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()))


def test_a_killed_run_goes_on_after_its_last_layer(student: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = quantize(student)
    shutil.rmtree(cache_folder())
    layers = [name for name in wanted.components["text_encoder"].layers if "embed" not in name]

    def kill(step: Step, done: int, total: int) -> None:
        if (step, done) == (Step("fitting weights", "text_encoder"), 3):
            raise KeyboardInterrupt

    recipe = dataclasses.replace(ALL_FOUR_BITS, gptq=True)
    with pytest.raises(KeyboardInterrupt):
        quantize_student(student, "int8", ONNX, recipe, kill)
    fitted = note_fits(monkeypatch)
    found = quantize_student(student, "int8", ONNX, recipe)
    others = sum(key.endswith("/codes") for role in ROLES[1:] for key in wanted.components[role].edits)
    assert len(fitted) == len(layers) - 3 + others
    for role in ROLES:
        edits = wanted.components[role].edits
        assert found.components[role].edits.keys() == edits.keys()
        assert all(torch.equal(found.components[role].edits[key], value) for key, value in edits.items())
    fitted.clear()
    quantize_student(student, "int8", ONNX, recipe)
    assert not fitted, "a second call fits nothing"


def test_a_damaged_layer_is_fitted_again(student: Student) -> None:
    found = quantize(student).components["text_encoder"].edits
    wanted = {key: value.clone() for key, value in found.items()}  # they are mapped from the files
    path = min((cache_folder() / "gptq").rglob("text_encoder.*.safetensors"))
    path.write_bytes(path.read_bytes()[:40])
    found = quantize(student).components["text_encoder"].edits
    assert all(torch.equal(found[key], value) for key, value in wanted.items())


def test_another_question_is_answered_anew(student: Student) -> None:
    for change in ({}, {"seed": 5}, {"prompts": tuple(PROMPTS[:1])}):
        quantize(student, dataclasses.replace(ALL_FOUR_BITS, **change))
    folders = list((cache_folder() / "gptq").iterdir())
    assert len(folders) == 3


def test_progress_counts_layers(student: Student) -> None:
    told: list[tuple[Step, int, int]] = []
    quantize_student(student, "int8", ONNX, dataclasses.replace(ALL_FOUR_BITS, gptq=True), lambda *event: told.append(event))
    for role in ROLES:
        mine = [(done, total) for step, done, total in told if step == Step("fitting weights", role)]
        assert mine == [(i, len(mine) - 1) for i in range(len(mine))]


def test_numbers_that_are_none_are_refused(student: Student) -> None:
    component = student.components["text_encoder"]
    name = next(name for name in component.weights if name.endswith("up_proj.weight"))
    handle = component.weights[name]
    broken = LazyHandle(handle.shape, handle.dtype, lambda: torch.full(handle.shape, float("nan")))
    changed = dataclasses.replace(component, weights={**component.weights, name: broken})
    damaged = dataclasses.replace(student, components={**student.components, "text_encoder": changed}, fingerprint="broken")
    with pytest.raises(InputError, match=r"text_encoder\..*down_proj: its input is NaN or beyond 1e19 on the calibration"):
        quantize(damaged)


def test_no_prompts_are_refused(student: Student) -> None:
    quantized = quantize(student, gptq=False)
    with pytest.raises(InputError, match="gptq needs calibration prompts and got none; give --prompts FILE"):
        fit_component(quantized, "text_encoder", (), 0)
