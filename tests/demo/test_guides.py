"""What leads a drawing on the demo page beside its prompt: a sketch, a picture to start from, a size; each as Python draws it."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
from sprint_export.nouns.student import Student
from sprint_export.runtimes import open_bundle
from sprint_export.students.sprint_tiny.edges import find_edges
from tests.bundles import shared_bundle
from tests.demo.browser_tools import find_node_modules

WALK = Path(__file__).with_name("walk_guides.mjs")
FOREIGN = ("warn: No available adapters", "warn: Canvas2D: Multiple readback")  # a machine without a GPU; this test's own reading
MOST_APART = 1  # of 255: other kernels of the same float32 graph
SHAPES = "a large cyan square right of a small cyan circle on a gray background"
WORDS = "a red circle above a blue square"
WIDE: dict[str, Any] = {"height": 32, "width": 96}
PHOTO = (37, 50)  # height and width

Picture = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def steered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_bundle(tmp_path_factory.getbasetemp(), "onnx-fp32", "control-tiny", validate=False)


@pytest.fixture(scope="module")
def free(made: Student, tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.getbasetemp()
    return shared_bundle(base, "onnx-fp32", made, steps=(1, 4), dynamic=True, image_to_image=True, validate=False)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files to choose, drop and paste: an outline, a photo, and three that are refused."""
    folder: Path = tmp_path_factory.mktemp("pictures")
    outline = np.zeros((64, 64, 3), np.uint8)
    outline[14:50, 20:58] = 255
    outline[16:48, 22:56] = 0
    Image.fromarray(outline).save(folder / "outline.png")
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (*PHOTO, 3), np.uint8)).save(folder / "photo.png")
    (folder / "words.png").write_text("no picture", "utf-8")
    (folder / "cut_off.png").write_bytes((folder / "photo.png").read_bytes()[:2000])
    Image.new("1", (20_000, 20_000)).save(folder / "huge.png")
    return folder


@pytest.fixture(scope="module")
def seen(steered: Path, free: Path, pictures: Path) -> dict[str, Any]:
    """What one walk through both pages saw."""
    node_modules = find_node_modules()
    with ExitStack() as stack:
        urls = [stack.enter_context(serve(bundle, node_modules)) for bundle in (steered, free)]
        done = subprocess.run(
            ["node", WALK, node_modules, *urls, pictures], text=True, capture_output=True, check=False, timeout=300
        )
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert "failure" not in found, found["failure"] + json.dumps(found["console"])
    return found


@contextmanager
def serve(bundle: Path, node_modules: Path) -> Iterator[str]:
    """The address of a bundle's page."""
    site = make_site(read_app(bundle), find_packages(read_packages(PAGE), node_modules))
    with open_server(site, "127.0.0.1", 0, log=lambda line: None) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


def read_pixels(text: str, height: int = 64, width: int = 64) -> Picture:
    """uint8 [H, W, 3] of a canvas."""
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)[..., :3].copy()


def apart(one: Picture, other: Picture) -> int:
    """The largest difference of two pictures."""
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def open_picture(path: Path) -> Picture:
    return np.asarray(Image.open(path).convert("RGB"))


def test_a_page_offers_what_its_bundle_has_and_nothing_else(seen: dict[str, Any]) -> None:
    assert seen["sketch"]["offered"] == ["sketch"]
    assert seen["free"]["offered"] == ["start", "size"]


def test_a_sketch_leads_as_it_leads_python(seen: dict[str, Any], steered: Path) -> None:
    sketch, pipeline = seen["sketch"], open_bundle(steered)
    plain, drawn = read_pixels(sketch["plain"]), read_pixels(sketch["drawn"]["pixels"])
    control = read_pixels(sketch["drawn"]["rgba"])
    assert apart(plain, pipeline([SHAPES], seed=2)[0]) <= MOST_APART
    assert apart(drawn, pipeline([SHAPES], seed=2, control=control)[0]) <= MOST_APART
    assert apart(drawn, plain) > 20, "it leads"
    assert set(np.unique(control)) == {0, 255}, "white lines on black, as the network was taught"
    rows, columns = np.nonzero(control[..., 0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (15, 48, 31, 56), "a box of lines two pixels wide"


def test_the_picture_follows_while_the_button_is_down(seen: dict[str, Any]) -> None:
    assert seen["sketch"]["meanwhile"] == "seed 2, 1 step, with a sketch"


def test_undo_and_clear_take_the_sketch_back(seen: dict[str, Any]) -> None:
    sketch = seen["sketch"]
    assert sketch["undone"] == {"pixels": sketch["plain"], "caption": "seed 2, 1 step", "undo": True}


def test_a_kept_picture_brings_its_sketch_back(seen: dict[str, Any]) -> None:
    sketch = seen["sketch"]
    assert sketch["drawn"]["kept"] == [f"{SHAPES}, seed 2, 1 step, with a sketch"]
    assert sketch["restored"] == sketch["drawn"]["pixels"]
    assert (sketch["drawn"]["controlScale"], sketch["drawn"]["width"]) == (1, 64)


def test_one_sketches_by_keyboard_too_and_says_how_strongly(seen: dict[str, Any]) -> None:
    sketch = seen["sketch"]
    assert sketch["unscaled"] == {"pixels": sketch["plain"], "scale": "0.00"}, "at 0 it does not lead"
    assert sketch["most"] == "2.00"
    assert sketch["byKeyboard"] == {"pixels": sketch["plain"], "focus": "pad"}, "Backspace undoes"


def test_a_picture_of_lines_is_chosen_dropped_and_pasted(seen: dict[str, Any], steered: Path, pictures: Path) -> None:
    wanted = open_bundle(steered)([SHAPES], seed=2, control=open_picture(pictures / "outline.png"))[0]
    for how in ("file", "dropped", "pasted"):
        assert apart(read_pixels(seen["sketch"][how]), wanted) <= MOST_APART, how


def test_what_is_no_picture_or_too_large_is_said_and_changes_nothing(seen: dict[str, Any]) -> None:
    sketch = seen["sketch"]
    for name in ("words.png", "cut_off.png"):
        assert sketch[name].startswith(f"{name} is no picture that this browser can read, or it is damaged."), sketch[name]
    assert sketch["huge.png"] == "huge.png has 20,000 \u00d7 20,000 pixels: at most 64 million are read. Make it smaller first."
    assert sketch["afterBad"] == sketch["file"]
    assert seen["free"]["note"].startswith("words.png is no picture")


def test_the_shown_pictures_edges_are_those_of_the_training(seen: dict[str, Any]) -> None:
    plain = read_pixels(seen["sketch"]["plain"])
    np.testing.assert_array_equal(read_pixels(seen["sketch"]["traced"]["rgba"]), find_edges(plain))


def test_other_sizes_are_drawn_as_python_draws_them(seen: dict[str, Any], free: Path) -> None:
    pipeline, found = open_bundle(free, steps=1), seen["free"]
    assert apart(read_pixels(found["fromAddress"]["pixels"], **WIDE), pipeline([WORDS], seed=3, **WIDE)[0]) <= MOST_APART
    assert (found["fromAddress"]["width"], found["fromAddress"]["caption"]) == ("96", "seed 3, 1 step, 96 \u00d7 32")
    assert apart(read_pixels(found["sized"]["pixels"], 48, 96), pipeline([WORDS], seed=3, height=48, width=96)[0]) <= MOST_APART
    assert found["sized"]["address"].endswith("&seed=3&steps=1&width=96&height=48")
    assert found["turned"] == [96, 48]


def test_a_size_that_cannot_be_drawn_is_said_with_those_that_can(seen: dict[str, Any]) -> None:
    assert seen["free"]["refused"] == "The height is a multiple of 4, from 4 to 256 pixels."


def test_a_picture_to_start_from_is_cut_to_shape_and_leads_as_it_leads_python(
    seen: dict[str, Any], free: Path, pictures: Path
) -> None:
    pipeline, found = open_bundle(free, steps=4), seen["free"]
    middle = open_picture(pictures / "photo.png")[10:27]  # of 37 x 50 the largest piece in the shape of 32 x 96
    for name, strength, change in (
        ("started", 0.75, "runs the last 3 of 4 steps"),
        ("nearer", 0.5, "runs the last 2 of 4 steps"),
    ):
        wanted = pipeline([WORDS], seed=3, image=middle, strength=strength, **WIDE)[0]
        assert apart(read_pixels(found[name]["pixels"], **WIDE), wanted) <= MOST_APART
        assert found[name]["change"] == change
    assert apart(read_pixels(found["removed"]["pixels"], **WIDE), pipeline([WORDS], seed=3, **WIDE)[0]) <= MOST_APART
    assert found["removed"]["focus"] == "start-choose"
    assert found["dropped"] == found["nearer"]["pixels"] and found["isTaken"] is True


def test_the_shown_picture_is_one_to_start_from(seen: dict[str, Any], free: Path) -> None:
    shown = read_pixels(seen["free"]["removed"]["pixels"], **WIDE)
    wanted = open_bundle(free, steps=4)([WORDS], seed=3, image=shown, strength=0.5, **WIDE)[0]
    assert apart(read_pixels(seen["free"]["again"], **WIDE), wanted) <= MOST_APART


def test_a_kept_picture_brings_its_start_and_size_back(seen: dict[str, Any]) -> None:
    found = seen["free"]
    assert found["kept"] == [f"{WORDS}, seed 3, 4 steps, from a picture"]
    assert found["restored"] == found["nearer"]


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("sketch", {"pad", "tool", "undo", "wipe", "edges", "sketch-choose", "scale"}),
        ("free", {"start-choose", "start-take", "start-remove", "strength", "width", "turn", "height"}),
    ],
)
def test_all_of_it_is_reached_by_keyboard_seen_and_named(seen: dict[str, Any], page: str, names: set[str]) -> None:
    reached = seen[page]["reached"]
    assert names <= {each["name"] for each in reached}
    assert sorted(set(seen[page]["controls"]) - {each["name"] for each in reached}) == []
    assert [each["name"] for each in reached if not (each["isVisible"] and each["isNamed"])] == []


def test_a_finger_sketches_on_a_phone_which_does_not_scroll(seen: dict[str, Any]) -> None:
    phone = seen["phone"]
    assert phone["page"] <= phone["screen"] == 360
    assert phone["scrolled"] == 0
    assert phone["bottom"] <= phone["high"], "picture and pad are seen together"
    assert phone["small"] == []
    assert phone["label"] == f"Picture of: {SHAPES}"


def test_the_console_is_quiet_and_nothing_leaves_the_machine(seen: dict[str, Any]) -> None:
    assert [line for line in seen["console"] if not line.startswith(FOREIGN)] == []
    assert seen["violations"] == []
    assert [url for url in seen["requests"] if not url.startswith(("http://127.0.0.1:", "blob:http://127.0.0.1:"))] == []
