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
FULL = {"text_encoder": 5300, "transformer": 1165, "vae_decoder": 325}  # MB: SANA-Sprint 0.6B in 16 bits (docs/providers.md)


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


def enlarge(app: dict[str, Any], target: str, megabytes: dict[str, int]) -> dict[str, Any]:
    """An app.json whose networks have weights of these sizes."""
    files = [dict(file) for file in app["files"]]
    for file in files:
        network = file["path"].split("/")[0]
        if file["path"].endswith(".data"):
            file["bytes"] = megabytes[network] * MEGABYTE
    return app | {"target": target, "files": files}


@pytest.fixture(scope="module")
def jobs(app: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By what they are about."""
    drawing = {"do": "draw", "bundle": "tiny", "drawings": [{"prompt": PROMPT}]}
    weights = sum(file["bytes"] for file in app["files"])
    one = {"threads": 1, "memoryLimit": weights * 0.8}
    return {
        "plan": {"do": "plan", "app": app},
        "half": {"do": "plan", "app": enlarge(app, "web-fp16", FULL), "options": {"provider": "wasm"}},
        "half on a GPU": {
            "do": "plan",
            "app": enlarge(app, "web-fp16", FULL),
            "options": {"provider": "webgpu", "oneAtATime": True},
        },
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
    assert plan["limit"] <= 2**32 if results["place"] == "Chromium" else plan["limit"] > 2**30


def test_a_full_size_student_in_16_bits_does_not_fit_in_webassembly(results: dict[str, Any]) -> None:
    plan = read_value(results["half"])
    assert plan["limit"] <= 2**32 < plan["leastOneAtATime"] < plan["least"]
    assert plan["leastOneAtATime"] == pytest.approx(3 * FULL["text_encoder"] * MEGABYTE, rel=0.01), "16 bits, and 32 beside"
    on_gpu = read_value(results["half on a GPU"])
    assert on_gpu["least"] == pytest.approx(FULL["text_encoder"] * MEGABYTE, rel=0.01)


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
