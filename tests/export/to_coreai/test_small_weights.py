"""Weights below half precision's scales in a Core AI asset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("coreai_torch")

from sprint_export.export.to_coreai.layers import LIFT, SCALE, make_module
from sprint_export.export.to_coreai.writer import EXPORTER
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.registry import load_target
from sprint_export.runtimes.coreai_asset.runtime import CoreAISession
from sprint_export.validate.images import psnr_arrays
from tests.export.small_weights import OUT, feeds, make_component

TARGET = load_target("coreai")


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_small_weights_keep_their_digits_in_a_half_precision_asset(precision: str, tmp_path: Path) -> None:
    component = make_component(TARGET.offers[precision].scheme, "fp16")
    record = EXPORTER.write_component(
        component, TARGET, precision, {"deployment_target": "iOS27", "compute_unit": "gpu"}, tmp_path
    )
    session = CoreAISession(tmp_path / "model.aimodel", record.inputs, record.outputs)
    found = session.run({"ids": feeds()["ids"].astype(np.int32)})[OUT.name]
    rounded = TorchSession(component, fake=True).run(feeds())[OUT.name]
    assert psnr_arrays(found, rounded) > 50, f"{psnr_arrays(found, rounded):.1f} dB from the fake-quantized torch"


def test_only_layers_with_small_scales_are_multiplied() -> None:
    module = make_module(make_component("w8a16", "fp16"), "fp16")
    lifted = {name.rpartition(".")[0] for name, _ in module.named_buffers() if name.endswith(f".{LIFT}")}
    stored = {name.rpartition(".")[0] for name, _ in module.named_buffers() if name.endswith(f".{SCALE}")}
    assert (lifted, stored - lifted) == ({"words", "linear", "conv", "biased"}, {"plain"})
