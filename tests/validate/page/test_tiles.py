"""Pictures in a page: which are shown, in which order, exact where small, scaled where large, and never too many bytes."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Sequence
from html.parser import HTMLParser

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from sprint_export.nouns.report import PictureRow
from sprint_export.validate.page import tiles as tiles_module
from sprint_export.validate.page.embedding import amplify_difference, choose_gain, embed_picture
from sprint_export.validate.page.tiles import Tile, rank_rows, render_tiles, sort_worst

UInt8 = npt.NDArray[np.uint8]


def make_row(place: int, psnr: float = 40.0, flipped: bool = False, prompt: str = "") -> PictureRow:
    return PictureRow(place, prompt or f"prompt {place}", {"psnr_db": psnr}, ("adherence_percent",) if flipped else ())


def make_noise(*shape: int) -> UInt8:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def open_url(url: str) -> UInt8:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))


class Reader(HTMLParser):
    """Attributes of all elements, by tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def list_places(text: str) -> list[int]:
    return [int(place) for place in re.findall(r'data-place="(\d+)"', text)]


def test_the_worst_come_first_and_flips_before_them() -> None:
    rows = [make_row(0, 50), make_row(1, 30), make_row(2, math.nan), make_row(3, 60, flipped=True), make_row(4, 45, flipped=True)]
    assert sort_worst(rows) == [4, 3, 2, 1, 0]


def test_what_is_shown_first_is_flips_then_the_worst_and_an_even_sample_in_turn() -> None:
    rows = [make_row(i, 100 - i, flipped=i == 500) for i in range(1000)]
    ranked = rank_rows(rows)
    assert sorted(ranked) == list(range(1000))
    assert ranked[0] == 500
    shown = ranked[1:101]
    worst, even = set(range(900, 1000)) & set(shown), set(shown) - set(range(940, 1000))
    assert len(worst) >= 50
    gaps = np.diff(sorted([0, *even, 940]))
    assert gaps.max() < 60, "no long stretch of prompts is left out"


def test_a_page_is_never_too_full(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [make_row(i) for i in range(20)]
    picture = make_noise(64, 64, 3)
    one = len(embed_picture(picture).url)
    monkeypatch.setattr(tiles_module, "MOST_BYTES", 5 * one)
    text = render_tiles((Tile(row, 0, {"PyTorch": picture}) for row in rows), 20, "")
    assert len(list_places(text)) == 5
    assert "20 drawn, 5 in this page: those that flipped, the worst, and an even sample of all" in text
    monkeypatch.setattr(tiles_module, "MOST_TILES", 3)
    assert len(list_places(render_tiles((Tile(row, 0, {"PyTorch": picture}) for row in rows), 20, ""))) == 3
    monkeypatch.setattr(tiles_module, "MOST_BYTES", 1)
    assert len(list_places(render_tiles([Tile(rows[0], 0, {"PyTorch": picture})], 20, ""))) == 1, "one is always shown"


def test_small_pictures_are_exact_and_large_ones_scaled() -> None:
    small, large = make_noise(128, 96, 3), np.full((600, 1200, 3), 77, np.uint8)
    assert np.array_equal(open_url(embed_picture(small).url), small)
    found = embed_picture(large)
    assert (found.width, found.height) == (512, 256)
    assert open_url(found.url).shape == (256, 512, 3)
    assert np.abs(open_url(found.url).astype(int) - 77).max() <= 2


def test_differences_are_amplified_alike_and_as_far_as_they_fit() -> None:
    reference = make_noise(4, 32, 32, 3) // 2
    exported = reference + np.uint8(5)
    gain = choose_gain(exported, reference)
    assert gain == 32, "5 x 32 is seen, 5 x 64 is beyond white"
    assert (amplify_difference(exported, reference, gain) == 160).all()
    assert choose_gain(reference, reference) == 64
    assert choose_gain(np.zeros_like(reference), np.full_like(reference, 255)) == 1


HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>'",
    "{{ 7 * 7 }}{% raw %}",
    "\u0645\u0631\u0628\u0639 \u0623\u062d\u0645\u0631 \u202eevil\u202c",
    "\U0001f469\u200d\U0001f680 emoji",
    "half a letter \ud800 here",
    "a\x00b\x1b[31m",
    "x" * 10_000,
)


@pytest.mark.parametrize("prompt", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_prompt_is_text(prompt: str) -> None:
    row = PictureRow(7, prompt, {"psnr_db": math.nan, '"><b>': math.inf}, ("<i>",))
    text = render_tiles([Tile(row, 0, {"<u>": make_noise(8, 8, 3)})], 1, "<caption>")
    text.encode("utf-8")
    tags = {tag for tag, _ in Reader(text).found}
    assert not tags & {"script", "b", "i", "u", "caption"}
    assert [a["src"] for tag, a in Reader(text).found if tag == "img" and not str(a["src"]).startswith("data:")] == []
    data = next(a["data-figures"] for _, a in Reader(text).found if "data-figures" in a)
    assert json.loads(str(data)) == {"psnr_db": None, '"><b>': None}
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert len(text) < 12_000
