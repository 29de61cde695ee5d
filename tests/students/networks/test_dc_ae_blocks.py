"""DC-AE's decoder of our blocks is diffusers' decoder: on the students of the tests, on odd configs, at every border."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_dc import DCUpBlock2d
from diffusers.models.normalization import RMSNorm
from torch.utils.flop_counter import FlopCounterMode

from sprint_export.export.to_onnx.writer import make_graph
from sprint_export.nouns.student import Student
from sprint_export.specialize import specialize_student
from sprint_export.students.networks.dc_ae import LatentDecoder, fold_decoder, make_autoencoder
from sprint_export.students.networks.dc_ae_blocks import ChannelNorm, Upsample, fold_weights
from sprint_export.weights import check_fit, constant, materialize
from tests.made_student import VAE

ODD: dict[str, dict[str, Any]] = {
    "as the made student": {},
    "pixel shuffles": {"upsample_block_type": "pixel_shuffle"},
    "a first level without blocks": {"decoder_layers_per_block": (0, 1, 1)},
    "batch norms and other activations": {
        "decoder_norm_types": ("batch_norm", "rms_norm", "rms_norm"),
        "decoder_act_fns": ("relu", "silu", "silu"),
        "decoder_conv_act_fn": "silu",
    },
    "two scales of attention": {"decoder_qkv_multiscales": ((), (), (3, 5))},
    "no scale but the pixel": {"decoder_qkv_multiscales": ((), (), ())},
}


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    assert found.shape == wanted.shape
    return float((found.double() - wanted.double()).abs().max() / wanted.double().abs().max())


@pytest.mark.parametrize("changes", ODD.values(), ids=ODD.keys())
def test_the_decoder_is_diffusers(changes: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    meta = make_autoencoder(VAE | changes)
    state = {k: v for k, v in meta.state_dict().items() if k.startswith("decoder.")}
    weights = {
        name: constant(0.2 * torch.randn(value.shape, generator=generator, dtype=torch.float64).abs() + 0.05)
        if name.endswith("running_var")
        else constant((torch.randn(value.shape, generator=generator) / max(value[0].numel(), 9) ** 0.5).double())
        for name, value in state.items()
        if value.ndim
    }
    latents = torch.randn(2, 4, 6, 10, generator=generator, dtype=torch.float64)
    stock = materialize(meta, weights, torch.float64)
    decoder = LatentDecoder(make_autoencoder(VAE | changes))
    folded, _ = fold_decoder(weights, decoder, (4, 6, 10))
    ours = materialize(decoder, folded, torch.float64)
    with torch.no_grad():
        wanted = stock.decoder(latents / VAE["scaling_factor"])  # type: ignore[operator]  # a module
        found = ours(latents)
    # diffusers takes means and attention's sums in float32 even here; float32 resolves 6e-8, and the norms follow one another
    assert relative(found, wanted) < 2e-6, f"{relative(found, wanted):.1e}, at most 2e-6"


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (5, 3), (8, 8)])
@pytest.mark.parametrize("interpolate", [True, False])
@pytest.mark.parametrize(("channels", "out", "shortcut"), [(8, 8, True), (8, 4, True), (6, 3, False)])
def test_upsampling_is_exact_to_the_border(
    size: tuple[int, int], interpolate: bool, channels: int, out: int, shortcut: bool
) -> None:
    torch.manual_seed(0)
    stock = DCUpBlock2d(channels, out, interpolate=interpolate, shortcut=shortcut).double()
    ours = Upsample(stock).double()
    root = torch.nn.Sequential(ours)
    weights = {f"0.{name}": constant(value) for name, value in stock.state_dict().items()}
    folded = fold_weights(root, weights)
    check_fit(root, folded, "upsampling")
    x = torch.randn(2, channels, *size, dtype=torch.float64)
    with torch.no_grad():
        found, wanted = materialize(root, folded, torch.float64)(x), stock(x)
    assert relative(found, wanted) < 1e-14, f"{relative(found, wanted):.1e}, at most 1e-14"


def test_folded_upsampling_multiplies_four_ninths() -> None:
    with torch.device("meta"):
        stock = DCUpBlock2d(64, 64, interpolate=True)
        counted = []
        for module in (stock, Upsample(stock)):
            with FlopCounterMode(display=False) as counter:
                module(torch.empty(1, 64, 512, 512))
            counted.append(counter.get_total_flops())
    assert counted[1] / counted[0] == pytest.approx(4 / 9, rel=0.005), "4/9, and one row and column more"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_norm_over_axis_1_rounds_as_diffusers_does(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    stock = RMSNorm(32, 1e-5, bias=True).to(dtype)
    for parameter in stock.parameters():
        parameter.data += torch.randn(32, generator=generator).to(dtype)
    x = (20 * torch.randn(2, 32, 3, 5, generator=generator)).to(dtype)
    with torch.no_grad():
        found, wanted = ChannelNorm(stock)(x), stock(x.movedim(1, -1)).movedim(-1, 1)
    tolerance = {torch.float64: 1e-7, torch.float32: 1e-6, torch.bfloat16: 0.0}[dtype]  # diffusers' mean is float32's
    assert relative(found, wanted) <= tolerance, f"{relative(found, wanted):.1e}, at most {tolerance:.0e}"


def test_bfloat16_loses_no_more_than_with_attention_in_float32(tiny_student: Student) -> None:
    """Sums over all positions are accumulated wider than they are stored, so a float32 island buys nothing."""
    stock, ours = tiny_student.components["vae_decoder"], specialize_student(tiny_student).components["vae_decoder"]
    latents = torch.randn(2, *tiny_student.latent_shape, generator=torch.Generator().manual_seed(0))
    scaled = latents / tiny_student.configs["vae_decoder"]["scaling_factor"]
    with torch.no_grad():
        wanted = materialize(stock.module, stock.weights, torch.float64).decode(scaled.double()).sample  # type: ignore[operator]
        plain = materialize(stock.module, stock.weights, torch.bfloat16).decode(scaled.bfloat16()).sample  # type: ignore[operator]
        found = materialize(ours.module, ours.weights, torch.bfloat16)(latents)
    lost, before = ((value.double() - wanted).square().mean().sqrt().item() for value in (found, plain))
    assert lost <= 1.1 * before, f"root mean square error {lost:.2e}, diffusers' in bfloat16 {before:.2e}"


def test_every_weight_is_still_to_be_loaded(tiny_student: Student) -> None:
    """A parameter with values of its own would be taken for a constant, and exported in place of the weight."""
    module = specialize_student(tiny_student).components["vae_decoder"].module
    assert {parameter.device.type for parameter in module.parameters()} == {"meta"}


def test_the_graph_moves_no_data_for_a_norm(tiny_student: Student) -> None:
    graph = make_graph(specialize_student(tiny_student).components["vae_decoder"], "fp32").graph
    count = Counter(node.op_type for node in graph)
    assert count["Transpose"] == 1, "the keys of the one linear attention"
    assert count["Resize"] == 0
    assert count["DepthToSpace"] == 2, "the upsampling and its shortcut"
