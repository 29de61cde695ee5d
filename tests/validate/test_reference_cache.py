"""The reference's pictures are kept: what was drawn is not drawn again, and nothing else is taken for it."""

from __future__ import annotations

import dataclasses
import functools
import os
from typing import Any

import numpy as np
import pytest

from sprint_export.noise import make_noise
from sprint_export.nouns.student import Student
from sprint_export.students.family import Draws, Reference
from sprint_export.validate import kept, reference_cache
from sprint_export.validate.kept import Kept
from sprint_export.validate.reference_cache import KIND, recall_reference

PROMPTS = ("a red circle", "a blue square", "a green triangle")


class Drawer:
    """Stands in for diffusers: a picture by prompt and noise, and a note of what was drawn."""

    def __init__(self) -> None:
        self.drawn: list[str] = []

    def __call__(self, student: Student, draws: Draws, *rest: Any) -> Reference:
        prompts = draws.prompts
        self.drawn += prompts
        latents = np.ascontiguousarray(draws.noise[0]) + np.float32(len(prompts[0]))
        pictures = (np.abs(latents[:, :3]).repeat(2, 2).repeat(2, 3).transpose(0, 2, 3, 1) * 50).astype(np.uint8)
        return Reference(pictures, latents, {"transformer": [0.5] * len(prompts)})


@pytest.fixture
def drawer(own_cache: None, monkeypatch: pytest.MonkeyPatch) -> Drawer:
    drawer = Drawer()
    monkeypatch.setattr(reference_cache, "draw_reference", drawer)
    return drawer


def recall(student: Student, count: int, guidance: float = 4.5, is_fresh: bool = False) -> Reference:
    noise = make_noise(0, 1, count, student.latent_shape)
    return recall_reference(student, Draws(PROMPTS[:count], noise, guidance), is_fresh=is_fresh)


def test_a_larger_count_draws_what_is_new(tiny_student: Student, drawer: Drawer) -> None:
    few = recall(tiny_student, 2)
    all_of_them = recall(tiny_student, 3)
    assert drawer.drawn == [*PROMPTS[:2], PROMPTS[2]]
    assert all_of_them.seconds == {"transformer": [0.5]}, "seconds are of what was drawn in this run"
    np.testing.assert_array_equal(all_of_them.pictures[:2], few.pictures)
    np.testing.assert_array_equal(all_of_them.latents[:2], few.latents)
    assert all_of_them.pictures.dtype == np.uint8
    assert recall(tiny_student, 3).seconds == {}, "all were kept: nothing was timed"


def test_what_decides_a_picture_decides_its_name(tiny_student: Student, drawer: Drawer) -> None:
    recall(tiny_student, 1)
    recall(tiny_student, 1, guidance=5.0)
    recall(dataclasses.replace(tiny_student, fingerprint="another"), 1)
    recall_reference(tiny_student, Draws(PROMPTS[:1], make_noise(1, 1, 1, tiny_student.latent_shape), 4.5))
    assert drawer.drawn == [PROMPTS[0]] * 4
    assert len(list(Kept(KIND).folder.iterdir())) == 4


def test_a_killed_run_has_kept_what_was_handed_over(
    tiny_student: Student, own_cache: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each picture when it is drawn, and what a prompt was made into before."""
    calls: list[str] = []

    def draw(student: Student, draws: Draws, *rest: Any) -> Reference:
        texts = [draws.recall(["text", prompt], functools.partial(make_text, prompt)) for prompt in draws.prompts]
        pictures = np.zeros((len(texts), 4, 4, 3), np.uint8) + np.stack([text["length"] for text in texts])[:, None, None, None]
        for row, prompt in enumerate(draws.prompts):
            calls.append(f"picture {prompt}")
            if calls.count(f"picture {PROMPTS[1]}") == 1 and prompt == PROMPTS[1]:
                raise KeyboardInterrupt
            draws.hand_over(row, pictures[row], draws.noise[0, row])
        return Reference(pictures, draws.noise[0], {"transformer": [0.5] * len(texts)})

    def make_text(prompt: str) -> dict[str, Any]:
        calls.append(f"text {prompt}")
        return {"length": np.uint8(len(prompt))}

    monkeypatch.setattr(reference_cache, "draw_reference", draw)
    monkeypatch.setattr(kept, "LEAST_SECONDS", 0.0)
    draws = Draws(PROMPTS, make_noise(0, 1, 3, tiny_student.latent_shape), 4.5)
    with pytest.raises(KeyboardInterrupt):
        recall_reference(tiny_student, draws, unfinished=Kept("unfinished"))
    before = len(calls)
    found = recall_reference(tiny_student, draws, unfinished=Kept("unfinished"))
    assert calls[before:] == [f"picture {prompt}" for prompt in PROMPTS[1:]], "the first picture and all texts were kept"
    assert found.pictures[:, 0, 0, 0].tolist() == [len(prompt) for prompt in PROMPTS]
    np.testing.assert_array_equal(found.latents, draws.noise[0])


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: data[:99] + bytes([data[99] ^ 1]) + data[100:], lambda d: b""]
)
def test_a_damaged_file_is_drawn_again(tiny_student: Student, drawer: Drawer, damage: Any) -> None:
    whole = recall(tiny_student, 1)
    (path,) = Kept(KIND).folder.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    again = recall(tiny_student, 1)
    assert drawer.drawn == [PROMPTS[0]] * 2
    np.testing.assert_array_equal(again.pictures, whole.pictures)
    assert recall(tiny_student, 1).seconds == {}, "and is whole from then on"


def test_a_timed_run_draws_all(tiny_student: Student, drawer: Drawer) -> None:
    recall(tiny_student, 2)
    assert recall(tiny_student, 2, is_fresh=True).seconds == {"transformer": [0.5, 0.5]}


def test_the_oldest_leave_where_there_are_too_many_but_none_that_this_run_needs(
    tiny_student: Student, drawer: Drawer, monkeypatch: pytest.MonkeyPatch
) -> None:
    recall(tiny_student, 2)
    old, young = sorted(Kept(KIND).folder.iterdir())
    os.utime(old, (1, 1))
    monkeypatch.setattr(kept, "MOST_BYTES", 2 * young.stat().st_size)
    recall(tiny_student, 1, guidance=5.0)
    assert not old.exists()
    assert young.exists()
    recall(tiny_student, 3, guidance=6.0)
    assert not young.exists()
    drawn = len(drawer.drawn)
    assert recall(tiny_student, 3, guidance=6.0).seconds == {}
    assert len(drawer.drawn) == drawn, "three are more than the bound; this run needs them all"


def test_a_cache_that_cannot_be_written_keeps_nothing(
    tiny_student: Student, drawer: Drawer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPRINT_EXPORT_CACHE", "/dev/null/x")
    first, second = recall(tiny_student, 1), recall(tiny_student, 1)
    np.testing.assert_array_equal(first.pictures, second.pictures)
    assert drawer.drawn == [PROMPTS[0]] * 2
