"""One value in every layout that a graph may hold it in is the same matrix, whole and thinned."""

from __future__ import annotations

import numpy as np
import pytest

from sprint_export.validate.blocks import layout
from sprint_export.validate.blocks.layout import Array, Layout, arrange_torch, list_layouts

TOKENS = np.random.default_rng(0).standard_normal((1, 12, 5)).astype(np.float32)  # [B, h w, D], h w = 3 x 4
FORMS = {
    "tokens": TOKENS,
    "channels first": TOKENS.transpose(0, 2, 1),
    "a picture": TOKENS.transpose(0, 2, 1).reshape(1, 5, 3, 4),
    "a picture, channels last": TOKENS.reshape(1, 3, 4, 5),
    "a row": TOKENS.transpose(0, 2, 1).reshape(1, 5, 1, 12),
    "no batch": TOKENS[0],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("most", [1 << 18, 20])
def test_a_value_is_the_same_matrix_in_every_layout(form: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "MOST_VALUES", most)
    value = FORMS[form]
    [found] = list_layouts("v", value.shape, TOKENS.shape)
    assert (found.step > 1) == (most < TOKENS.size)
    sampled = value[(*(slice(None),) * found.axis, slice(None, None, found.step))]
    assert sampled.size <= max(most, TOKENS.size // 2), "what is asked of the graph is small"
    np.testing.assert_array_equal(found.arrange(sampled), arrange_torch(TOKENS)[found.list_positions()])


def test_a_picture_of_torch_is_positions_by_channels() -> None:
    picture = FORMS["a picture"]
    np.testing.assert_array_equal(arrange_torch(picture), TOKENS[0])
    [found] = list_layouts("v", (1, 3, 4, 5), picture.shape)
    np.testing.assert_array_equal(found.arrange(FORMS["a picture, channels last"]), TOKENS[0])


@pytest.mark.parametrize(
    "value", [TOKENS, FORMS["a picture"], FORMS["no batch"], np.concatenate([FORMS["a picture"], 2 * FORMS["a picture"]])]
)
def test_some_positions_of_torch_are_those_of_all(value: Array) -> None:
    whole = arrange_torch(value)
    chosen = np.arange(0, len(whole), 5)
    np.testing.assert_array_equal(arrange_torch(value, chosen), whole[chosen])
    np.testing.assert_array_equal(whole[-1], value[-1, :, -1, -1] if value.ndim == 4 else value.reshape(-1, 5)[-1])


def test_every_axis_that_may_be_the_channels_is_tried() -> None:
    assert [found.channels for found in list_layouts("v", (1, 8, 8), (1, 8, 8))] == [1, 2]


@pytest.mark.parametrize("shape", [(1, 12, 4), (5,), (1, 2, 12, 5), (None, None, None, 5)])
def test_a_value_of_another_size_is_no_layout(shape: tuple[int | None, ...]) -> None:
    assert list(list_layouts("v", shape, (1, 12, 5))) == []


def test_free_sizes_are_filled_in() -> None:
    assert list(list_layouts("v", (None, 12, 5), (1, 12, 5))) == [Layout("v", (1, 12, 5), 2, 1, 1)]
    assert list(list_layouts("v", (1, 5, None, None), (1, 5, 3, 4))) == [Layout("v", (1, 5, 3, 4), 1, 3, 1)]
    assert list(list_layouts("v", (1, 5, None, None), (1, 12, 5))) == [Layout("v", (1, 5, 1, 12), 1, 3, 1)]


def test_positions_of_unknown_sides_are_not_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "MOST_VALUES", 20)
    assert list(list_layouts("v", (1, 5, None, None), (1, 12, 5))) == []


def test_a_size_that_was_filled_in_has_to_be_the_value_s() -> None:
    """Of two streams of one width, the graph's value of the other one has other sizes once it is read."""
    [rows] = list_layouts("v", (1, None, 5), (1, 12, 5))
    assert [rows.fits(np.zeros(shape)) for shape in ((12, 5), (9, 5), (12, 4))] == [True, False, False]
    thinned = Layout("v", (1, 12, 5), 2, 1, 5)
    assert thinned.fits(thinned.arrange(np.zeros((1, 3, 5))))
    assert not thinned.fits(thinned.arrange(np.zeros((1, 2, 5))))
