"""AutoencoderKL's decoder beside diffusers' in float64: scaling and shift, the attention in the middle."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import Attention

from sprint_export.students.networks.autoencoder_kl import PixelDecoder, list_decoder_weights, make_autoencoder_kl
from sprint_export.weights import check_fit, materialize, random_handle
from tests.students.doubles import in_double

EXACT = 1e-12
CONFIG = {
    "block_out_channels": (16, 32, 32),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 8,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}


@pytest.mark.parametrize("changes", [{}, {"use_post_quant_conv": True, "shift_factor": None}, {"mid_block_add_attention": False}])
def test_it_draws_what_diffusers_draws(changes: dict[str, Any]) -> None:
    stock = make_autoencoder_kl(CONFIG | changes)
    weights = {
        name: in_double(random_handle(name, tuple(value.shape), 0.2, float(name.endswith("norm1.weight"))))
        for name, value in stock.state_dict().items()
    }
    ours = PixelDecoder(stock).eval()
    held = list_decoder_weights(weights)
    check_fit(ours, held, "ours")
    real: Any = materialize(ours, held, torch.float64)
    wanted: Any = materialize(stock, weights, torch.float64)
    latents = torch.randn(2, 4, 6, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        image = wanted.decode(latents / stock.config.scaling_factor + (stock.config.shift_factor or 0)).sample
        found = real.paint(latents)
    assert found.shape == (2, 3, 24, 40)
    assert image.std() > 0.1, "a flat picture proves nothing"
    assert (found - image).abs().max() <= EXACT * image.abs().max()
    assert not any(isinstance(module, Attention) for module in ours.modules()), "its form would be the installed torch's"
