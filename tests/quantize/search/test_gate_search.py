"""A search for a gate meets it, for less than presets do, goes on where it stopped, and says what it cannot do."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sprint_export.devices import find_device
from sprint_export.errors import InputError, RefusedError
from sprint_export.noise import make_calibration_noise
from sprint_export.nouns.order import Deployment
from sprint_export.nouns.recipe import Recipe, Rule
from sprint_export.nouns.student import Student
from sprint_export.nouns.target import Target
from sprint_export.progress import Step
from sprint_export.psnr import psnr_images
from sprint_export.quantize.patterns import FLOAT
from sprint_export.quantize.recipes import default_recipe
from sprint_export.quantize.search.costs import Prices
from sprint_export.quantize.search.objectives import offer_choices, search_recipe
from sprint_export.quantize.search.pictures import KeptErrors, KeptPsnr, Pictures
from sprint_export.quantize.search.search import SearchResult
from sprint_export.quantize.search.units import gather_layers
from sprint_export.quantize.student import quantize_student
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.registry import load_target
from sprint_export.session import open_student
from sprint_export.specialize import specialize_student
from sprint_export.students.sana_sprint.presets import tiny
from sprint_export.thread_count import fixed_threads

ONNX, TRT, COREML = (load_target(name) for name in ("onnx", "trt", "coreml"))
PROMPTS = ("a red circle above a blue square", "a green square")
CPU, RTX = find_device("cpu"), find_device("rtx-4090")


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPRINT_EXPORT_CACHE", str(tmp_path_factory.mktemp("search")))
        yield


@pytest.fixture(scope="module")
def student() -> Student:
    return dataclasses.replace(specialize_student(tiny()), calibration_prompts=PROMPTS)


def search(student: Student, gate: float, **more: Any) -> SearchResult:
    return search_recipe(student, Deployment(ONNX, "int8", CPU), gate, **more)


@fixed_threads()  # as the search: the last digits of sums move values over INT8's steps
def draw(student: Student, fake: bool) -> Any:
    """Pictures as validation draws them, by other code than the search's."""
    sessions = {role: TorchSession(component, fake) for role, component in student.components.items()}
    return open_student(student, sessions)(PROMPTS, seed=1)


def test_the_recipe_is_what_was_measured_and_meets_the_gate(student: Student) -> None:
    uniform = {point.name: point for point in search(student, 10).frontier.uniform}
    costs = []
    for gate in (uniform["fast"].psnr_db - 3, uniform["fast"].psnr_db + 3, uniform["fast"].psnr_db + 8):
        found = search(student, gate)
        chosen = found.frontier.chosen
        quantized = quantize_student(student, "int8", ONNX, found.recipe)
        psnr = psnr_images(draw(quantized, True), draw(student, False))
        assert chosen.psnr_db == pytest.approx(psnr.mean())
        assert chosen.error_db == pytest.approx(psnr.std(ddof=1) / np.sqrt(2))
        assert psnr.mean() - chosen.error_db >= gate
        layers = gather_layers(quantized)
        assert chosen.cost == Prices(student, "bytes", CPU, "fp32").total(layers)
        assert found.frontier.layers["w8a8"] == len(layers)
        assert found.recipe.name == f"auto-psnr_db>={gate:g}"
        assert all(rule.reason for rule in found.recipe.rules)
        assert found.recipe.prompts == default_recipe("int8", student, ONNX).prompts
        costs.append(chosen.cost)
    assert costs == sorted(costs), "more decibels cost no less"
    assert costs[0] == uniform["fast"].cost, "what is met by all layers is met by all layers"
    assert costs[-1] < uniform["float"].cost


def test_the_frontier_rises_and_ends_with_float(student: Student) -> None:
    frontier = search(student, 10).frontier
    costs, decibels = zip(*frontier.predicted, strict=True)
    assert list(costs) == sorted(costs)
    assert list(decibels) == sorted(decibels)
    uniform = {point.name: point for point in frontier.uniform}
    assert set(uniform) == {"float", "fast", "balanced", "faithful"}
    assert decibels[-1] == pytest.approx(uniform["float"].psnr_db)
    assert costs[0] == pytest.approx(uniform["fast"].cost, rel=1e-3)


def test_a_gate_that_nothing_meets_names_the_best(student: Student) -> None:
    with pytest.raises(RefusedError, match=r"no mix .* psnr_db>=101 .* best measured is 'float' with 100\.0 \+- 0\.0 dB on 2"):
        search(student, 101)


@pytest.mark.parametrize(
    ("target", "precision", "device", "choices"),
    [
        (ONNX, "int8", CPU, ("w8a8",)),
        (TRT, "fp8", RTX, ("fp8", "w8a8")),
        (TRT, "int8", RTX, ("w8a8", "fp8")),
        (TRT, "int8", find_device("rtx-3090"), ("w8a8",)),
        (COREML, "w4", find_device("iphone-15-pro"), ("p4a16", "p6a16", "w8a16")),
        (COREML, "w8a8", find_device("iphone-15-pro"), ("w8a8",)),
    ],
    ids=lambda value: getattr(value, "name", None) or str(value),
)
def test_schemes_that_may_stand_beside_the_one_asked_for_are_offered(
    target: Target, precision: str, device: Any, choices: tuple[str, ...]
) -> None:
    assert offer_choices(target, precision, device) == choices


def test_two_precisions_priced_in_time(student: Student) -> None:
    found = search_recipe(student, Deployment(TRT, "fp8", RTX), 10)
    assert found.frontier.unit == "ms"
    assert {point.name for point in found.frontier.uniform} >= {"fast", "w8a8 everywhere"}
    assert set(found.units[0].errors) == {FLOAT, "fp8", "w8a8"}
    assert 0 < found.frontier.chosen.cost < 1
    assert found.frontier.chosen.cost <= min(point.cost for point in found.frontier.uniform)
    quantize_student(student, "fp8", TRT, found.recipe)


def test_weights_alone_are_searched_for_a_gate_too(student: Student) -> None:
    found = search_recipe(student, Deployment(COREML, "w4", find_device("iphone-15-pro")), 10)
    assert set(found.units[0].errors) == {FLOAT, "p4a16", "p6a16", "w8a16"}
    assert found.frontier.chosen.cost <= {p.name: p.cost for p in found.frontier.uniform}["w8a16 everywhere"]


def test_inputs_are_rounded_as_the_graph_rounds_them(student: Student) -> None:
    """The error of a layer rounded alone is that of pictures that fake quantization draws."""
    layers = gather_layers(quantize_student(student, "int8", ONNX))
    layer = next(name for name in layers if name.startswith("vae_decoder"))
    compressed = {layer: dataclasses.replace(layers[layer], input_amax=None)}
    pictures = Pictures(student, PROMPTS, 1)
    both = pictures.measure_error({layer: layers[layer]})
    assert both > pictures.measure_error(compressed) > 0
    assert pictures.measure_error({}) == 0, "no hook stays"
    recipe = Recipe("one", (Rule(layer, "int8"), Rule("*", FLOAT)), PROMPTS, 1)
    alone = quantize_student(student, "int8", ONNX, recipe)
    sessions = {role: TorchSession(component, fake=True) for role, component in alone.components.items()}
    assert student.plan is not None
    noise = make_calibration_noise(1, student.plan.steps, len(PROMPTS), student.latent_shape)
    sides = [open_student(student, each).draw(PROMPTS, noise=noise) for each in (sessions, pictures._sessions)]
    pairs = [[table["image"].clip(-1, 1) for table in tables] for tables in sides]
    wanted = np.mean([np.square(a - b).mean() for a, b in zip(*pairs, strict=True)])
    again = pictures.measure_error(gather_layers(alone))
    assert again == pytest.approx(wanted, rel=1e-6)


def test_a_killed_search_goes_on(student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPRINT_EXPORT_CACHE", str(tmp_path))
    counts = {"units": 0, "wholes": 0}
    measure_error, draw_whole = Pictures.measure_error, KeptPsnr._draw

    def count_unit(self: Pictures, layers: Any) -> float:
        counts["units"] += 1
        return measure_error(self, layers)

    def count_whole(self: KeptPsnr, *arguments: Any, **named: Any) -> Any:
        counts["wholes"] += 1
        return draw_whole(self, *arguments, **named)

    monkeypatch.setattr(Pictures, "measure_error", count_unit)
    monkeypatch.setattr(KeptPsnr, "_draw", count_whole)

    def kill_at(stage: str, at: int) -> Any:
        def kill(step: Step, done: int, total: int) -> None:
            if (step.stage, done) == (stage, at):
                raise KeyboardInterrupt

        return kill

    for stage, at in (("measuring layers", 5), ("measuring presets", 2), ("measuring mixes", 1)):
        with pytest.raises(KeyboardInterrupt):
            search(student, 40, progress=kill_at(stage, at))
    units = counts["units"]
    told: list[tuple[Step, int, int]] = []
    found = search(student, 40, progress=lambda *event: told.append(event))
    assert counts["units"] == units == len(found.units), "every layer once over all runs"
    assert {step.stage for step, _, _ in told} >= {"measuring layers", "measuring presets", "measuring mixes"}
    assert told[-1][1] == told[-1][2]
    before = dict(counts)
    assert search(student, 40) == found
    assert counts == before, "nothing was drawn"
    files = list((tmp_path / "search").iterdir())
    assert set(files) == {kind(student, PROMPTS, 1).path for kind in (KeptErrors, KeptPsnr)}, "nothing half-written"


def test_a_searched_preset_or_mix_is_the_cheapest_that_meets(student: Student) -> None:
    frontier = search(student, 40).frontier
    for point in (*frontier.uniform, *frontier.mixes):
        if point.psnr_db - point.error_db >= 40 and point.error_db >= 0.2:
            assert frontier.chosen.cost <= point.cost


def test_what_cannot_be_searched_is_said(student: Student) -> None:
    part = dataclasses.replace(student, components={"vae_decoder": student.components["vae_decoder"]})
    with pytest.raises(InputError, match="needs text_encoder, transformer too; this student has vae_decoder"):
        search(part, 30)
    with pytest.raises(InputError, match=r"call specialize_student\(student\) first"):
        search(tiny(), 30)
    with pytest.raises(InputError, match="got no prompts; give --prompts FILE"):
        search(student, 30, prompts=[])
    with pytest.raises(InputError, match="max_measurements=3: even with layers of a kind"):
        search(student, 30, max_measurements=3)


def test_prompts_that_validation_draws_too_are_said(student: Student) -> None:
    shared = dataclasses.replace(student, validation_prompts=PROMPTS[1:])
    assert "1 of the search's 2 prompts are validation prompts too" in search(shared, 30).frontier.notes[-1]
    apart = dataclasses.replace(student, validation_prompts=("other",))
    assert not any("validation" in note for note in search(apart, 30).frontier.notes)


def test_layers_of_a_kind_go_together_where_there_are_too_many(student: Student) -> None:
    few = search(student, 30, max_measurements=40)
    assert len(few.units) <= 40 < len(search(student, 30).units)
    assert any("kinds" in note for note in few.frontier.notes)
