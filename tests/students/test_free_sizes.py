"""--dynamic for TwinFlow's families: rotations looked up by the size at hand are those of a student of that size, to the bit."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sprint_export.conversion import convert
from sprint_export.noise import make_noise
from sprint_export.nouns.student import Student
from sprint_export.quantize.torch_session import open_torch
from sprint_export.runtimes import open_bundle
from sprint_export.specialize import specialize_student
from sprint_export.students.family import Draws, load_family
from sprint_export.students.networks.qwen_image import tabulate_rotations
from sprint_export.weights import materialize
from tests.bundles import read_rows

FAMILIES = ("twinflow_qwen", "twinflow_z")
DYNAMIC = {"dynamic": True}
PROMPT = "a red circle on a small table"


def resize(student: Student, height: int, width: int) -> Student:
    """The same student, made for pictures of another size."""
    return dataclasses.replace(student, latent_shape=(student.latent_shape[0], height, width))


def list_sides(student: Student) -> list[tuple[int, int]]:
    """Its own, and odd numbers of patches in other shapes: one patch high, and some that are no multiple of 32 tokens."""
    own = student.latent_shape[1]
    return [(own, own), (2, own + 2), (own + 6, 4), (16, 24)]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("steps", "own"), [(1, (12, 12)), (2, (16, 24))])
def test_a_free_network_is_the_one_of_each_size(name: str, steps: int, own: tuple[int, int]) -> None:
    """In torch, in float32: the same products in the same order, but for rows that are hidden.

    Of 96 tokens none is padding, so a Z-Image of that size does not read the token that others need.
    """
    family = load_family(name)
    twin = resize(family.tiny(), *own)
    free = family.free_sizes(specialize_student(twin, steps)).components["transformer"]
    network = materialize(free.module, free.weights)
    for sides in list_sides(twin):
        fixed = specialize_student(resize(twin, *sides), steps).components["transformer"]
        one = materialize(fixed.module, fixed.weights)
        generator = torch.Generator().manual_seed(sides[0])
        latents, embeds = (torch.randn(tuple(map(int, spec.shape)), generator=generator) for spec in fixed.inputs[:2])
        mask = torch.zeros(tuple(map(int, fixed.inputs[2].shape)), dtype=torch.int64)
        mask[:, :9] = 1
        step = [torch.tensor([1])] * (steps > 1)
        with torch.no_grad():
            found, wanted = (each(latents, embeds, mask, *step) for each in (network, one))
        off = float((found - wanted).abs().max() / wanted.abs().max())
        assert off < 1e-5, f"{sides}: {off:.1e}, tolerance 1e-5 (float32, sums over more or fewer hidden rows)"
        assert wanted.std() > 0.1


@pytest.mark.parametrize("sides", [(1, 1), (1, 7), (6, 5), (32, 48)])
def test_rotations_are_the_tables_of_one_size_to_the_bit(sides: tuple[int, int]) -> None:
    student = load_family("twinflow_qwen").tiny()
    config, rows = student.configs["transformer"], student.prompt.keep
    free = load_family("twinflow_qwen").free_sizes(specialize_student(student)).components["transformer"]
    network: Any = materialize(free.module, free.weights)
    picture, text = network.find_rotations(sides, rows)
    tables = tabulate_rotations(config, sides, rows)
    for found, named in ((picture, ("cos", "sin")), (text, ("text_cos", "text_sin"))):
        for table, key in zip(found, named, strict=True):
            assert torch.equal(table, tables[key]), key


@pytest.mark.parametrize(("name", "target"), [("twinflow_z", "onnx-fp32"), ("twinflow_qwen", "openvino-fp16")])
def test_one_bundle_draws_what_diffusers_draws_at_each_size(name: str, target: str, tmp_path: Path) -> None:
    family = load_family(name)
    twin = family.tiny()
    bundle = convert(twin, target, tmp_path / "bundle", count=2, options=DYNAMIC)
    state = bundle.components[1].inputs[0].shape
    assert state == (1, twin.latent_shape[0], "2*height", "2*width")
    rows, pipe = read_rows(tmp_path / "bundle"), open_bundle(tmp_path / "bundle")
    assert rows["transformer", "converter_psnr_db"]["value"] > (80 if target == "onnx-fp32" else 40)
    for sides in list_sides(twin):
        noise = make_noise(3, 1, 1, (twin.latent_shape[0], *sides))
        wanted = family.draw_reference(resize(twin, *sides), Draws([PROMPT], noise, family.guidance)).pictures
        found = pipe([PROMPT], noise=noise)
        assert found.shape == wanted.shape
        assert wanted.std() > 10, "a flat picture proves nothing"
        off = np.abs(found.astype(int) - wanted)
        assert off.max() <= 1 if target == "onnx-fp32" else off.mean() < 1, f"{sides}: {off.max()} of 255"
        np.testing.assert_array_equal(found, pipe([PROMPT], seed=3, height=found.shape[1], width=found.shape[2]))


def test_without_it_the_network_of_one_size_is_what_it_was() -> None:
    """A free network leaves the one it is made of alone."""
    for name in FAMILIES:
        family = load_family(name)
        student = specialize_student(family.tiny())
        before = {key: handle.shape for key, handle in student.components["transformer"].weights.items()}
        family.free_sizes(student)
        module = student.components["transformer"].module
        assert {"cos", "sin"} <= set(module.state_dict())
        assert not [key for key in module.state_dict() if key.startswith("places.")]
        assert before == {key: handle.shape for key, handle in student.components["transformer"].weights.items()}
        assert open_torch(student)([PROMPT], seed=1).std() > 10
