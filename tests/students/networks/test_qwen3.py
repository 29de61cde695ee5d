"""The prompt encoder beside stock Qwen3 in float64: hidden_states[-2] with the template's beginning held, and without."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from transformers.models.qwen3 import modeling_qwen3

from sprint_export.students.networks.qwen3 import RESIDUAL, PromptEncoder, fold_encoder, make_qwen3
from sprint_export.weights import check_fit, materialize, random_handle
from tests.students.doubles import in_double

EXACT = 1e-12
CONFIG: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 40,
    "intermediate_size": 72,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rope_theta": 1e6,
    "max_position_embeddings": 256,
}
IDS = (3, 59, 7, 1, 22, 22, 40, 8, 0, 0)


@pytest.fixture
def _double() -> Iterator[None]:
    """Qwen3 without its float32 islands, which would hide a mistake below 1e-7."""
    softmax, single = torch.nn.functional.softmax, torch.Tensor.float

    def norm(self: Any, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))
        return found

    with (
        mock.patch.object(modeling_qwen3.Qwen3RMSNorm, "forward", norm),
        mock.patch.object(torch.nn.functional, "softmax", lambda x, dim, dtype: softmax(x, dim=dim)),
        mock.patch.object(torch.Tensor, "float", lambda self: self if self.dtype == torch.float64 else single(self)),
    ):
        yield


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("held", [0, 3])
@pytest.mark.parametrize("bias", [False, True])
def test_rows_are_the_last_layers_but_one(held: int, bias: bool) -> None:
    stock = make_qwen3(CONFIG | {"attention_bias": bias})
    weights = {
        name: in_double(random_handle(name, tuple(value.shape), 0.3, float("norm" in name)))
        for name, value in stock.state_dict().items()
    }
    layers, tokens = CONFIG["num_hidden_layers"] - 1, len(IDS)
    ours = PromptEncoder(stock, layers, tokens, held).eval()
    folded = fold_encoder(stock, weights, layers, tokens, IDS[:held])
    check_fit(ours, folded, "ours")
    assert not any(name.startswith(f"layers.{layers}.") for name in folded), "the last layer is not read"
    real: Any = materialize(ours, folded, torch.float64)
    wanted: Any = materialize(stock, weights, torch.float64)
    with torch.no_grad():
        rows = real(torch.tensor([IDS[held:]])) * RESIDUAL
        stock_rows = wanted(torch.tensor([IDS]), output_hidden_states=True).hidden_states[-2]
    assert rows.shape == stock_rows.shape == (1, tokens, CONFIG["hidden_size"])
    assert (rows - stock_rows).abs().max() <= EXACT * stock_rows.abs().max()
    assert stock_rows.abs().max() > 1, "rows near zero prove nothing"
