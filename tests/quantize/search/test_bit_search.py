"""A bit search keeps its budget, beats one precision for all, goes on where it stopped, and says what it cannot do."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sprint_export.devices import find_device
from sprint_export.errors import InputError
from sprint_export.nouns.order import Deployment
from sprint_export.nouns.recipe import QuantizedLayer, Recipe, Rule
from sprint_export.nouns.student import Student
from sprint_export.progress import Step
from sprint_export.quantize.patterns import FLOAT
from sprint_export.quantize.recipes import default_recipe
from sprint_export.quantize.schemes.scheme import load_scheme
from sprint_export.quantize.search import objectives
from sprint_export.quantize.search import pictures as search_pictures
from sprint_export.quantize.search.knapsack import Knapsack
from sprint_export.quantize.search.objectives import search_bits
from sprint_export.quantize.search.pictures import KeptErrors, Pictures
from sprint_export.quantize.search.search import SearchResult, error_to_db
from sprint_export.quantize.search.units import gather_layers, kind_of
from sprint_export.quantize.student import quantize_student
from sprint_export.quantize.torch_session import round_layer
from sprint_export.quantize.weight_bytes import count_layer_bytes, count_student_bytes
from sprint_export.recipe_toml import read_recipe, write_recipe
from sprint_export.registry import load_target
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.students.sana_sprint.presets import tiny
from sprint_export.weights import LazyHandle

COREML, CPU = load_target("coreml"), find_device("cpu")
PROMPTS = ("a red circle above a blue square", "a green square")
CHOICES = ("p4a16", "w8a16")


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPRINT_EXPORT_CACHE", str(tmp_path_factory.mktemp("bits")))
        yield


@pytest.fixture(scope="module")
def student() -> Student:
    return specialize_student(tiny())


def uniform(student: Student, choice: str) -> dict[str, QuantizedLayer]:
    return round_layers(student, Recipe("uniform", (Rule("*", choice),)))


def round_layers(student: Student, recipe: Recipe) -> dict[str, QuantizedLayer]:
    return gather_layers(quantize_student(student, "w4", COREML, recipe))


def search(student: Student, budget: int, **more: Any) -> SearchResult:
    asked = {"choices": CHOICES, "prompts": PROMPTS} | more
    return search_bits(student, Deployment(COREML, "w4", CPU), budget, **asked)


def errors_of(found: SearchResult) -> tuple[float, float]:
    """The sum of the layers' errors, each measured alone, and the error of the whole."""
    return sum(unit.errors[unit.precision] for unit in found.units), 4 * 10 ** (-found.frontier.chosen.psnr_db / 10)


def costs_of(found: SearchResult) -> dict[str, float]:
    return {point.name: point.cost for point in found.frontier.uniform}


def count_packed(weight: torch.Tensor, how: QuantizedLayer) -> int:
    """Bytes of what a file stores of a weight, half-precision scales or tables included."""
    scheme = load_scheme(how.scheme)
    packed = scheme.pack(weight, how)
    stored = packed.pop("stored")
    return -(-stored.numel() * scheme.weights.bits // 8) + 2 * sum(value.numel() for value in packed.values())


def stored_bytes(student: Student, layers: Mapping[str, QuantizedLayer]) -> int:
    """What the exporter would store, counted in the arrays it writes."""
    total = 0
    for role, component in student.components.items():
        for name, handle in component.weights.items():
            how = layers.get(f"{role}.{name.removesuffix('.weight')}") if name.endswith(".weight") else None
            values = handle.load()
            if how is None:
                total += 2 * values.numel()
            else:
                total += count_packed(values, how)
    return total


@pytest.mark.parametrize("shape", [(32, 64), (64, 32, 3, 3)])
@pytest.mark.parametrize(
    "how",
    [
        QuantizedLayer("p4a16", None, 0, "fp16", 16),
        QuantizedLayer("p4a16", None, 0, "fp16"),
        QuantizedLayer("w8a16", None, 0, "fp16"),
        QuantizedLayer("w8a16", None, None, "fp16"),
        QuantizedLayer("w4a16", None, 0, "fp16", 32),
    ],
)
def test_bytes_are_those_of_the_arrays(shape: tuple[int, ...], how: QuantizedLayer) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert count_layer_bytes(shape, how) == count_packed(weight, how)
    assert count_layer_bytes(shape, None) == 2 * weight.numel()


@pytest.mark.parametrize("seed", range(4))
def test_the_knapsack_is_exact(seed: int) -> None:
    rng = np.random.default_rng(seed)
    units = [[(int(size), float(error)) for size, error in zip(*rng.random((2, 3)) * 100, strict=True)] for _ in range(5)]
    sack = Knapsack(units)
    every = [tuple(map(sum, zip(*mix, strict=True))) for mix in itertools.product(*units)]
    assert sack.smallest == min(size for size, _ in every)
    for budget in range(sack.smallest, sack.largest + 20, 7):
        picks = sack.choose(budget)
        size, error = (sum(unit[pick][i] for unit, pick in zip(units, picks, strict=True)) for i in (0, 1))
        assert size <= budget
        assert error == pytest.approx(min(e for s, e in every if s <= budget))
        assert error == pytest.approx(sack.least[min(budget - sack.smallest, len(sack.least) - 1)])


def test_budgets_are_kept_and_more_bytes_never_draw_worse(student: Student) -> None:
    low, high = (count_student_bytes(student, uniform(student, choice)) for choice in CHOICES)
    full = count_student_bytes(student, {})
    assert low == stored_bytes(student, uniform(student, "p4a16"))
    decibels = []
    for budget in (low, low + (high - low) // 3, high, high + (full - high) // 2, full - 100, full, 10 * full):
        found = search(student, budget)
        layers = round_layers(student, found.recipe)
        assert found.frontier.chosen.cost == stored_bytes(student, layers) <= budget
        assert {layer: how.scheme for layer, how in layers.items()} == {
            layer: unit.precision for unit in found.units for layer in unit.layers if unit.precision != FLOAT
        }, "the recipe says what was chosen"
        assert set(CHOICES) == set(costs_of(found))
        assert all(rule.reason for rule in found.recipe.rules)
        assert found.recipe.prompts == PROMPTS
        decibels.append(found.frontier.chosen.psnr_db)
    assert decibels == sorted(decibels)
    assert decibels[0] + 10 < decibels[2] < 100
    assert decibels[-1] == decibels[-2] == 100
    assert search(student, full).recipe.rules[0].precision == FLOAT, "float everywhere: one rule"


def test_a_mix_never_draws_worse_than_a_uniform_precision_that_fits(student: Student) -> None:
    found = search(student, count_student_bytes(student, uniform(student, "w8a16")), choices=("w4", "w6", "int8"))
    assert all(found.frontier.chosen.psnr_db >= point.psnr_db for point in found.frontier.uniform)
    sizes, decibels = zip(*found.frontier.predicted, strict=True)
    assert list(sizes) == sorted(set(sizes))
    assert list(decibels) == sorted(decibels)
    assert decibels[-1] == pytest.approx(100)
    assert sizes[0] == costs_of(found)["p4a16"]
    assert sizes[-1] == pytest.approx(count_student_bytes(student, {}), rel=1e-3)


def test_a_mix_beats_the_default_of_its_size_on_other_prompts() -> None:
    student = specialize_student(load_student("sprint-tiny"))
    layers = round_layers(student, default_recipe("w4", student, COREML))
    size = count_student_bytes(student, layers)
    found = search(student, size, choices=("w4", "w6"), prompts=student.calibration_prompts[:2])
    pictures = Pictures(student, student.validation_prompts[:4], 7)
    searched = pictures.measure_error(round_layers(student, found.recipe))
    even = pictures.measure_error(layers)
    assert found.frontier.chosen.cost <= size
    assert searched < 0.75 * even, f"picture error {searched:.2e}, uniform {even:.2e}"
    summed, measured = errors_of(found)
    assert measured < 3 * summed, "the layers' errors add on a trained student, roughly with 2 prompts"


def test_a_killed_search_goes_on(student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPRINT_EXPORT_CACHE", str(tmp_path))
    rounded: list[QuantizedLayer] = []

    def count_rounding(module: torch.nn.Module, how: QuantizedLayer) -> Any:
        rounded.append(how)
        return round_layer(module, how)

    monkeypatch.setattr(search_pictures, "round_layer", count_rounding)
    budget = count_student_bytes(student, uniform(student, "w8a16"))
    killed_at = 11

    def kill(step: Step, done: int, total: int) -> None:
        if done == killed_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(student, budget, progress=kill)
    assert len(rounded) == killed_at
    told: list[tuple[Step, int, int]] = []
    counts: list[int] = []

    def note(*event: Any) -> None:
        told.append(event)
        counts.append(len(rounded))

    found = search(student, budget, progress=note)
    total = 2 * len(found.units)
    at_mixes = next(i for i, (step, _, _) in enumerate(told) if step == Step("measuring mixes"))
    assert counts[at_mixes] == total, "every layer in every precision, once over both runs"
    assert told[at_mixes - 1] == (Step("measuring layers"), total, total)
    assert told[-1] == (Step("measuring mixes"), 3, 3)
    done = len(rounded)
    monkeypatch.setattr(search_pictures, "Pictures", None)
    assert search(student, budget) == found
    assert len(rounded) == done, "nothing was drawn"
    assert len(list((tmp_path / "search").iterdir())) == 1, "one file, nothing half-written beside it"


def test_it_is_deterministic_and_a_damaged_cache_is_replaced(
    student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = count_student_bytes(student, uniform(student, "p4a16")) + 20_000
    first = search(student, budget, prompts=PROMPTS[:1], choices=["w4"])
    monkeypatch.setenv("SPRINT_EXPORT_CACHE", str(tmp_path))
    second = search(student, budget, prompts=PROMPTS[:1], choices=["w4", "w4"])
    assert second == first
    path = KeptErrors(student, PROMPTS[:1], 1).path
    path.write_text(path.read_text()[:100])
    assert search(student, budget, prompts=PROMPTS[:1], choices=["w4"]) == first
    assert path.stat().st_size > 100


@pytest.mark.parametrize("what", ["seed", "prompts", "weights", "plan"])
def test_another_question_has_another_file(student: Student, what: str) -> None:
    changed = {
        "weights": dataclasses.replace(student, fingerprint="other"),
        "plan": specialize_student(tiny(), 2),
    }.get(what, student)
    one = KeptErrors(student, PROMPTS, 1)
    other = KeptErrors(changed, PROMPTS[:1] if what == "prompts" else PROMPTS, 2 if what == "seed" else 1)
    assert one.path != other.path


def test_only_what_a_layer_reaches_is_drawn_again(student: Student) -> None:
    pictures = Pictures(student, PROMPTS, 1)
    ran: list[str] = []

    def watch(role: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def watched(feeds: Any) -> Any:
            ran.append(role)
            return run(feeds)

        return watched

    for role, session in pictures._sessions.items():
        session.run = watch(role, session.run)  # type: ignore[method-assign]  # counts
    layers = uniform(student, "p4a16")
    for i, role in enumerate(student.components):
        ran.clear()
        name = next(name for name in layers if name.startswith(role))
        assert pictures.measure_error({name: layers[name]}) > 0
        assert ran == [later for later in list(student.components)[i:] for _ in PROMPTS]
    assert pictures.measure_error({}) == 0
    first = pictures.measure_error(layers)
    assert pictures.measure_error(layers) == first, "the weights came back as they were"


def test_a_student_of_several_steps_is_searched_too(made: Student) -> None:
    student = specialize_student(made, 2)
    found = search(student, count_student_bytes(student, uniform(student, "w8a16")), prompts=PROMPTS[:1])
    assert 100 > found.frontier.chosen.psnr_db > next(p.psnr_db for p in found.frontier.uniform if p.name == "p4a16")


def test_layers_of_a_kind_go_together_where_there_are_too_many(student: Student) -> None:
    layers = uniform(student, "p4a16")
    kinds = {kind_of(layer) for layer in layers}
    assert len(kinds) < len(layers)
    budget = count_student_bytes(student, layers) + 40_000
    found = search(student, budget, max_measurements=2 * len(kinds))
    assert {unit.name for unit in found.units} == kinds
    assert {layer for unit in found.units for layer in unit.layers} == set(layers)
    assert found.frontier.notes[0].startswith(f"{len(layers)} layers were measured as {len(kinds)} kinds")
    assert f"{2 * len(layers)} measurements are more than {2 * len(kinds)}" in found.frontier.notes[0]
    rounded = round_layers(student, found.recipe)
    assert found.frontier.chosen.cost == stored_bytes(student, rounded) <= budget
    for unit in found.units:
        assert {rounded[layer].scheme if layer in rounded else FLOAT for layer in unit.layers} == {unit.precision}
    with pytest.raises(InputError, match=rf"max_measurements=9: even .* {len(kinds)} kinds in 2 precisions are {2 * len(kinds)}"):
        search(student, budget, max_measurements=9)


def test_a_whole_that_is_not_the_sum_is_reported(student: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objectives, "MAX_DEPARTURE", 1.0)
    found = search(student, count_student_bytes(student, uniform(student, "p4a16")))
    summed, measured = errors_of(found)
    assert measured != pytest.approx(summed, rel=1e-6)
    assert f"sum to {summed:.2e} and the whole measures {measured:.2e}" in found.frontier.notes[-1]


def test_psnr_is_of_the_range_from_minus_one_to_one() -> None:
    assert error_to_db(0.04) == pytest.approx(20)
    assert error_to_db(0.0) == 100


def test_a_budget_below_the_smallest_says_the_smallest(student: Student) -> None:
    smallest = count_student_bytes(student, uniform(student, "p4a16"))
    with pytest.raises(InputError) as caught:
        search(student, smallest - 1)
    for part in (f"{smallest - 1:,} bytes is too small", f"is {smallest:,};", "p4a16, w8a16", "'tiny'", "coreml"):
        assert part in str(caught.value)


@pytest.mark.parametrize("choice", ["int7", "w8a8", "fp8", "float"])
def test_an_unknown_choice_lists_them(student: Student, choice: str) -> None:
    with pytest.raises(
        InputError, match=rf"for coreml: '{choice}'; choose from: .*int4, int8, .*w4, w4a16, w6.*leaves activations alone"
    ):
        search(student, 10**9, choices=["w4", choice])


def test_what_is_offered_by_default_is_what_the_target_has(student: Student) -> None:
    assert set(costs_of(search(student, 10**9, prompts=PROMPTS[:1], choices=None))) == {"p4a16", "p6a16", "w8a16"}
    with pytest.raises(InputError, match=r"for onnx and got none; choose from: fp8a16, w8a16, w4a16, int4"):
        search_bits(student, Deployment(load_target("onnx"), "int8", CPU), 10**9)


def test_no_choice_and_no_prompts(student: Student) -> None:
    with pytest.raises(InputError, match="for coreml and got none; choose from: int8, w6, w4, int4"):
        search(student, 10**9, choices=[])
    with pytest.raises(InputError, match="got no prompts; give --prompts FILE"):
        search(student, 10**9, prompts=[])


def test_a_student_that_cannot_draw_is_refused(student: Student) -> None:
    part = dataclasses.replace(student, components={"vae_decoder": student.components["vae_decoder"]})
    with pytest.raises(InputError, match="needs text_encoder, transformer too; this student has vae_decoder"):
        search(part, 10**9)
    with pytest.raises(InputError, match=r"call specialize_student\(student\) first"):
        search(tiny(), 10**9)


def test_damaged_weights_are_refused(student: Student) -> None:
    component = student.components["vae_decoder"]
    name = "decoder.conv_in.weight"
    shape = component.weights[name].shape
    broken = {**component.weights, name: LazyHandle(shape, torch.float32, lambda: torch.full(shape, float("nan")))}
    components = {**student.components, "vae_decoder": dataclasses.replace(component, weights=broken)}
    with pytest.raises(InputError, match="student 'tiny' draws NaN or infinite values in float32"):
        Pictures(dataclasses.replace(student, components=components), PROMPTS, 1)


RECIPES = [
    Recipe("plain", (Rule("*", "w4"),), (), 0),
    Recipe('a "name"', (Rule("a.*.b", "float", 'say "no" \\ or\ttab'), Rule("*", "int8", "")), ("ünï 🙂", "two\nlines\x7f"), 3),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=["plain", "odd texts"])
def test_a_written_recipe_reads_as_the_same(tmp_path: Path, recipe: Recipe) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(write_recipe(recipe), "utf-8")
    assert read_recipe(path) == recipe


def test_a_found_recipe_is_a_file_too(student: Student, tmp_path: Path) -> None:
    found = search(student, count_student_bytes(student, uniform(student, "w8a16")))
    assert len(found.recipe.rules) > 5
    path = tmp_path / "recipe.toml"
    path.write_text(write_recipe(found.recipe), "utf-8")
    assert read_recipe(path) == found.recipe
