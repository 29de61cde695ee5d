"""Entries draw in turn, and what is wrong with a picture is found."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sprint_export.errors import BundleError
from sprint_export.progress import Step
from sprint_export.validate.comparing.comparison import CONSTANT, FAILED, NAN, SIZE
from sprint_export.validate.comparing.drawing import draw_all, draw_sides, find_fault, round_picture
from sprint_export.validate.comparing.entry import Drawn, Entry
from sprint_export.validate.rows import KeptRows
from tests.validate.comparing.doubles import PIXELS, PROMPTS, SIDE, make_pictures, make_turns

NOISE = np.arange(len(PROMPTS), dtype=np.float32).reshape(1, -1, 1, 1, 1)


@dataclass
class Double(Entry):
    """Gives pictures by place, and notes when it was asked."""

    name: str
    pictures: list[Any]
    calls: list[tuple[str, int, float]]
    description: str = "double"
    bytes: int | None = None
    is_measured: bool = True
    seconds: list[float] = field(default_factory=lambda: [1.0, 2.0, 3.0])

    def draw(self, place: int, prompt: str, noise: npt.NDArray[np.float32]) -> Drawn:
        assert prompt == PROMPTS[place]
        self.calls.append((self.name, place, float(noise.squeeze())))
        picture = self.pictures[place]
        if picture is None:
            raise BundleError("the decoder gives NaN")
        return Drawn(picture, self.seconds[place])


def test_each_prompt_is_drawn_by_all_before_the_next_and_another_entry_begins_each_time() -> None:
    calls: list[tuple[str, int, float]] = []
    pictures = list(make_pictures())
    entries = {name: Double(name, pictures, calls) for name in "abc"}
    entries["c"].is_measured = False
    sides = draw_sides(entries, make_turns(entries, NOISE))
    warm, drawn = calls[:2], calls[2:]
    assert [name for name, _, _ in warm] == ["a", "b"], "what is read from files needs no warming up"
    assert [(name, place) for name, place, _ in drawn] == [
        *(("a", 0), ("b", 0), ("c", 0)),
        *(("b", 1), ("c", 1), ("a", 1)),
        *(("c", 2), ("a", 2), ("b", 2)),
    ]
    assert all(noise == place for _, place, noise in drawn), "the noise is the place's"
    assert sides["b"].seconds == [1.0, 2.0, 3.0]
    assert np.array_equal(sides["b"].pictures[:], make_pictures())


def test_blank_nan_failed_and_misshapen_pictures_are_noted_and_the_others_kept() -> None:
    good = make_pictures()
    nan = good[1].astype(np.float32) / 255
    nan[0, 0, 0] = np.nan
    entries = {
        "blank": Double("blank", [np.full((SIDE, SIDE, 3), 200, np.uint8), *good[1:]], []),
        "nan": Double("nan", [good[0], nan, good[2]], []),
        "failed": Double("failed", [good[0], good[1], None], []),
        "small": Double("small", [good[0][:4], *good[1:]], []),
    }
    sides = draw_sides(entries, make_turns(entries, NOISE))
    found = {name: [(fault.place, fault.kind) for fault in side.faults] for name, side in sides.items()}
    assert found == {"blank": [(0, CONSTANT)], "nan": [(1, NAN)], "failed": [(2, FAILED)], "small": [(0, SIZE)]}
    assert "decoder gives NaN" in sides["failed"].faults[0].note
    assert not sides["failed"].pictures[2:3].any(), "black stands for what was not drawn"
    assert all(len(side.pictures) == len(PROMPTS) for side in sides.values())


@pytest.mark.parametrize(("amplitude", "is_blank"), [(0, True), (1, True), (2, False), (40, False)])
def test_a_picture_is_blank_where_no_channel_deviates(amplitude: int, is_blank: bool) -> None:
    picture = np.full((*PIXELS, 3), 100, np.uint8)
    picture[::2] += np.uint8(2 * amplitude)  # deviation: the amplitude
    assert (find_fault(picture, PIXELS) is not None) == is_blank


def test_one_colour_is_blank_whatever_the_colour_and_one_lively_channel_is_enough() -> None:
    picture = np.zeros((*PIXELS, 3), np.uint8) + np.array([250, 10, 90], np.uint8)
    assert find_fault(picture, PIXELS) is not None
    picture[: SIDE // 2, :, 2] = 0
    assert find_fault(picture, PIXELS) is None


def test_floats_are_rounded_as_the_reference_is_and_no_numbers_become_black() -> None:
    values = np.array([0.0, 0.5, 1.0, 1.7, -0.2, np.nan, np.inf], np.float32)
    assert round_picture(values).tolist() == [0, 128, 255, 255, 0, 0, 0]


def test_entries_one_at_a_time_are_opened_when_those_before_have_drawn() -> None:
    calls: list[tuple[str, int, float]] = []
    pictures = list(make_pictures())

    def open_double(name: str) -> Double:
        calls.append((f"open {name}", -1, -1))
        return Double(name, pictures, calls)

    openers = {name: partial(open_double, name) for name in "ab"}
    labels, sides = draw_all(openers, make_turns("ab", NOISE), one_at_a_time=True)
    assert [name for name, place, _ in calls if place != 0] == ["open a", "a", "a", "open b", "b", "b"]
    assert not labels["a"].is_in_turn
    assert np.array_equal(sides["b"].pictures[:], make_pictures())
    labels, _ = draw_all(openers, make_turns("ab", NOISE))
    assert labels["a"].is_in_turn


def test_pictures_in_files_are_those_in_memory_and_only_what_is_missing_is_drawn_again(own_cache: None) -> None:
    """A prompt that was stopped between two entries is drawn by both, as their seconds are a pair."""
    held = draw_sides({name: Double(name, list(make_pictures()), []) for name in "ab"}, make_turns("ab", NOISE))
    calls: list[tuple[str, int, float]] = []
    entries = {name: Double(name, list(make_pictures()), calls) for name in "ab"}

    def stop(step: Step, done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_sides(entries, make_turns("ab", NOISE, is_needed=True, progress=stop))
    turns = make_turns("ab", NOISE, is_needed=True)
    turns.locate("ab", 1)[0].unlink()
    calls.clear()
    sides = draw_sides(entries, turns)
    assert [(name, place) for name, place, _ in calls] == [
        *(("a", 1), ("b", 1)),  # to warm up
        *(("b", 1), ("a", 1), ("a", 2), ("b", 2)),
    ]
    for name in "ab":
        assert isinstance(sides[name].pictures, KeptRows)
        assert np.array_equal(sides[name].pictures[:], held[name].pictures[:])
        assert sides[name].seconds == held[name].seconds
    calls.clear()
    draw_sides(entries, turns)
    assert not calls, "all is there: nothing is drawn, nor warmed up"
    draw_sides({"a": entries["a"]}, turns)
    assert calls, "an entry that drew beside another has other seconds than alone"


def test_what_could_not_be_drawn_is_tried_again_and_what_is_wrong_with_a_picture_is_kept(own_cache: None) -> None:
    good = list(make_pictures())
    entry = Double("a", [np.zeros_like(good[0]), None, good[2]], [])
    turns = make_turns("a", NOISE, is_needed=True)
    first = draw_sides({"a": entry}, turns)["a"]
    assert [(fault.place, fault.kind) for fault in first.faults] == [(0, CONSTANT), (1, FAILED)]
    assert not first.pictures[:2].any()
    entry.pictures[1] = good[1]
    entry.calls.clear()
    again = draw_sides({"a": entry}, turns)["a"]
    assert {place for _, place, _ in entry.calls} == {1}
    assert again.faults == first.faults[:1]
    assert np.array_equal(again.pictures[1:], np.stack(good[1:]))
