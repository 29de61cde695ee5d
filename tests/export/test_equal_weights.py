"""Layers whose weights are equal, zero, or their own transpose: each stays its own on every exporter."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sprint_export.export.exporter import load_exporter
from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.nouns.student import Component, TensorSpec
from sprint_export.nouns.target import Options
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.registry import load_target
from sprint_export.runtimes.runtime import load_runtime
from sprint_export.validate.images import relative_error
from sprint_export.weights import constant, random_handle

SIDE = 32
X, Y = TensorSpec("x", "float32", (1, 8, SIDE), "in"), TensorSpec("y", "float32", (1, 8, SIDE), "out")
RUNTIMES = {"onnx": "onnx", "openvino": "openvino", "coreml": "coreml-checker", "coreai": "coreai"}
EXTRAS = {"openvino": "openvino", "coreml": "coremltools", "coreai": "coreai_torch"}
SAME, ZERO, SYMMETRIC = "two equal", "all zero", "their own transpose"
MAX_ERROR = 2e-2  # of the range: half precision, and 8 bits where the runtime rounds in another order


class Three(nn.Module):
    """Three Linears that read one value in three forms."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(SIDE, SIDE) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.q.bias.dtype)
        result: Tensor = self.q(x) + self.k(torch.tanh(x)) * 0.5 + self.v(x * x)
        return result.float()


def make_component(kind: str, precisions: dict[str, str]) -> Component:
    """Three Linears with such weights and equal biases; layers quantized as named."""
    with torch.device("meta"):
        module = Three().eval()
    weights = {name: random_handle(name, tuple(value.shape), 0.2) for name, value in module.state_dict().items()}
    first = weights["q.weight"].load()
    value = {SAME: first, ZERO: torch.zeros_like(first), SYMMETRIC: first + first.T}[kind]
    weights |= {f"{layer}.weight": constant(value) for layer in "qkv"} | {f"{layer}.bias": weights["q.bias"] for layer in "qkv"}
    layers = {name: QuantizedLayer(precision, None, 0, "fp16") for name, precision in precisions.items()}
    return Component("vae_decoder", module, weights, (X,), (Y,), layers)


CASES: list[tuple[str, dict[str, str]]] = [(kind, {}) for kind in (SAME, ZERO, SYMMETRIC)]
CASES += [(kind, dict.fromkeys("qkv", "w8a16")) for kind in (SAME, ZERO, SYMMETRIC)]
CASES += [(SAME, {"q": "w8a16"}), (SAME, {"q": "w8a16", "k": "p4a16"})]


@pytest.mark.parametrize("target", RUNTIMES)
@pytest.mark.parametrize(("kind", "precisions"), CASES)
def test_layers_with_equal_weights_are_each_their_own(target: str, kind: str, precisions: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip(EXTRAS.get(target, "onnx"))
    if "p4a16" in precisions.values() and target != "coreml":
        pytest.skip("palettes are Core ML's")
    component = make_component(kind, precisions)
    known = load_target(target)
    options: Options = {"deployment_target": "iOS18", "compute_unit": "cpu"}
    offers = {name: dataclasses.replace(known.offers[name], graph="fp16") for name in known.precisions}
    known = dataclasses.replace(known, offers=offers)
    exporter = load_exporter(known)
    record = exporter.write_component(component, known, "fp16" if not precisions else next(iter(offers)), options, tmp_path)
    (part,) = record.parts
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 8, SIDE)).astype(np.float32)}
    found = load_runtime(RUNTIMES[target]).open_session(tmp_path / part.graph, part.inputs, part.outputs).run(feeds)["y"]
    wanted = TorchSession(component, fake=True).run(feeds)["y"]
    error = relative_error(found, wanted)
    assert error <= MAX_ERROR, f"{error:.1e} of the range, tolerance {MAX_ERROR:.0e}"
