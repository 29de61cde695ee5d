"""Weights below half precision's scales, and a small input, in OpenVINO's files: scales there are float32."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

pytest.importorskip("openvino")

from sprint_export.export.to_openvino.writer import GRAPH
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.validate.images import psnr_arrays
from tests.export.small_weights import OUT, make_component
from tests.export.small_weights import feeds as make_feeds
from tests.export.to_openvino.test_writer import run_ir, write


def test_small_weights_and_inputs_keep_their_eight_bits_in_openvinos_file(tmp_path: Path) -> None:
    component = make_component("w8a8", "fp32")
    layers = {name: dataclasses.replace(layer, input_amax=1.0) for name, layer in component.layers.items() if name != "words"}
    component = dataclasses.replace(component, layers=layers)
    write(component, "int8", tmp_path)
    found = run_ir(tmp_path / GRAPH, make_feeds())
    rounded = TorchSession(component, fake=True, dtype="fp16").run(make_feeds())[OUT.name]
    wanted = TorchSession(component).run(make_feeds())[OUT.name]
    assert psnr_arrays(found, rounded) > psnr_arrays(rounded, wanted) + 3, f"{psnr_arrays(found, rounded):.1f} dB"
    assert psnr_arrays(found, wanted) > 35, f"{psnr_arrays(found, wanted):.1f} dB from float"
