"""What a bundle takes in a browser's memory is said before it is loaded; what cannot fit is refused with the number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bundles import shared_bundle
from tests.runtimes.javascript.pictures import read_value
from tests.runtimes.javascript.programs import has_node, make_work_folder, run_in_browser, run_in_node

pytestmark = pytest.mark.skipif(not has_node(), reason="node and npm are not installed")

MEGABYTE = 1_000_000
PROMPT = "a red circle"
FULL = {  # MB of SANA-Sprint 0.6B's networks, as `sprint-export plan random:sana-sprint-0.6b` plans them
    "web-w4a16": {"text_encoder": 1751, "transformer": 336, "vae_decoder": 175},
    "web-int8": {"text_encoder": 4431, "transformer": 603, "vae_decoder": 181},  # its table of words is float32
    "web-fp16": {"text_encoder": 5250, "transformer": 1164, "vae_decoder": 346},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_work_folder(tmp_path_factory.mktemp("memory"))
    bundle = shared_bundle(tmp_path_factory.getbasetemp(), "onnx-fp32", validate=False)
    (folder / "tiny").symlink_to(bundle)
    return folder


@pytest.fixture(scope="module")
def app(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "tiny/app.json").read_text("utf-8"))
    return found


def enlarge(app: dict[str, Any], target: str) -> dict[str, Any]:
    """An app.json whose networks have weights of full size."""
    files = [dict(file) for file in app["files"]]
    for file in files:
        network = file["path"].split("/")[0]
        if file["path"].endswith(".data"):
            file["bytes"] = FULL[target][network] * MEGABYTE
    return app | {"target": target, "files": files}


@pytest.fixture(scope="module")
def jobs(app: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By what they are about."""
    drawing = {"do": "draw", "bundle": "tiny", "drawings": [{"prompt": PROMPT}]}
    weights = sum(file["bytes"] for file in app["files"])
    one = {"threads": 1, "memoryLimit": weights * 0.8}
    return {
        "plan": {"do": "plan", "app": app},
        **{target: {"do": "plan", "app": enlarge(app, target), "options": {"provider": "wasm"}} for target in FULL},
        "on a GPU": {"do": "plan", "app": enlarge(app, "web-fp16"), "options": {"provider": "webgpu", "oneAtATime": True}},
        "refused": drawing | {"options": {"threads": 1, "memoryLimit": MEGABYTE}},
        "refused together": drawing | {"options": one},
        "one at a time": drawing | {"options": one | {"oneAtATime": True}},
        "damaged": {"do": "plan", "app": {"format": 1}},
    }


@pytest.fixture(scope="module", params=["Node", "Chromium"])
def results(request: pytest.FixtureRequest, folder: Path, jobs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    asked = list(jobs.values())
    found = run_in_node(folder, asked) if request.param == "Node" else run_in_browser(folder, asked)["results"]
    return dict(zip(jobs, found, strict=True)) | {"place": request.param}


def test_a_plan_counts_every_networks_files(results: dict[str, Any], app: dict[str, Any]) -> None:
    plan = read_value(results["plan"])
    sizes = {file["path"]: file["bytes"] for file in app["files"]}
    own = {name: sum(size for path, size in sizes.items() if path.startswith(f"{name}/")) for name in app["networks"]}
    assert {each["name"]: each["bytes"] for each in plan["networks"]} == own
    assert (plan["download"], plan["least"]) == (sum(sizes.values()), sum(own.values()))
    assert plan["leastOneAtATime"] == max(own.values())
    assert plan["limit"] == 2**32 if results["place"] == "Chromium" else plan["limit"] > 2**30


def test_of_a_full_size_student_four_bits_fit_in_webassembly(results: dict[str, Any]) -> None:
    plans = {target: read_value(results[target]) for target in FULL}
    assert {plan["limit"] for plan in plans.values()} == {2**32}
    assert plans["web-w4a16"]["least"] < 2**32, "all together"
    assert 2**32 < plans["web-int8"]["leastOneAtATime"] < plans["web-int8"]["least"], "its text encoder alone does not"
    half = plans["web-fp16"]["leastOneAtATime"]
    assert half == pytest.approx(3 * FULL["web-fp16"]["text_encoder"] * MEGABYTE, rel=0.01), "16 bits, and 32 beside"
    on_gpu = read_value(results["on a GPU"])
    assert on_gpu["least"] == pytest.approx(FULL["web-fp16"]["text_encoder"] * MEGABYTE, rel=0.01)


def test_what_cannot_fit_is_refused_with_the_numbers_before_it_is_loaded(results: dict[str, Any]) -> None:
    error = results["refused"]["error"]
    assert error["code"] == "memory"
    for part in ("takes at least 0.014 GB of memory", "text_encoder", "and there is 0.0010 GB", "fewer bits a weight"):
        assert part in error["message"], error


def test_networks_that_fit_one_by_one_are_told_to_be_opened_so_and_draw(results: dict[str, Any]) -> None:
    error = results["refused together"]["error"]
    assert error["code"] == "memory" and "open it with oneAtATime, which takes at least" in error["message"], error
    assert read_value(results["one at a time"])[0]["width"] == 64


def test_what_is_no_description_is_refused(results: dict[str, Any]) -> None:
    assert results["damaged"]["error"]["code"] == "app"
