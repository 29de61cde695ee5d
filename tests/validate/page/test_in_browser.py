"""report.html in a real Chromium: silent, alone, sorted, searched, by keyboard, on a phone, in the dark, without its script."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sprint_export.validate.page.report_page import write_page
from sprint_export.validate.page.tiles import FEW
from tests.demo.browser_tools import find_node_modules
from tests.validate.page.made_report import COUNT, FLIPPED, PSNR, ROWS, SIDE, UNDECIDED, make_bundle, make_pictures, make_report

WALK = Path(__file__).with_name("walk_report.mjs")
PROMPT = "a red <i>circle</i> \u0645\u0631\u0628\u0639 \U0001f680 " + "x" * 10_000 + " circle"
LEAST_LETTER = 10  # pixels, of a plot on a phone
PLOTS = 7  # with a name of their own: of three gates, two figures, two networks
OTHERS = [i for i in range(COUNT) if i not in (FLIPPED, UNDECIDED)]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one walk through a page saw; every prompt but the last's number is the same."""
    modules, folder = find_node_modules(), tmp_path_factory.mktemp("page")
    make_bundle(folder)
    report = make_report("a red circle")
    long = [row if row.place != 7 else type(row)(7, PROMPT, row.figures) for row in report.pictures]
    write_page(folder, type(report)(**{**vars(report), "pictures": tuple(long)}), *make_pictures())
    done = subprocess.run(
        ["node", WALK, modules, folder / "report.html"], capture_output=True, text=True, timeout=120, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    assert "failure" not in found, found["failure"]
    return found


def test_it_is_silent_and_asks_for_nothing(seen: dict[str, Any]) -> None:
    assert seen["console"] == []
    assert {url.split(":")[0] for url in seen["requests"]} == {"file", "data"}
    assert len([url for url in seen["requests"] if url.startswith("file")]) == 3, "the page itself, each time it is opened"
    assert seen["title"] == "made, trt-fp8: not met"


def test_its_policy_stops_what_would_come_through(seen: dict[str, Any]) -> None:
    found = seen["attack"]
    assert not found["ran"]
    assert not found["fetched"]
    assert set(found["violations"]) == {"connect-src", "frame-src", "img-src", "script-src-elem"}


def test_all_pictures_are_shown_in_their_own_size(seen: dict[str, Any]) -> None:
    assert seen["images"] == [[SIDE, SIDE]] * (3 * COUNT)


def test_tiles_are_sorted_as_one_asks(seen: dict[str, Any]) -> None:
    places = seen["places"]
    assert places["worst"] == [FLIPPED, UNDECIDED, *sorted(OTHERS, key=lambda i: PSNR[i])]
    assert places["place"] == list(range(COUNT))
    by_psnr = sorted([*OTHERS, FLIPPED], key=lambda i: PSNR[i])
    assert places["+psnr_db"] == [UNDECIDED, *by_psnr], "what is no number comes first"
    assert places["-ssim"] == [UNDECIDED, *reversed([i for i in range(COUNT) if i != UNDECIDED])]


def test_a_few_tiles_are_shown_until_one_asks_for_all(seen: dict[str, Any]) -> None:
    worst = seen["places"]["worst"]
    assert seen["few"] == {"places": worst[:FEW], "said": f"{FEW} of {COUNT}", "button": f"Show all {COUNT}"}
    assert seen["more"] == {"isSeen": False, "focused": str(worst[FEW])}


def test_prompts_are_searched(seen: dict[str, Any]) -> None:
    assert sorted(seen["found"]["places"]) == [1, *range(10, 20)]
    assert seen["found"]["said"] == f"11 of {COUNT}"
    assert seen["lost"] == {"places": [], "said": f"0 of {COUNT}", "note": True}


def test_a_picture_is_viewed_large_by_keyboard(seen: dict[str, Any]) -> None:
    views = seen["viewer"]
    assert [view["open"] for view in views] == [True] * 6 + [False]
    assert [view["alt"] for view in views[:5]] == ["PyTorch", "exported", "PyTorch", "difference \u00d732", "difference \u00d732"]
    assert [view["pressed"] for view in views[:4]] == ["PyTorch", "exported", "PyTorch", "difference \u00d732"]
    prompts = [view["prompt"] for view in views]
    assert prompts[0] == f"a red circle {FLIPPED}"
    assert prompts[4] == f"a red circle {UNDECIDED}"
    assert prompts[5] == prompts[0]
    assert all(view["decoded"] == SIDE for view in views[1:])
    assert seen["focused"] == "shots", "closed, it gives the focus back"


def test_layers_are_named_under_the_keys_and_the_pointer(seen: dict[str, Any]) -> None:
    rest, first, second, last, home, pointed = seen["map"]
    assert rest == "fp8 78.4 %, float 21.6 % of the weights in 10 layers."
    assert first == home == "patch_embed.proj: float, 3,072 values (rule transformer.patch_embed.*); entry layer"
    assert second.startswith("transformer_blocks.0.attn.to_q: fp8")
    assert last == pointed == "proj_out: float, 3,072 values (rule transformer.proj_out); exit layer"


def test_every_stop_of_the_keyboard_has_a_name_and_is_seen(seen: dict[str, Any]) -> None:
    stops = seen["stops"]
    assert stops[0]["name"] == "Skip to the content"
    assert all(stop["name"] and stop["isSeen"] for stop in stops), [s for s in stops if not (s["name"] and s["isSeen"])]
    tags = [stop["tag"] for stop in stops]
    assert {"a", "button", "input", "select", "summary", "div"} <= set(tags)
    assert [stop["name"] for stop in stops].count(f"View large: a red circle {FLIPPED}") == 1


def test_it_is_light_and_dark(seen: dict[str, Any]) -> None:
    themes, dark = seen["themes"], ["rgb(21, 20, 19)", "rgb(236, 233, 226)"]
    assert themes["system"] == themes["light"] == themes["auto"] == ["rgb(251, 250, 247)", "rgb(29, 28, 26)"]
    assert themes["dark"] == seen["phone"]["colours"] == dark


def test_it_fits_a_phone(seen: dict[str, Any]) -> None:
    phone = seen["phone"]
    assert phone["widths"] == [390, 390], "nothing is wider than the screen, all folds open"
    assert phone["viewer"] == {"widths": [390, 390], "open": True}
    assert phone["small"] == 0
    assert phone["layer"].startswith("proj_out: float"), "it stays when the finger is lifted"
    assert phone["letters"] >= LEAST_LETTER


def test_on_paper_nothing_is_folded(seen: dict[str, Any]) -> None:
    assert seen["folded"] == 0


def test_without_its_script_all_is_there_but_what_needs_it(seen: dict[str, Any]) -> None:
    roles = seen["plain"]["roles"]
    assert roles.count("heading") >= 8
    assert roles.count("image") == len(seen["images"]) + PLOTS
    assert roles.count("row") > len(ROWS)
    assert "searchbox" not in roles
    assert "combobox" not in roles
