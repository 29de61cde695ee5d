"""Prompts to ids, noise, pixels, and the whole chain beside the stock SanaSprintPipeline."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor

from sprint_export.errors import BundleError, InputError
from sprint_export.noise import make_noise
from sprint_export.nouns.student import Student
from sprint_export.prompt_reader import PromptReader
from sprint_export.session import Pipeline, check_ids, to_uint8
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.students.sana_sprint.reference import make_reference
from tests.made_student import PREFIX, PROMPTS, draw_stock, open_torch, relative_error

TEXTS = {
    "plain": "a red circle above a blue square",
    "upper case": "A RED Circle ABOVE a BLUE Square",
    "spaces": "   a red   circle \n",
    "empty": "",
    "long": "a small red circle above the large blue square " * 60,
    "unicode": "ein grüner Kreis über dem 青い四角 🙂 İstanbul",
}


@pytest.fixture(scope="module", params=["made", "sprint-tiny"])
def student(request: pytest.FixtureRequest, made: Student) -> Student:
    return made if request.param == "made" else load_student("sprint-tiny")


@pytest.fixture(scope="module")
def stock(student: Student) -> Any:
    pipeline = make_reference(student)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def reader_of(student: Student) -> PromptReader:
    return PromptReader(student.prompt, student.tokenizer / "tokenizer.json")


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_ids_and_mask_are_the_stock_pipelines(student: Student, stock: Any, text: str) -> None:
    seen: list[np.ndarray] = []
    hook = stock.text_encoder.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].numpy()))
    with torch.no_grad():
        _, mask = stock.encode_prompt(text, complex_human_instruction=PREFIX.split("\n"))
    hook.remove()
    ids, found_mask = reader_of(student).read([text])
    assert ids.dtype == found_mask.dtype == np.int64
    np.testing.assert_array_equal(ids, seen[0])
    np.testing.assert_array_equal(found_mask, mask.numpy())


def test_the_long_prompt_fills_every_position_and_the_empty_one_does_not(made: Student) -> None:
    _, mask = reader_of(made).read([TEXTS["long"], ""])
    assert mask[0].all(), "the long prompt should be cut, not padded"
    assert not mask[1].all()
    assert made.prompt.tokens > made.prompt.keep, "the made student's prefix must be long enough to be dropped"


def test_prompts_of_a_batch_do_not_touch_each_other(made: Student) -> None:
    reader, texts = reader_of(made), list(TEXTS.values())
    together = reader.read(texts)
    alone = [reader.read([text]) for text in texts]
    for part in (0, 1):
        np.testing.assert_array_equal(together[part], np.concatenate([pair[part] for pair in alone]))


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_made_student_draws_what_diffusers_draws(made: Student, steps: int) -> None:
    """One step is folded, more gather a table; the noise is the same, unit variance, on either side."""
    pipe = open_torch(specialize_student(made, steps))
    noise = make_noise(5, steps, 1, made.latent_shape)
    reference = make_reference(made)
    reference.set_progress_bar_config(disable=True)
    wanted_latents, wanted = draw_stock(reference, PROMPTS[0], noise, 64)
    seen: list[np.ndarray] = []
    decode = pipe.sessions["vae_decoder"].run

    def noting(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        seen.append(feeds["latents"])
        return decode(feeds)

    pipe.sessions["vae_decoder"].run = noting  # type: ignore[method-assign]
    picture = pipe([PROMPTS[0]], noise=noise)
    deviation = relative_error(seen[0], wanted_latents)
    assert deviation <= 1e-5, f"latents deviate by {deviation:.2e} of their range, tolerance 1e-5"
    assert picture.shape == wanted.shape == (1, 64, 64, 3)
    assert wanted.std() > 10, "a flat picture proves nothing"
    off = int(np.abs(picture.astype(int) - wanted).max())
    assert off <= 1, f"a pixel is off by {off} of 255, tolerance 1 (rounding)"


@pytest.mark.parametrize("steps", [2, 4])
def test_the_tiny_student_draws_what_diffusers_draws(tiny_student: Student, steps: int) -> None:
    pipe = open_torch(specialize_student(tiny_student, steps))
    noise = make_noise(1, steps, 1, tiny_student.latent_shape)
    reference = make_reference(tiny_student)
    reference.set_progress_bar_config(disable=True)
    _, wanted = draw_stock(reference, PROMPTS[1], noise, 32)
    off = int(np.abs(pipe([PROMPTS[1]], noise=noise).astype(int) - wanted).max())
    assert wanted.std() > 10, "a flat picture proves nothing"
    assert off <= 1, f"a pixel is off by {off} of 255, tolerance 1 (rounding)"


@pytest.fixture(scope="module")
def pipe(tiny_student: Student) -> Pipeline:
    return open_torch(specialize_student(tiny_student))


def test_a_batch_is_its_prompts_alone(pipe: Pipeline) -> None:
    together = pipe(PROMPTS, seed=3)
    assert together.shape == (2, 32, 32, 3)
    assert together.dtype == np.uint8
    np.testing.assert_array_equal(together[1:], pipe(PROMPTS[1:], seed=4))
    assert not np.array_equal(together[0], together[1])


def test_given_noise_is_the_noise_of_the_seed(pipe: Pipeline) -> None:
    noise = make_noise(7, 1, 2, pipe.latent_shape)
    drawn = pipe(PROMPTS, seed=7)
    np.testing.assert_array_equal(drawn, pipe(PROMPTS, noise=noise))
    np.testing.assert_array_equal(drawn, pipe(PROMPTS, noise=noise[0]))
    assert not np.array_equal(drawn, pipe(PROMPTS, seed=8))


def test_seconds_are_kept_by_component(pipe: Pipeline) -> None:
    before = {role: len(times) for role, times in pipe.seconds.items()}
    pipe(PROMPTS)
    assert {role: len(times) - before.get(role, 0) for role, times in pipe.seconds.items()} == {
        "text_encoder": 2,
        "transformer": 2,
        "vae_decoder": 2,
    }


@pytest.mark.parametrize("prompts", ["a red circle", [], ()])
def test_prompts_are_a_list(pipe: Pipeline, prompts: Any) -> None:
    with pytest.raises(InputError, match=f"{re.escape(repr(prompts))}: expected a non-empty list"):
        pipe(prompts)


def test_noise_of_another_shape_names_both(pipe: Pipeline) -> None:
    with pytest.raises(InputError, match=r"shape \(1, 8, 16, 15\), expected .* = \(1, 1, 8, 16, 16\) or \(1, 8, 16, 16\)"):
        pipe(["a"], noise=np.zeros((1, 8, 16, 15), np.float32))


def test_noise_of_a_picture_depends_on_its_own_seed_only() -> None:
    noise = make_noise(10, 2, 3, (4, 8, 8))
    assert noise.shape == (2, 3, 4, 8, 8)
    assert noise.dtype == np.float32
    np.testing.assert_array_equal(noise[:, 1:], make_noise(11, 2, 2, (4, 8, 8)))
    assert not np.array_equal(noise[0, 0], noise[1, 0])
    assert make_noise(0, 1, 1, (32, 32, 32)).std() == pytest.approx(1.0, abs=0.02)


def test_pixels_are_rounded_and_clipped_as_diffusers_does() -> None:
    image = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    wanted = VaeImageProcessor().postprocess(torch.from_numpy(image), "np")
    np.testing.assert_array_equal(
        to_uint8(image), VaeImageProcessor.numpy_to_pil(wanted) and np.rint(wanted * 255).astype("uint8")
    )
    extremes = np.array([-9.0, -1.0, 1.0, 9.0], np.float32).reshape(1, 1, 2, 2).repeat(3, 1)
    assert to_uint8(extremes)[0, :, :, 0].tolist() == [[0, 0], [255, 255]]


@pytest.mark.parametrize("seed", [-1, None, 1.5, "1", True, 2**64])
def test_a_seed_is_a_whole_number_of_64_bits(seed: object) -> None:
    with pytest.raises(InputError, match=re.escape(f"seed={seed!r}: expected a whole number from 0 to 2^64 - 1")):
        make_noise(seed, 1, 1, (1, 2, 2))  # type: ignore[arg-type]  # what a caller may hand over


def test_a_seed_may_be_numpys() -> None:
    int_like: Any = np.int64(3)
    assert np.array_equal(make_noise(int_like, 1, 1, (1, 2, 2)), make_noise(3, 1, 1, (1, 2, 2)))


class Spoiled:
    """A session whose outputs have one value that is no number."""

    def __init__(self, inner: Any, value: float) -> None:
        self.inner, self.value, self.description = inner, value, inner.description

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = {name: np.array(values) for name, values in self.inner.run(feeds).items()}
        for values in found.values():
            values.flat[values.size // 2] = self.value
        return found


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("role", ["text_encoder", "transformer", "vae_decoder"])
@pytest.mark.filterwarnings("error")
def test_what_is_no_number_is_an_error_and_never_a_picture(pipe: Pipeline, role: str, value: float) -> None:
    sessions = dict(pipe.sessions) | {role: Spoiled(pipe.sessions[role], value)}
    with pytest.raises(BundleError, match=rf"{role} gave 1 of \d+ values of '\w+' that are NaN or infinite"):
        pipe.over(sessions)(PROMPTS[:1])


@pytest.mark.filterwarnings("error")
def test_pixels_are_numbers() -> None:
    with pytest.raises(BundleError, match="the decoder gave 1 of 12 values of 'image' that are NaN or infinite"):
        to_uint8(np.array([0.0] * 11 + [float("nan")], np.float32).reshape(1, 3, 2, 2))


def test_ids_beyond_the_text_encoders_table_are_said(pipe: Pipeline) -> None:
    check_ids(np.array([[0, 63]]), 64)
    check_ids(np.array([[0, 10**6]]), 0)  # a vocabulary that is not known
    for ids in ([[0, 64]], [[-1, 3]]):
        with pytest.raises(BundleError, match=r"the tokenizer gives ids from .*, the text encoder knows 0 to 63"):
            check_ids(np.array(ids), 64)
    assert pipe.reader.plan.vocabulary == 64, "the student's own number of words"
    small = dataclasses.replace(pipe.reader.plan, vocabulary=3)
    reader = PromptReader(small, load_student("sprint-tiny").tokenizer / "tokenizer.json")
    with pytest.raises(BundleError, match="the text encoder knows 0 to 2"):
        dataclasses.replace(pipe, reader=reader)(PROMPTS[:1])
