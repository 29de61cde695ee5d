"""What torch computes on a device is what it computes on the CPU, however little memory the device has (tests/fake_device.py)."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from sprint_export.compute import CPU, Compute
from sprint_export.nouns.recipe import QuantizedLayer, Recipe, Rule
from sprint_export.nouns.student import Student
from sprint_export.quantize import quantize_student
from sprint_export.quantize.measure import walk
from sprint_export.quantize.measure.calibrate import calibrate
from sprint_export.quantize.measure.records import Record
from sprint_export.quantize.measure.streaming import StreamedNetwork
from sprint_export.quantize.search.pictures import KeptErrors, KeptPsnr
from sprint_export.quantize.torch_session import TorchSession, open_torch
from sprint_export.registry import load_target
from sprint_export.specialize import specialize_student
from sprint_export.weights import Handle, LazyHandle
from tests.fake_device import OnDevice, fake_device
from tests.made_student import PROMPTS
from tests.tree import ROLES

ONNX, TRT = load_target("onnx"), load_target("trt")
MIXED = Recipe(
    "mixed",
    (Rule("transformer.transformer_blocks.1.attn2.*", "int4"), Rule("*", "int8")),
    tuple(PROMPTS[:1]),
    smooth=0.5,
    correct_bias=True,
    gptq=True,
)

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def student(made: Student) -> Student:
    return specialize_student(made)


def list_values(records: dict[str, Record]) -> dict[str, list[float]]:
    return {layer: [*r.amax.tolist(), *r.total.tolist(), *r.counts.flatten().tolist(), r.rows] for layer, r in records.items()}


def forget(monkeypatch: pytest.MonkeyPatch, tmp_path: Any, name: str) -> None:
    """A cache of its own."""
    monkeypatch.setenv("SPRINT_EXPORT_CACHE", str(tmp_path / name))


def test_a_student_that_is_quantized_on_a_device_is_the_same(
    made: Student, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Ranges, smoothing, GPTQ and biases; the device's arithmetic is the CPU's here, so they are equal to the last bit."""
    student = specialize_student(made, 2)
    wanted = quantize_student(student, "int8", ONNX, MIXED)
    forget(monkeypatch, tmp_path, "device")
    with fake_device() as (compute, said):
        found = quantize_student(student, "int8", ONNX, MIXED, compute=compute)
    assert not said
    for role, component in wanted.components.items():
        assert found.components[role].layers == component.layers
        edits = found.components[role].edits
        assert edits.keys() == component.edits.keys()
        for name, value in component.edits.items():
            assert not isinstance(edits[name], OnDevice), f"{role}: {name} lies on the device"
            assert torch.equal(edits[name], value), f"{role}: {name}"
    kinds = {name.rpartition("/")[2] for name in wanted.components["transformer"].edits}
    assert kinds >= {"codes", "scales", "added", "rows"}, "GPTQ, bias correction and smoothing had something to do"


@pytest.mark.parametrize(("target", "precision"), [(ONNX, "int8"), (TRT, "fp8")])
def test_pictures_and_their_errors_are_the_same_on_a_device(
    student: Student, target: Any, precision: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """The rounded twin, and what searches go by: a network rounded alone and then put back."""
    prompts = PROMPTS[:1]
    quantized = quantize_student(student, precision, target, Recipe("all", (Rule("*", precision),), tuple(prompts)))
    layers = {f"vae_decoder.{name}": layer for name, layer in quantized.components["vae_decoder"].layers.items()}

    def draw(compute: Compute) -> tuple[Any, ...]:
        pipeline = open_torch(quantized, True, "bf16", compute)
        assert pipeline.description == f"{compute.description}, fake-quantized"
        errors, psnr = KeptErrors(student, prompts, 1, compute), KeptPsnr(student, prompts, 1, compute)
        return pipeline(prompts), errors.measure(layers), psnr.measure(quantized, "bf16")

    wanted = draw(CPU)
    forget(monkeypatch, tmp_path, "device")
    with fake_device() as (compute, said):
        found = draw(compute)
    np.testing.assert_array_equal(found[0], wanted[0])
    assert found[1:] == wanted[1:]
    assert found[1] > 0
    assert not said


def count_loads(student: Student, role: str) -> tuple[Student, Counter[str]]:
    """The student, and how often each large weight of a network is read."""
    loads: Counter[str] = Counter()

    def count(name: str, handle: Handle) -> LazyHandle:
        def load() -> torch.Tensor:
            loads[name] += 1
            return handle.load()

        return LazyHandle(handle.shape, handle.dtype, load)

    component = student.components[role]
    weights = {name: count(name, handle) for name, handle in component.weights.items()}
    counted = dataclasses.replace(component, weights=weights)
    return dataclasses.replace(student, components={**student.components, role: counted}), loads


@pytest.mark.parametrize("room", ["all", "some", "none"])
def test_weights_stay_on_the_device_as_far_as_there_is_room(student: Student, room: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sprint_export.quantize.measure.streaming.SMALL", 0)
    student, loads = count_loads(student, "transformer")
    component = student.components["transformer"]
    sizes = {n: 4 * int(np.prod(component.weights[n].shape)) for n, _ in component.module.named_parameters()}
    free = {"all": 2 * sum(sizes.values()), "some": sum(sizes.values()), "none": 0}[room]
    feeds = {spec.name: np.zeros([1, *map(int, spec.shape[1:])], spec.dtype) for spec in component.inputs}
    with fake_device(free) as (compute, _):
        network = StreamedNetwork(component, compute=compute)
        assert network.description == f"PyTorch {torch.__version__} Fake GPU, float32, weights streamed"
        (first,) = network.run(feeds).values()
        (second,) = network.run(feeds).values()
        staying = sum(value.nbytes for value in network.module.parameters() if isinstance(value, OnDevice))
    np.testing.assert_array_equal(first, second)
    twice = {name for name in sizes if loads[name] == 2}
    assert {loads[name] for name in sizes} <= {1, 2}
    assert {"all": not twice, "some": 0 < len(twice) < len(sizes), "none": len(twice) == len(sizes)}[room]
    assert staying == sum(size for name, size in sizes.items() if name not in twice) <= free / 2


def test_short_of_memory_chunks_are_halved_and_then_a_network_goes_to_the_cpu(
    student: Student, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    prompts = [*PROMPTS, *PROMPTS][:4]
    monkeypatch.setattr(walk, "count_rows_at_once", lambda component: 4)
    wanted = calibrate(student, prompts, 3)
    said: dict[int, list[str]] = {}
    for bits in (8, 17, 24):
        forget(monkeypatch, tmp_path, str(bits))
        with fake_device(largest=1 << bits) as (compute, said[bits]):
            found = calibrate(student, prompts, 3, compute=compute)
        assert found.keys() == wanted.keys()
        for layer, record in wanted.items():
            np.testing.assert_allclose(found[layer].amax.numpy(), record.amax.numpy(), 1e-5, err_msg=layer)
            assert found[layer].rows == record.rows, layer
            deviation = float((found[layer].mean - record.mean).abs().max() / record.amax.max().clamp_min(1e-9))
            assert deviation < 1e-6, f"{layer}: {deviation}"
    assert not said[24], "all fits"
    lines = [  # prompts come in parts of two (settling.py)
        "{}: 2 prompts at once are too large for Fake GPU; 1 are tried",
        "{}: too large for the memory of Fake GPU; computed on the CPU",
    ]
    assert said[8] == [line.format(role) for role in ROLES for line in lines]
    assert said[17] == said[8][:-1], "one picture fits"


def test_short_of_memory_gptq_fits_the_same_on_the_cpu(made: Student, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    student = specialize_student(made, 2)
    rules = (Rule("transformer.transformer_blocks.1.attn2.*", "int4"), Rule("*", "float"))
    recipe = Recipe("small", rules, tuple(PROMPTS), gptq=True)
    wanted = quantize_student(student, "int8", ONNX, recipe).components["transformer"].edits
    forget(monkeypatch, tmp_path, "device")
    hidden = max(layer.shape[0] for name, layer in student.components["transformer"].weights.items() if "conv_inverted" in name)
    with fake_device(largest=hidden * 16) as (compute, said):
        found = quantize_student(student, "int8", ONNX, recipe, compute=compute).components["transformer"].edits
    assert f"transformer: too large with {len(PROMPTS)} prompts at once for the memory of Fake GPU; computed on the CPU" in said
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_session_without_memory_goes_on_on_the_cpu(student: Student) -> None:
    component = student.components["vae_decoder"]
    layer = QuantizedLayer("w8a8", 3.0, 0, "fp32")
    name = next(n for n, module in component.module.named_modules() if isinstance(module, torch.nn.Conv2d) and module.groups == 1)
    component = dataclasses.replace(component, layers={name: layer})
    feeds = {"latents": np.random.default_rng(0).standard_normal((1, *student.latent_shape), np.float32)}
    wanted = TorchSession(component, fake=True).run(feeds)["image"]
    weights = max(int(np.prod(handle.shape)) for handle in component.weights.values())
    for largest, where in ((8, "loading"), (weights, "running")):
        with fake_device(largest=largest) as (compute, said):
            session = TorchSession(component, fake=True, compute=compute)
            assert session.place.compute.is_cpu == (where == "loading")
            np.testing.assert_array_equal(session.run(feeds)["image"], wanted)
        assert said == ["vae_decoder: too large for the memory of Fake GPU; computed on the CPU"], where
        assert session.description == f"PyTorch {torch.__version__} CPU, float32, fake-quantized"
