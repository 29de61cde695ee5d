"""Formulas: with rates that are whole numbers, seconds are too."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sprint_export.estimates import stages
from sprint_export.estimates.counting import Count
from sprint_export.estimates.machine import Machine, Rates
from sprint_export.estimates.stages import Job, Network, estimate_job
from sprint_export.progress import Step

HOST = Rates(matmul=10.0, linear=10.0, conv=20.0, memory=4.0, cache=8.0, operator=1.0)
DEVICE = Rates(matmul=100.0, linear=100.0, conv=200.0, memory=40.0, cache=80.0, operator=1.0)  # ten times as fast
MACHINE = Machine(HOST, DEVICE, disk=5.0)
COUNT = Count(matmul=100, conv=40, moved=12, cached=16, live=7, operators=2, heard=6, channels=3, values=9, largest=8)
FORWARD = 100 / 10 + 40 / 20 + 12 / 4 + 16 / 8


@pytest.fixture(autouse=True)
def plain_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pass is one, calls cost nothing but where a test says so."""
    for name in (
        "LOADING",
        "HEARING",
        "SMOOTHING",
        "CHOOSING",
        "ROUNDING",
        "COMPARING",
        "WRITING",
        "PRICING",
        "OPENING",
        "RUNTIME",
    ):
        monkeypatch.setattr(stages, name, 1)
    for name in ("CALL", "EXPORT", "CAPTURE", "REWRITE", "OPEN", "BUILD", "RANGE"):
        monkeypatch.setattr(stages, name, 0)
    monkeypatch.setattr(stages, "CHECKING_BYTES_S", 1.0)
    monkeypatch.setattr(stages, "BUILDING_BYTES_S", 1.0)


def by_stage(job: Job) -> dict[str, float]:
    return {str(each.step): each.seconds for each in estimate_job(job, MACHINE)}


def test_seconds_are_work_over_rates() -> None:
    network = Network(COUNT, runs=2, steps=1, rows=2, smoothed=10, layers=5, graph=50)
    job = Job({"a": network}, prompts=3, pictures=4, drawn=1, samples=2, is_rounded=True, built_for="rtx-4090")
    reading = 2 * 9 * 4 / 4  # all weights as float32, read and written
    drawing, watching = FORWARD / 10, 2 * 6 / 40  # on the device
    assert by_stage(job) == pytest.approx(
        {
            "calibrating: a": 2 * (3 * (drawing + watching) + 2 * reading),
            "smoothing: a": 2 * 10 * 4 / 4,
            "choosing ranges: a": reading,
            "exporting: a": reading + 50 / 5,
            "building: a": 50 / 1 + 50 / 5,
            "checking files": 2 * 50 / 1,
            "PyTorch reference": drawing + reading,
            "torch, rounded: a": 4 * (drawing + watching) + 2 * reading,
            "exported: a": 4 * FORWARD + reading,
            "comparing blocks": (reading + drawing) + (2 * reading + drawing + watching) + (FORWARD + reading),
            "comparing": 2 * FORWARD + reading,
            "comparing weights": reading,
        }
    )


def test_large_pictures_are_rounded_once_behind_the_exported_ones_and_a_quarter_of_them_calibrates() -> None:
    network = Network(COUNT, shown=0.25)
    job = Job({"a": network}, prompts=4, pictures=4, samples=1, is_fed=True)
    found = by_stage(job)
    assert list(found)[-4:] == ["exported: a", "comparing blocks", "torch, rounded: a", "comparing weights"]
    reading = 2 * 9 * 4 / 4
    assert found["torch, rounded: a"] == 0, "blocks are compared on what it is run on, and that is kept"
    assert found["comparing blocks"] == pytest.approx(2 * (FORWARD / 10 + reading) + FORWARD + reading)
    assert found["calibrating: a"] == pytest.approx(FORWARD / 10 + 2 * 6 / 40 + 4 * reading)


def test_what_python_costs_is_counted_in_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "CAPTURE", 100)
    monkeypatch.setattr(stages, "REWRITE", 5)
    monkeypatch.setattr(stages, "RANGE", 10)
    job = Job({"a": Network(replace(COUNT, values=0), layers=5, captured=1.0)}, is_rounded=True)
    assert by_stage(job) == {"choosing ranges: a": 50.0, "exporting: a": 110.0}


def test_engines_that_are_built_for_a_price_have_a_few_blocks_and_networks_without_rounded_layers_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stages, "CAPTURE", 100)
    monkeypatch.setattr(stages, "BUILD", 10)
    short = Network(COUNT, layers=5, captured=1.0, graph=50)  # half of its operators
    job = Job({"a": short, "b": replace(short, layers=0)}, is_rounded=True, priced=3, built_for="rtx-4090")
    found = by_stage(job)
    weights = 2 * (9 / 2) * 4 / 4  # made up, read and written
    assert found["pricing layers: a"] == pytest.approx(100 + 3 * (10 + weights + 50 / 2))
    assert found["pricing layers: b"] == 0
    assert "pricing layers: a" not in by_stage(replace(job, priced=0))


def test_memory_is_what_a_stage_holds() -> None:
    job = Job({"a": Network(COUNT, rows=5, graph=50)}, prompts=3, pictures=1, built_for="x")
    memory = {str(each.step): each.memory for each in estimate_job(job, MACHINE)}
    assert memory["calibrating: a"] == 3 * 7 + stages.TENSORS_STREAMING * 8 * 4, "all three prompts go together"
    assert memory["exporting: a"] == stages.TENSORS_EXPORTING * 8 * 4
    assert memory["PyTorch reference"] == stages.LATER + 9 * 4 + 7


def test_a_large_network_is_streamed_to_draw() -> None:
    count = replace(COUNT, values=2 * 10**9, largest=10**8)
    memory = {str(each.step): each.memory for each in estimate_job(Job({"a": Network(count)}, pictures=1), MACHINE)}
    assert memory["PyTorch reference"] == stages.LATER + stages.TENSORS_STREAMING * 4 * 10**8 + 7


def test_what_is_kept_takes_no_time_and_says_why() -> None:
    job = Job({"a": Network(COUNT), "b": Network(COUNT)}, prompts=1, target="trt-fp8", kept={"calibrating": "there"})
    kept = [each for each in estimate_job(job, MACHINE) if each.step.stage == "calibrating"]
    assert [(each.step, each.seconds, each.kept) for each in kept] == [
        (Step("calibrating", role, "trt-fp8"), 0.0, "there") for role in ("a", "b")
    ]
