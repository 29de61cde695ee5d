"""The prompt encoder beside Qwen2.5-VL's own language model in float64, with the template's beginning held, and without."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from transformers import Qwen2_5_VLTextConfig
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as stock_code

from sprint_export.students.networks.qwen2_5 import RowsEncoder, fold_rows, make_qwen2, name_weights
from sprint_export.weights import check_fit, constant, materialize, random_handle
from tests.students.doubles import in_double

EXACT = 1e-12
CONFIG = {
    "vocab_size": 60,
    "hidden_size": 48,
    "intermediate_size": 72,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rope_theta": 1e6,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 256,
}
VISION = {"rope_scaling": {"mrope_section": [2, 2, 2], "rope_type": "default", "type": "default"}}
IDS = (3, 59, 7, 1, 22, 22, 40, 8, 0, 0)


@pytest.fixture
def _double() -> Iterator[None]:
    """The stock code without its float32 islands, which would hide a mistake below 1e-7."""
    softmax, single = torch.nn.functional.softmax, torch.Tensor.float

    def norm(self: Any, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))
        return y

    with (
        mock.patch.object(stock_code.Qwen2RMSNorm, "forward", norm),
        mock.patch.object(torch.nn.functional, "softmax", lambda x, dim, dtype: softmax(x, dim=dim)),
        mock.patch.object(torch.Tensor, "float", lambda self: self if self.dtype == torch.float64 else single(self)),
    ):
        yield


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("held", [0, 3])
def test_rows_are_the_last_hidden_state_behind_the_template(held: int) -> None:
    with torch.device("meta"):
        stock = stock_code.Qwen2_5_VLTextModel(Qwen2_5_VLTextConfig(**CONFIG, **VISION, attn_implementation="eager")).eval()
    stock.rotary_emb = stock_code.Qwen2_5_VLRotaryEmbedding(stock.config)
    weights = {
        name: in_double(random_handle(name, tuple(value.shape), 0.3, float("norm" in name)))
        for name, value in stock.state_dict().items()
    }
    model, tokens, keep = make_qwen2(CONFIG), len(IDS), 7
    ours = RowsEncoder(model, tokens, keep, held).eval()
    folded = fold_rows(model, weights, tokens, IDS[:held])
    check_fit(ours, folded, "ours")
    real, wanted = materialize(ours, folded, torch.float64), materialize(stock, weights, torch.float64)
    with torch.no_grad():
        rows = real(torch.tensor([IDS[held:]]))
        stock_rows = wanted(torch.tensor([IDS]), output_hidden_states=True).hidden_states[-1][:, -keep:]
    assert rows.shape == stock_rows.shape == (1, keep, CONFIG["hidden_size"])
    off = ((rows - stock_rows).abs().max() / stock_rows.abs().max()).item()
    assert off <= EXACT, f"{off:.1e} of the largest value, tolerance {EXACT}"
    assert stock_rows.abs().max() > 1, "rows near zero prove nothing"


@pytest.mark.parametrize("start", ["", "model.", "model.language_model.", "language_model."])
def test_names_of_every_transformers_are_one(start: str) -> None:
    value = constant(torch.zeros(1))
    named = {f"{start}norm.weight": value, f"{start}layers.0.mlp.up_proj.weight": value}
    unread = {"visual.blocks.0.norm1.weight": value, "model.visual.merger.ln_q.weight": value, "lm_head.weight": value}
    assert set(name_weights(named | unread)) == {"norm.weight", "layers.0.mlp.up_proj.weight"}
