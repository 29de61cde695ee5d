"""Noise of a seed: published vectors of its generator, quantiles of SciPy, moments, and bits that other languages must make."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
from scipy import special

from sprint_export.noise import CHUNK, find_quantile, make_calibration_noise, make_noise, make_normals, philox
from tests.make_noise_answers import FILE, PHILOX, list_answers


def read_words(text: str) -> tuple[int, ...]:
    return tuple(int(word, 16) for word in text.split())


@pytest.mark.parametrize(("counter", "key", "words"), PHILOX)
def test_philox_gives_the_published_words(counter: str, key: str, words: str) -> None:
    a, b, c, d = (np.array([word], np.uint64) for word in read_words(counter))
    first, second = read_words(key)
    assert tuple(int(word[0]) for word in philox((a, b, c, d), (first, second))) == read_words(words)


def test_quantiles_are_scipys() -> None:
    words = np.concatenate([np.arange(100), 2**31 + np.arange(-50, 50), 2**32 - 1 - np.arange(100)]).astype(np.float64)
    words = np.concatenate([words, np.random.default_rng(0).integers(0, 2**32, 200_000).astype(np.float64)])
    uniform = (words + 0.5) / 2.0**32
    wanted = special.ndtri(uniform)
    error = np.abs(find_quantile(uniform) / wanted - 1).max()
    assert error < 1e-12, error
    assert np.array_equal(find_quantile(uniform), -find_quantile(1 - uniform)), "both tails are one"


def test_the_first_values_are_quantiles_of_the_first_words() -> None:
    zero = np.zeros(1, np.uint64)
    words = [philox((np.array([n], np.uint64), zero, zero, zero), (3, 0)) for n in (0, 1)]
    uniform = (np.array(words, np.float64).ravel() + 0.5) / 2.0**32
    np.testing.assert_array_equal(make_normals(3, 8), special.ndtri(uniform).astype(np.float32))


def test_values_are_normal() -> None:
    """2^20 values: every moment within four of its standard errors, the share beyond 3 likewise, and the largest ones there."""
    values = make_normals(12, 1 << 20).astype(np.float64)
    n = len(values)
    assert abs(values.mean()) < 4 / n**0.5
    assert abs(values.var() - 1) < 4 * (2 / n) ** 0.5
    assert abs((values**3).mean()) < 4 * (15 / n) ** 0.5
    assert abs((values**4).mean() - 3) < 4 * (96 / n) ** 0.5
    share = 2 * special.ndtr(-3)
    assert abs((np.abs(values) > 3).mean() - share) < 4 * (share / n) ** 0.5
    assert 4.2 < np.abs(values).max() < 6.4


def test_neighbouring_seeds_and_steps_have_nothing_in_common() -> None:
    noise = make_noise(0, 2, 64, (4096,)).astype(np.float64).reshape(128, 4096)
    found = np.corrcoef(noise) - np.eye(128)
    assert np.abs(found).max() < 5.5 / 4096**0.5, np.abs(found).max()


@pytest.mark.parametrize("count", [1, 3, 4, 5, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 6])
def test_less_noise_is_the_beginning_of_more(count: int) -> None:
    assert np.array_equal(make_normals(7, count), make_normals(7, 3 * CHUNK)[:count])


def test_fewer_steps_are_the_beginning_of_more() -> None:
    assert np.array_equal(make_noise(7, 1, 2, (3, 5, 7)), make_noise(7, 4, 2, (3, 5, 7))[:1])
    assert np.array_equal(make_noise(7, 4, 1, (3, 5, 7)).ravel(), make_normals(7, 4 * 105))


def test_seeds_go_round_behind_the_last() -> None:
    last = make_noise(2**64 - 1, 1, 2, (6,))
    assert np.array_equal(last[:, 1:], make_noise(0, 1, 1, (6,)))
    assert not np.array_equal(make_normals(2**32, 6), make_normals(0, 6)), "the upper half counts"


def test_the_answers_for_other_languages_are_what_is_made() -> None:
    assert json.loads(FILE.read_text("utf-8")) == list_answers()


def test_a_megapixel_step_takes_a_moment() -> None:
    make_normals(0, 4)
    start = time.process_time()
    make_normals(0, 262_144)
    assert time.process_time() - start < 0.5, "0.03 s on the machine it was written on"


def test_calibration_keeps_numpys_generator() -> None:
    wanted = np.random.default_rng(6).standard_normal((2, 3), np.float32)
    noise: Any = make_calibration_noise(5, 2, 2, (3,))
    assert np.array_equal(noise[:, 1], wanted)
