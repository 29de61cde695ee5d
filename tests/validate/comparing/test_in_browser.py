"""comparison.html in a real Chromium: silent, alone, each picture of each prompt, on a desk and on a phone in the dark."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sprint_export.nouns.report import Measurement
from sprint_export.validate.comparing.comparison import Comparison, EntryResult, PictureFault
from sprint_export.validate.comparing.page import REFERENCE, render_page
from tests.demo.browser_tools import find_node_modules
from tests.validate.comparing.doubles import PIXELS, make_pictures

WALK = Path(__file__).with_name("walk_comparison.mjs")
PROMPTS = (
    "a red circle",
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "a blue square",
    "a green square " + "x" * 3000,
)
NAMES = ("ours", "their <i>tool</i> with a name that is long", "blank")
FIGURES = {"ours": (50.0, 40.0, 45.0, 48.0), NAMES[1]: (46.0, 47.0, 39.0, 48.0), "blank": (9.0, 8.0, 9.0, 9.0)}


def make_entry(rank: int, name: str) -> EntryResult:
    values = FIGURES[name]
    faults = tuple(PictureFault(i, "constant", "one colour") for i in range(len(PROMPTS))) if name == "blank" else ()
    rows = [
        Measurement("psnr_db", float(np.mean(values)), "dB", interval=(min(values), max(values))),
        Measurement("latency_p50_ms", 10.0 * rank, "ms", note="measured in turn", interval=(9.0 * rank, 12.0 * rank)),
        Measurement("disk_mb", 4.0 + rank, "MB"),
    ]
    pair = [Measurement("psnr_db_difference", -1.5, "dB", note="paired", interval=(-2.0, -1.0))] if rank > 1 else []
    verdict = "not met" if faults else "met"
    return EntryResult(
        name, "a bundle", f"/{name}", "made by hand", rank, tuple(rows), tuple(pair), faults, {"psnr_db": values}, verdict
    )


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    modules, folder = find_node_modules(), tmp_path_factory.mktemp("page")
    entries = tuple(make_entry(rank, name) for rank, name in enumerate(NAMES, 1))
    comparison = Comparison("made", "a machine", 1, 0, PROMPTS, "psnr_db", entries, ("LPIPS: weights not found",))
    pictures = {name: make_pictures(len(PROMPTS), seed) for seed, name in enumerate(NAMES)}
    page = folder / "comparison.html"
    page.write_text(render_page(comparison, make_pictures(len(PROMPTS), 9), pictures), "utf-8")
    done = subprocess.run(["node", WALK, modules, page], capture_output=True, text=True, timeout=120, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_pictures_that_changed_what_they_show_come_first_but_not_those_of_blank_entries() -> None:
    entries = [replace(make_entry(rank, name), flipped=(3,) if rank == 1 else ()) for rank, name in enumerate(NAMES, 1)]
    entries[2] = replace(entries[2], flipped=(0, 1, 2, 3))
    comparison = Comparison("made", "a machine", 1, 0, PROMPTS, "psnr_db", tuple(entries))
    text = render_page(comparison, make_pictures(len(PROMPTS)), {name: make_pictures(len(PROMPTS)) for name in NAMES})
    assert re.findall(r'<li class="tile( flipped)?" data-place="(\d)"', text)[0] == (" flipped", "3")
    assert text.count("flipped: ours<") == 1


def test_it_is_silent_and_asks_for_nothing(seen: dict[str, Any]) -> None:
    assert seen["console"] == [], "no script of a prompt ran, no error"
    assert set(seen["requests"]) == {"file", "data"}
    assert seen["requests"].count("file") == 2, "the page itself, each time it is opened"


def test_nothing_is_wider_than_a_desk_or_a_phone_and_the_dark_is_dark(seen: dict[str, Any]) -> None:
    assert all(whole == window for whole, window in seen["widths"]), seen["widths"]
    light, dark = ([int(part) for part in text.strip("rgb()").split(",")] for text in seen["paper"])
    assert min(light) > 200
    assert max(dark) < 60


def test_every_entry_shows_every_prompt_beside_the_reference(seen: dict[str, Any]) -> None:
    assert seen["labels"] == [REFERENCE, "ours", NAMES[1], "blank (constant)"]
    assert seen["choices"] == seen["labels"]
    assert seen["sizes"] == [[PIXELS[1], PIXELS[0]]] * len(PROMPTS) * (len(NAMES) + 1)
    assert seen["alert"], "blank pictures are said at the top"


def test_the_worst_prompt_of_entries_that_drew_comes_first(seen: dict[str, Any]) -> None:
    assert seen["worst"] == [2, 1, 0, 3], "39, 40, 46 and 48 dB; a blank entry is no prompt's fault"
    assert seen["places"] == [0, 1, 2, 3]
    assert sorted(seen["found"]) == [2, 3]
