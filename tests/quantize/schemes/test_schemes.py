"""The contract of every scheme: its numbers, what it packs and in how many bytes, what each target that offers it exports."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch

from sprint_export.export.exporter import load_exporter
from sprint_export.nouns.recipe import FLOAT_DTYPES, QuantizedLayer
from sprint_export.nouns.student import Component, TensorSpec
from sprint_export.nouns.target import Target
from sprint_export.quantize.scales import find_error, round_weight, split_weight
from sprint_export.quantize.schemes.scheme import Palette, Scheme, list_schemes, load_scheme
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.registry import list_members, load_member, load_target
from sprint_export.runtimes.runtime import load_runtime
from sprint_export.validate.images import psnr_arrays
from sprint_export.weights import random_handle

SCHEMES = list_schemes()
QUANTIZED = [name for name, scheme in SCHEMES.items() if scheme.is_quantized]
TARGETS: dict[str, Target] = {name: load_target(name) for name in list_members("target")}
OFFERS = [(name, alias) for name, target in TARGETS.items() for alias, offer in target.offers.items() if offer.is_quantized]
LIBRARIES = {"coreml": "coremltools", "coreai": "coreai_torch", "openvino": "openvino", "trt": "onnx"} | dict.fromkeys(
    ("onnx", "gpu", "web"), "onnx"
)
RUNTIMES = {"trt": "onnx", "gpu": "onnx", "web": "onnx", "coreml": "coreml-checker"}
MIN_PSNR_DB = 45.0  # a graph in 16 bits against float32 arithmetic; INT8 kernels may round a tie the other way
X, Y = TensorSpec("x", "float32", (1, 8, 64), "in"), TensorSpec("y", "float32", (1, 8, 64), "out")


def make_layer(scheme: Scheme, dtype: str = "fp32", group: int = 16) -> QuantizedLayer:
    is_measured = scheme.inputs is not None and not scheme.inputs.is_dynamic
    fitted = scheme.fit_group((64, 64), group)
    return QuantizedLayer(scheme.name, 3.0 if is_measured else None, scheme.weight_axis, dtype, fitted)


def make_weight(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 0.1


def test_there_are_schemes() -> None:
    assert {"fp32", "fp16", "bf16", "w8a8", "w8a16", "w4a16", "fp8"} <= set(SCHEMES)


@pytest.mark.parametrize("name", SCHEMES)
def test_a_scheme_says_what_it_is(name: str) -> None:
    scheme = load_scheme(name)
    assert scheme.name == name
    assert "-" not in name, "a target string is <target>-<precision>"
    assert scheme.meaning
    assert inspect.getdoc(load_member("scheme", name))
    assert scheme.is_quantized == (name not in FLOAT_DTYPES)
    assert len({gate.metric for gate in scheme.gates}) == len(scheme.gates) > 0
    assert all(len(gate.reason) > 20 for gate in scheme.gates)
    assert bool(scheme.rank) == (split_weight(make_weight(64, 64), make_layer(scheme))[1] is not None)


@pytest.mark.parametrize("name", SCHEMES)
def test_a_format_agrees_with_what_stores_it(name: str) -> None:
    scheme = SCHEMES[name]
    for format in {scheme.weights, *([scheme.inputs.format] if scheme.inputs is not None else [])}:
        dtype = getattr(torch, format.storage)
        info = torch.finfo(dtype) if dtype.is_floating_point else torch.iinfo(dtype)
        assert format.is_float == dtype.is_floating_point
        if format.bits in (4, 6):  # torch has no such type: they are held in the next larger one
            assert format.qmax - format.qmin == 2**format.bits - 1
        else:
            assert format.bits == dtype.itemsize * 8
            assert (format.qmin, format.qmax) == (info.min, info.max)
        assert np.dtype(getattr(ml_dtypes, format.storage, None) or format.storage).itemsize == dtype.itemsize


@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 3, 3)])
@pytest.mark.parametrize("group", [0, 16])
@pytest.mark.parametrize("name", QUANTIZED)
def test_packing_rounding_and_bytes_agree(name: str, group: int, shape: tuple[int, ...]) -> None:
    scheme = SCHEMES[name]
    if scheme.rank and len(shape) > 2:
        pytest.skip("a branch is for products of matrices")
    layer, weight = make_layer(scheme, group=group), make_weight(*shape)
    stored, branch = split_weight(weight, layer)
    packed = scheme.pack(stored, layer)
    rounded = scheme.unpack(packed)
    assert torch.equal(rounded, round_weight(weight, layer))
    if not isinstance(scheme, Palette):  # which is fitted anew
        assert torch.equal(scheme.unpack(scheme.pack(rounded, layer)), rounded), "what is rounded stays"
    torch.testing.assert_close(find_error(weight, layer), rounded - stored)
    error = find_error(weight, layer).square().mean() / weight.square().mean()
    assert 0 < error < (2e-3 if scheme.weights.is_float else 4.0 ** -(scheme.weights.bits - 2)), (
        f"{float(error):.1e} of the weight's power"
    )
    extras = sum(value.numel() for key, value in packed.items() if key != "stored")
    extras += sum(factor.numel() for factor in branch or ())
    assert scheme.count_bytes(shape, layer, 2) == -(-weight.numel() * scheme.weights.bits // 8) + 2 * extras
    assert packed["stored"].dtype == getattr(torch, scheme.weights.storage)
    assert packed["stored"].shape == weight.shape


class Mixer(torch.nn.Module):
    """A Linear over tokens: [1, 8, 64] -> [1, 8, 64]."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = torch.nn.Linear(64, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.mix(x.to(self.mix.bias.dtype))
        return result.float()


def make_component(layer: QuantizedLayer) -> Component:
    with torch.device("meta"):
        module = Mixer().eval()
    weights = {name: random_handle(name, tuple(value.shape), 0.2) for name, value in module.state_dict().items()}
    return Component("vae_decoder", module, weights, (X,), (Y,), {"mix": layer})


@pytest.mark.parametrize(("name", "alias"), OFFERS)
def test_every_target_that_offers_it_exports_it(name: str, alias: str, tmp_path: Path) -> None:
    pytest.importorskip(LIBRARIES[name])
    target = TARGETS[name]
    offer, graph = target.offers[alias], next(asked for asked in target.precisions if target.offers[asked].is_quantized)
    dtype = target.scale_dtype or target.graph_dtype[graph]
    layer = make_layer(load_scheme(offer.scheme), dtype, offer.group)
    component = make_component(layer)
    options = {"deployment_target": {"coreml": "iOS18", "coreai": "iOS27"}.get(name, ""), "compute_unit": "cpu"}
    record = load_exporter(target).write_component(component, target, graph, options, tmp_path)
    (part,) = record.parts
    path = tmp_path / part.graph
    path = path.with_suffix(".shadow.onnx") if target.needs_build else path
    session = load_runtime(RUNTIMES.get(name, name)).open_session(path, part.inputs, part.outputs)
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 8, 64)).astype(np.float32)}
    rounded = TorchSession(component, fake=True, dtype=target.graph_dtype[graph]).run(feeds)["y"]
    plain = TorchSession(dataclasses.replace(component, layers={})).run(feeds)["y"]
    found = session.run(feeds)["y"]
    quality, rounding = psnr_arrays(found, rounded), psnr_arrays(rounded, plain)
    assert quality >= max(MIN_PSNR_DB, rounding + 3), f"{quality:.1f} dB from torch, which rounds to {rounding:.1f} dB"
