"""The 2-D decoder beside the stock autoencoder decoding one frame, in float64, with the pipeline's mean and deviation."""

from __future__ import annotations

from typing import Any
from unittest import mock

import torch

from sprint_export.students.networks.qwen_image_vae import LatentPainter, fold_painter, make_qwen_autoencoder
from sprint_export.weights import check_fit, materialize, random_handle
from tests.students.doubles import in_double

EXACT = 1e-12
CONFIG = {
    "base_dim": 8,
    "z_dim": 4,
    "dim_mult": (1, 2, 4),
    "num_res_blocks": 1,
    "temperal_downsample": (False, True),
    "latents_mean": (0.1, -0.7, 0.4, 1.5),
    "latents_std": (2.8, 1.4, 2.3, 0.6),
}


def test_a_frame_is_the_stock_decoders() -> None:
    stock = make_qwen_autoencoder(CONFIG)
    weights = {}
    for name, value in stock.state_dict().items():
        fan_in = max(value[0].numel(), 1) if value.ndim > 3 else 400
        std = 0.3 if name.endswith("gamma") else fan_in**-0.5
        weights[name] = in_double(random_handle(name, tuple(value.shape), std, float(name.endswith("gamma"))))
    ours = LatentPainter(stock).eval()
    folded = fold_painter(weights, ours, CONFIG)
    check_fit(ours, folded, "ours")
    real: Any = materialize(ours, folded, torch.float64)
    wanted: Any = materialize(stock, weights, torch.float64)
    latents = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    mean, deviation = (torch.tensor(CONFIG[f"latents_{kind}"], dtype=torch.float64).view(1, 4, 1, 1) for kind in ("mean", "std"))
    single = torch.Tensor.float  # the stock decoder doubles pictures in float32
    with torch.no_grad(), mock.patch.object(torch.Tensor, "float", lambda x: x if x.dtype == torch.float64 else single(x)):
        found = real.decoder(real.post_quant_conv(latents))
        image = wanted.decoder(  # not `decode`, which clips; feat_cache as for a first frame
            wanted.post_quant_conv((latents * deviation + mean)[:, :, None]), feat_cache=[None] * 64, feat_idx=[0]
        )[:, :, 0]
        clipped = wanted.decode((latents * deviation + mean)[:, :, None]).sample[:, :, 0]
    assert found.shape == image.shape == (2, 3, 20, 24)
    off = ((found - image).abs().max() / image.abs().max()).item()
    assert off <= EXACT, f"{off:.1e} of the largest value, tolerance {EXACT}"
    torch.testing.assert_close(found.clamp(-1, 1), clipped, rtol=0, atol=1e-12)
    assert image.std() > 0.1, "a flat picture proves nothing"
