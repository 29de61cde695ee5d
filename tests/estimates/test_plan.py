"""The plan of a run: the stages that a run reports, what is kept, what is short, and nothing written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sprint_export.conversion import convert_order
from sprint_export.estimates import plan as plans
from sprint_export.estimates.machine import TYPICAL
from sprint_export.estimates.plan import Plan, describe_plan, plan_run, tabulate_plan
from sprint_export.nouns.order import Order
from sprint_export.progress import Step
from sprint_export.run_checks import check_orders
from tests.bundles import check_refused, run_command


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Order:
    """A run of a cache of its own, with two prompts and pictures; the machine is not measured."""
    monkeypatch.setenv("SPRINT_EXPORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(plans, "measure_machine", lambda folder, compute: TYPICAL)
    return Order("sprint-tiny", "onnx-int8", tmp_path / "out", prompts=["a red circle", "a blue square"])


def make_plan(order: Order) -> Plan:
    return plan_run(check_orders(order))


def test_stages_are_those_that_a_run_reports_and_kept_ones_are_said(order: Order, tmp_path: Path) -> None:
    before = make_plan(order)
    assert list(tmp_path.iterdir()) == [], "a plan writes nothing"
    told: list[Step] = []
    expected: list[Step] = []

    def listen(step: Step, done: int, total: int) -> None:
        told.append(step)

    convert_order(order, listen, expect=lambda stages: expected.extend(each.step for each in stages))
    assert list(dict.fromkeys(each.step.stage for each in before.stages)) == list(dict.fromkeys(step.stage for step in told))
    for stage in ("smoothing", "choosing ranges"):
        assert [each.step for each in before.stages if each.step.stage == stage] == [
            step for step in dict.fromkeys(told) if step.stage == stage
        ]
    assert expected == [each.step for each in before.stages[3:]], "all behind specializing"

    after = make_plan(order)
    kept = dict.fromkeys(("calibrating", "PyTorch reference"), "kept from an earlier run")
    assert {each.step.stage: each.kept for each in after.stages if each.kept} == kept
    assert f"{'PyTorch reference':<29}  kept from an earlier run" in describe_plan(after)


def test_targets_share_what_one_of_them_does(order: Order) -> None:
    stages = make_plan(replace(order, target="onnx-int8,onnx-fp8")).stages
    second = {each.step.stage: each.kept for each in stages if each.step.target == "onnx-fp8" and each.kept}
    assert second == {"calibrating": "done for the target before", "PyTorch reference": "done for the target before"}


def test_a_disk_or_a_memory_that_is_too_small_is_said(order: Order) -> None:
    plan = make_plan(order)
    place = replace(plan.places[0], needed=3_000_000_000, free=2_000_000_000)
    lines = list(describe_plan(replace(plan, places=(place,), free_memory=1)))
    assert "memory is too small: end other programs, or take a machine with more" in lines
    assert f"the disk is too small: 3.00 GB are needed at {place.folder.parent}, 2.00 GB are free" in lines


def test_nothing_is_downloaded_for_a_plan(order: Order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    plan = make_plan(replace(order, student="owner/name", validate=False))
    assert list(describe_plan(plan)) == ["not estimated: owner/name is not downloaded yet; a run does that first"]


def test_a_plan_as_data_has_whole_bytes_and_all_stages(order: Order) -> None:
    plan = make_plan(order)
    data = json.loads(json.dumps(tabulate_plan(plan)))
    assert [each["stage"] for each in data["stages"]] == [each.step.stage for each in plan.stages]
    assert data["disk"][0]["needed"] == plan.places[0].needed > 1_000_000
    assert data["too_small"] == []


def test_the_command_prints_it_and_refuses_as_a_run_does(tmp_path: Path) -> None:
    done = run_command("--target", "trt-fp8,onnx-int8", "--dry-run", "--json", "--no-validate", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert [line for line in found["choices"] if line.startswith("target: onnx-int8")]
    assert {each["target"] for each in found["stages"]} == {"", "trt-fp8", "onnx-int8"}
    assert list(tmp_path.iterdir()) == []
    check_refused(run_command("--student", "nobody", "--dry-run", "--target", "onnx-int8", folder=tmp_path), 2, "nobody")
