"""Every place the family lists is exact: whatever its channels are scaled by, the network computes the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from sprint_export.nouns.student import CHANNELS_FIRST, CHANNELS_LAST, Component, Migration, Student
from sprint_export.quantize.mend.edits import scale_channels
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.specialize import specialize_student
from sprint_export.students.sana_sprint.smooth import list_migrations
from sprint_export.weights import Handle, LazyHandle, materialize
from tests.export.to_onnx.graphs import make_feeds
from tests.tree import ROLES

STUDENTS = pytest.mark.parametrize("name", ["tiny", "made", "made, channels first"])
LAYERS = {  # of the made student: 2 text layers, 3 blocks, 1 EfficientViT block
    "text_encoder": 2 * 4,
    "transformer": 1 + 3 * 3,
    "vae_decoder": 1,
}


@pytest.fixture(scope="module")
def specialized(made: Student, tiny_student: Student) -> Callable[[str], Student]:
    def specialize(name: str) -> Student:
        layout = CHANNELS_FIRST if "first" in name else CHANNELS_LAST
        return specialize_student(tiny_student if name == "tiny" else made, layout=layout)

    return specialize


def random_factors(component: Component, migration: Migration, random: torch.Generator, exact: bool) -> torch.Tensor:
    size = component.weights[migration.producers[0]].shape[0]
    used = torch.tensor(migration.channels) if migration.channels else torch.arange(size)
    octaves = torch.randn(size, generator=random, dtype=torch.float64) * 2
    octaves = octaves.round() if exact else octaves
    factors = torch.ones(size, dtype=torch.float64)
    factors[used] = octaves[used].exp2()
    return factors


@STUDENTS
@pytest.mark.parametrize("role", ROLES)
def test_powers_of_two_change_no_bit(specialized: Callable[[str], Student], name: str, role: str) -> None:
    student, random = specialized(name), torch.Generator().manual_seed(0)
    component, feeds = student.components[role], make_feeds(student)[role]
    (wanted,) = TorchSession(component).run(feeds).values()
    migrations = list_migrations(student, role)
    for migration in migrations:
        component = scale_channels(component, migration, random_factors(component, migration, random, exact=True))
    (found,) = TorchSession(component).run(feeds).values()
    assert np.array_equal(found, wanted)
    if name != "tiny":
        assert len(migrations) == LAYERS[role]


@pytest.mark.parametrize("role", ROLES)
def test_any_factors_change_nothing_in_float64(specialized: Callable[[str], Student], role: str) -> None:
    """What the consumers write, in float64: 1e-11 of its largest value, where a wrong pair is off by 1."""
    student, random = specialized("made"), torch.Generator().manual_seed(0)
    component = student.components[role]
    component = dataclasses.replace(component, weights={k: widen(v) for k, v in component.weights.items()})
    for migration in list_migrations(student, role):
        changed = scale_channels(component, migration, random_factors(component, migration, random, exact=False))
        outputs = [run_wide(c, make_feeds(student)[role], migration.consumers) for c in (component, changed)]
        deviation = max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(*outputs, strict=True))
        print(f"{migration.consumers[0]}: {deviation:.1e}, at most 1e-11")
        assert deviation <= 1e-11
        assert any(not torch.equal(a, b) for a, b in zip(*outputs, strict=True)), "nothing was scaled"


def widen(handle: Handle) -> Handle:
    return (
        handle if not handle.dtype.is_floating_point else LazyHandle(handle.shape, torch.float64, lambda: handle.load().double())
    )


def run_wide(component: Component, feeds: dict[str, np.ndarray], layers: tuple[str, ...]) -> list[torch.Tensor]:
    """What these layers write when the network runs in float64."""
    module, seen = materialize(component.module, component.weights, torch.float64), []
    for layer in layers:
        module.get_submodule(layer).register_forward_hook(lambda _, __, output: seen.append(output))
    arguments = [torch.from_numpy(feeds[spec.name]) for spec in component.inputs]
    with torch.no_grad():
        module(*(x.double() if x.is_floating_point() else x for x in arguments))
    return seen


@pytest.mark.parametrize("role", ROLES)
def test_consumers_are_layers_and_read_what_the_producers_write(specialized: Callable[[str], Student], role: str) -> None:
    student = specialized("made")
    component = student.components[role]
    for migration in list_migrations(student, role):
        sizes = {component.weights[name].shape[0] for name in migration.producers}
        assert len(sizes) == 1
        for layer in migration.consumers:
            module = component.module.get_submodule(layer)
            assert isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
            assert module.weight.shape[1] == (len(migration.channels) or sizes.copy().pop())
