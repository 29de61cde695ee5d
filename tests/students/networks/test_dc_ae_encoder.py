"""DC-AE's encoder of our blocks is diffusers' encoder, scaled; on the students of the tests and on odd configs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sprint_export.students.networks.dc_ae import make_autoencoder
from sprint_export.students.networks.dc_ae_encoder import LatentEncoder, fold_encoder
from sprint_export.weights import check_fit, constant, materialize
from tests.made_student import VAE

ODD: dict[str, dict[str, Any]] = {
    "as the made student": {},
    "blocks on every level": {"encoder_layers_per_block": (1, 1, 2)},
    "pixel shuffles": {"downsample_block_type": "pixel_unshuffle"},
    "no shortcut at the end": {"encoder_out_shortcut": False},
    "two scales of attention": {"encoder_qkv_multiscales": ((), (), (3, 5))},
}


@pytest.mark.parametrize("changes", ODD.values(), ids=ODD.keys())
def test_the_encoder_is_diffusers(changes: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    meta = make_autoencoder(VAE | changes)
    weights = {
        name: constant((torch.randn(value.shape, generator=generator) / max(value[0].numel(), 9) ** 0.5).double())
        for name, value in meta.state_dict().items()
        if name.startswith("encoder.")
    }
    image = torch.randn(2, 3, 24, 40, generator=generator, dtype=torch.float64)
    encoder = LatentEncoder(make_autoencoder(VAE | changes))
    folded, notes = fold_encoder(weights, encoder, (3, 24, 40))
    check_fit(encoder, folded, "encoder")
    with torch.no_grad():
        wanted = materialize(meta, weights, torch.float64).encode(image).latent * VAE["scaling_factor"]  # type: ignore[operator]
        found = materialize(encoder, folded, torch.float64)(image)
    assert found.shape == wanted.shape == (2, 4, 6, 10)
    assert notes == (f"range: {changes.get('encoder_layers_per_block', (0, 1, 1))[2]} linear attentions sum means",)
    off = float((found - wanted).abs().max() / wanted.abs().max())
    # diffusers takes means and attention's sums in float32 even here
    assert off < 2e-6, f"{off:.1e}, at most 2e-6"
