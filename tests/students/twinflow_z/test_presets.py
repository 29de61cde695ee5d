"""The full-size preset: parameters counted on meta, what folding deletes, specs; the tiny twin's places to smooth."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sprint_export.errors import InputError
from sprint_export.noise import make_noise
from sprint_export.nouns.student import Component, Migration, Student
from sprint_export.prompt_reader import PromptReader
from sprint_export.quantize.mend.edits import scale_channels
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.specialize import specialize_student
from sprint_export.students import list_students, load_student
from sprint_export.students.twinflow_z.presets import load_preset, tiny
from sprint_export.students.twinflow_z.smooth import list_migrations
from sprint_export.weights import check_fit

SMOOTH = 0.5e-5


def count(component: Component, *names: str) -> int:
    """Parameters whose names begin so; of all without names."""
    return sum(math.prod(h.shape) for name, h in component.weights.items() if name.startswith(names or ("",)))


@pytest.fixture(scope="module")
def full() -> Student:
    return load_student("random:twinflow-z-image-turbo")


def test_it_has_the_published_parameters(full: Student) -> None:
    transformer, text, vae = (full.components[role] for role in ("transformer", "text_encoder", "vae_decoder"))
    assert count(transformer) == 6_154_908_736 + 525_568
    assert count(transformer, "t_embedder_2.") == 525_568
    assert count(text) == 4_022_468_096
    assert count(vae) == 83_819_683
    assert full.latent_shape == (16, 128, 128)
    assert full.prompt.tokens == 1024
    assert list_students()["random:twinflow-z-image-turbo"] == "TwinFlow-Z-Image-Turbo 6.2B, 1024 px, random weights"
    assert "inclusionAI/TwinFlow-Z-Image-Turbo/TwinFlow-Z-Image-Turbo-exp" in list_students()


@pytest.mark.parametrize("steps", [1, 4])
def test_folding_deletes_the_time_path_and_nothing_else(full: Student, steps: int) -> None:
    """The time path, 128,358,656 parameters, becomes gains that are there anyway, or a table of 495,360 values a step."""
    specialized = specialize_student(full, steps)
    text, transformer, decoder = (specialized.components[role] for role in ("text_encoder", "transformer", "vae_decoder"))
    for network in (text, transformer, decoder):
        check_fit(network.module, network.weights, network.role)
    stock = full.components["transformer"]
    moved = count(stock, "context_refiner.", "cap_embedder.", "cap_pad_token")
    tables = ("cos", "sin", "frame_", "text_", "times", "gains")
    kept = count(transformer) - count(transformer, *tables)
    norms = 4 * 32 * 3840 if steps > 1 else 0  # gains are in the table then
    assert count(stock) - moved - kept - 3840 - norms == 128_358_656  # 3,840: no token of the picture is padded at 1024 px
    assert moved == pytest.approx(363.8e6, rel=1e-3)
    assert count(text, "refiner.") - count(text, "refiner.cos", "refiner.sin") == moved
    assert [(spec.name, spec.shape) for spec in text.inputs] == [("input_ids", (1, 1021)), ("prompt_mask", (1, 1021))]
    assert text.outputs[0].shape == (1, 1024, 3840)
    assert decoder.outputs[0].shape == (1, 3, 1024, 1024)
    if steps > 1:
        assert transformer.weights["gains"].shape == (4, 4 * 32 + 1, 3840)
        assert 4 * 32 * 3840 + 3840 == 495_360
    assert not any("layers.35." in name for name in text.weights), "the text encoder's last layer is not read"


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(InputError, match="unknown random preset 'large'; choose from: twinflow-z-image-turbo"):
        load_preset("large")


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("role", ["text_encoder", "transformer"])
def test_places_to_smooth_change_nothing(role: str, steps: int) -> None:
    student, random = specialize_student(tiny(), steps), torch.Generator().manual_seed(0)
    component, feeds = student.components[role], _make_feeds(student)
    (wanted,) = TorchSession(component).run(feeds).values()
    migrations = list_migrations(student, role)
    for migration in migrations:
        component = scale_channels(component, migration, _draw_factors(component, migration, random))
    (found,) = TorchSession(component).run(feeds).values()
    assert abs(found - wanted).max() <= SMOOTH * abs(wanted).max()
    expected = {"text_encoder": 2 * 4 + 1 + 4, "transformer": 3 * (4 if steps == 1 else 2)}
    assert len(migrations) == expected[role]


def _make_feeds(student: Student) -> dict[str, np.ndarray]:
    """Values of all names."""
    ids, mask = PromptReader(student.prompt, student.tokenizer / "tokenizer.json").read(["a red circle above a blue square"])
    known: dict[str, np.ndarray] = {"input_ids": ids, "prompt_mask": mask, "step": np.array([1])}
    known["latents"] = make_noise(0, 1, 1, student.latent_shape)[0]
    return known | TorchSession(student.components["text_encoder"]).run(known)


def _draw_factors(component: Component, migration: Migration, random: torch.Generator) -> torch.Tensor:
    size = component.weights[migration.producers[0]].shape[0]
    used = torch.tensor(migration.channels or range(size))
    factors = torch.ones(size, dtype=torch.float64)
    factors[used] = (torch.randn(size, generator=random, dtype=torch.float64) * 2).round().exp2()[used]
    return factors
