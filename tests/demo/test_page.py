"""The demo page in a real Chromium: it draws what Python draws, while one types, by keyboard, on a phone, without a network."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from sprint_export.demo.app_files import read_app
from sprint_export.demo.npm_files import find_packages, read_packages
from sprint_export.demo.server import open_server
from sprint_export.demo.site_files import PAGE, make_site
from sprint_export.runtimes import open_bundle
from sprint_export.validate.merging.merge import merge_results
from tests.bundles import shared_bundle
from tests.demo.browser_tools import find_node_modules

WALK = Path(__file__).with_name("walk_page.mjs")
SIDE = 64
FOREIGN = ("warn: No available adapters", "warn: Canvas2D: Multiple readback")  # a machine without a GPU; this test's own reading
MOST_APART = 1  # of 255: other kernels of the same float32 graph; in int8 a rounding that flips is seen as 9


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_bundle(tmp_path_factory.getbasetemp(), "onnx-fp32", validate=False)


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("downloads")
    return folder


@pytest.fixture(scope="module")
def seen(bundle: Path, downloads: Path) -> dict[str, Any]:
    """What one walk through the page saw."""
    node_modules = find_node_modules()
    site = make_site(read_app(bundle), find_packages(read_packages(PAGE), node_modules))
    with open_server(site, "127.0.0.1", 0, log=lambda line: None) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(["node", WALK, node_modules, server.url, downloads], text=True, **pipes) as walk:  # type: ignore[call-overload]
            said = walk.stderr.readline()
            server.shutdown()
            server.server_close()
            thread.join()
            output, errors = walk.communicate("go on\n", timeout=300)
    assert output, said + errors
    found: dict[str, Any] = json.loads(output)
    assert "failure" not in found, found["failure"] + json.dumps(found["console"])
    assert said == "offline\n", said + errors
    return found


def read_pixels(text: str) -> npt.NDArray[np.uint8]:
    """uint8 [H, W, 3] of a canvas."""
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(SIDE, SIDE, 4)[..., :3]


def apart(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> int:
    """The largest difference of two pictures."""
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def test_it_draws_what_python_draws(seen: dict[str, Any], bundle: Path) -> None:
    pipeline = open_bundle(bundle)
    for name, prompt in (("first", "a red circle"), ("typed", "a large blue square on the right")):
        assert seen[name]["label"] == f"Picture of: {prompt}"
        assert apart(read_pixels(seen[name]["pixels"]), pipeline([prompt], seed=3)[0]) <= MOST_APART


def test_what_is_typed_is_drawn_and_stands_in_the_address(seen: dict[str, Any]) -> None:
    assert seen["typed"]["address"] == "#prompt=a+large+blue+square+on+the+right&seed=3&steps=1"
    assert seen["keptByTyping"] == []


def test_times_of_every_network_are_shown(seen: dict[str, Any]) -> None:
    assert float(seen["figures"]["total"].replace(",", "")) > 0
    assert all(f"{name}" in seen["figures"]["parts"] for name in ("text encoder", "transformer", "vae decoder"))
    assert "WebAssembly" in seen["figures"]["where"]
    assert seen["first"]["isIsolated"], "threads need the headers"


def test_another_seed_draws_another_picture(seen: dict[str, Any]) -> None:
    assert seen["rolled"]["seed"] != "3"
    assert seen["rolled"]["isOther"]


def test_pictures_are_kept_and_come_back_with_prompt_and_seed(seen: dict[str, Any]) -> None:
    prompt = "a large blue square on the right"
    assert seen["kept"] == [f"{prompt}, seed {seen['rolled']['seed']}, 1 step", f"{prompt}, seed 3, 1 step"]
    assert (seen["restored"]["prompt"], seen["restored"]["seed"]) == (prompt, "3")
    assert seen["restored"]["pixels"] == seen["typed"]["pixels"]


def test_a_downloaded_picture_is_the_one_on_the_page(seen: dict[str, Any], downloads: Path) -> None:
    assert seen["download"] == "a-large-blue-square-on-the-right-3.png"
    picture = np.asarray(Image.open(io.BytesIO((downloads / seen["download"]).read_bytes())).convert("RGB"))
    assert apart(picture, read_pixels(seen["typed"]["pixels"])) == 0


def test_everything_is_reached_by_keyboard_seen_and_named(seen: dict[str, Any]) -> None:
    reached = [each["name"] for each in seen["reached"]]
    assert {"theme", "prompt", "seed", "dice", "steps", "draw", "keep", "download", "clear"} <= set(reached)
    assert sorted(set(seen["controls"]) - set(reached)) == []
    assert [each["name"] for each in seen["reached"] if not each["isVisible"]] == []
    assert [each["name"] for each in seen["reached"] if not each["isNamed"]] == []
    assert seen["escaped"] == "prompt"


def test_the_check_compares_with_the_reference(seen: dict[str, Any]) -> None:
    assert len(seen["check"]) == 1
    assert "seed" in seen["check"][0]
    assert "the same in every pixel" in seen["check"][0] or "of 255 apart" in seen["check"][0]


def test_words_that_the_student_does_not_know_are_named(seen: dict[str, Any]) -> None:
    assert seen["unknown"] == "This student does not know: armadillo; it draws as if other words stood there."
    assert seen["known"] == ""


def test_a_result_is_saved_by_keyboard_and_is_one_of_this_bundle(seen: dict[str, Any], bundle: Path, downloads: Path) -> None:
    assert seen["measureReached"] == "measure"
    assert seen["result"] == "sprint-tiny-onnx-fp32-lab-box-7.json"
    assert "9 pictures compared" in seen["measured"][0] and "20 pictures timed" in seen["measured"][0], seen["measured"]
    [result] = merge_results(bundle, [downloads / seen["result"]]).results
    assert (result.label, result.report.verdict, len(result.checks)) == ("Lab box 7", "met", 9)
    assert "onnxruntime-web" in result.report.runtime and max(check.largest for check in result.checks) <= MOST_APART


def test_it_draws_without_a_network_and_has_what_was_kept(seen: dict[str, Any], bundle: Path) -> None:
    assert len(seen["offline"]["kept"]) == 3
    assert seen["offline"]["label"] == "Picture of: a small green triangle on the left"
    seed = 3
    expected = open_bundle(bundle)(["a small green triangle on the left"], seed=seed)[0]
    assert apart(read_pixels(seen["offline"]["pixels"]), expected) <= MOST_APART


def test_clearing_asks_first(seen: dict[str, Any]) -> None:
    assert seen["asked"] == "Remove 3 pictures?"
    assert seen["cleared"] == []


def test_the_console_has_no_errors_and_nothing_breaks_the_policy(seen: dict[str, Any]) -> None:
    assert [line for line in seen["console"] if not line.startswith(FOREIGN)] == []
    assert seen["violations"] == []


def test_nothing_is_asked_of_another_host(seen: dict[str, Any]) -> None:
    assert len(seen["requests"]) > 10
    assert [url for url in seen["requests"] if not url.startswith(("http://127.0.0.1:", "blob:http://127.0.0.1:"))] == []


def test_text_is_never_taken_for_html(seen: dict[str, Any]) -> None:
    assert set(seen["hostile"]["images"]) == {"blob"}
    assert seen["hostile"]["title"] != "1"


def test_a_phone_does_not_scroll_sideways_and_has_room_for_fingers(seen: dict[str, Any]) -> None:
    assert seen["phone"]["page"] <= seen["phone"]["screen"] == 360
    assert seen["phone"]["small"] == []
    assert seen["phone"]["label"] == f"Picture of: {seen['phone']['wanted']}"
