"""Qwen-Image's transformer at fixed times beside the stock one in float64, with TwinFlow's time formula written out here."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from diffusers.models.normalization import RMSNorm

from sprint_export.nouns.student import Component
from sprint_export.students.networks.qwen_image import OneStepQwenImage, make_qwen_image, tabulate_rotations
from sprint_export.students.twinflow_qwen.folds import fold_transformer
from sprint_export.weights import Handle, check_fit, constant, materialize, random_handle
from tests.students.doubles import in_double

EXACT = 1e-12
CONFIG = {
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 4,
    "num_layers": 3,
    "attention_head_dim": 16,
    "num_attention_heads": 3,
    "joint_attention_dim": 20,
    "axes_dims_rope": (4, 6, 6),
}
SIDES, TEXT, LENGTH = (12, 8), 9, 5  # latents, rows of text, and how many of them are a prompt's
WIDTH = 48


@pytest.fixture
def _double() -> Any:
    """The stock code without its float32 islands (rotations, norms), which would hide a mistake below 1e-7."""
    single = torch.Tensor.float

    def norm(self: Any, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))
        return y

    with (
        mock.patch.object(torch.Tensor, "float", lambda self: self if self.dtype == torch.float64 else single(self)),
        mock.patch.object(RMSNorm, "forward", norm),
    ):
        yield


def make_weights(stock: torch.nn.Module) -> dict[str, Handle]:
    shapes = {name: tuple(value.shape) for name, value in stock.state_dict().items()}
    return {name: in_double(random_handle(name, s, 0.25, float("norm" in name))) for name, s in shapes.items()}


class Released(torch.nn.Module):
    """The wrapper's temb = E1(t) + E2(tt) (t - tt) with tt = 0, in the stock module's place."""

    def __init__(self, first: Any, second: Any) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, timestep: torch.Tensor, hidden: torch.Tensor, *_: Any) -> torch.Tensor:
        time = timestep.to(torch.float32)  # as the sinusoids are made of in every pipeline
        temb: torch.Tensor = self.first(time, hidden)
        return temb if self.second is None else temb + self.second(time * 0, hidden) * timestep[:, None]


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("times", [(1.0,), (1.0, 0.6015625), (0.75,)])
@pytest.mark.parametrize("has_second", [True, False])
def test_velocities_are_the_stock_ones(times: tuple[float, ...], has_second: bool) -> None:
    stock = make_qwen_image(CONFIG, has_second)
    weights = make_weights(stock)
    with torch.device("meta"):
        ours = OneStepQwenImage(CONFIG, len(times), SIDES, TEXT).eval()
    folded, notes = fold_transformer(Component("transformer", stock, weights), CONFIG, times)
    assert len(notes) == 2
    folded |= {name: constant(table.double()) for name, table in tabulate_rotations(CONFIG, (6, 4), TEXT).items()}
    check_fit(ours, folded, "ours")
    real: Any = materialize(ours, folded, torch.float64)
    wanted: Any = materialize(stock, weights, torch.float64)
    wanted.time_text_embed = Released(wanted.time_text_embed, getattr(wanted, "time_text_embed_2", None))
    x, text = torch.randn(2, 4, *SIDES, dtype=torch.float64), torch.randn(2, TEXT, 20, dtype=torch.float64)
    mask = (torch.arange(TEXT) < LENGTH).long().expand(2, -1)
    for step, s in enumerate(times):
        with torch.no_grad():
            found = real(x, text, mask, *([torch.tensor([step])] if len(times) > 1 else []))
            packed = x.view(2, 4, 6, 2, 4, 2).permute(0, 2, 4, 1, 3, 5).reshape(2, 24, 16)
            v = wanted(packed, text[:, :LENGTH], None, torch.full((2,), s, dtype=torch.float64), [[(1, 6, 4)]] * 2).sample
            stock_x0 = x - s * v.view(2, 6, 4, 4, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(x.shape)
        off = ((found - stock_x0).abs().max() / stock_x0.abs().max()).item()
        assert off <= EXACT, f"s = {s}: {off:.1e} of the largest value, tolerance {EXACT}"
        assert (x - stock_x0).std() > 0.1, "a velocity near zero proves nothing"
