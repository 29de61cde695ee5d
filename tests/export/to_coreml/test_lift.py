"""Weights below half precision's scales in a package: what is written, and that the file computes what torch does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("coremltools")

from sprint_export.export.to_coreml.writer import EXPORTER
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.registry import load_target
from sprint_export.runtimes.coreml.checker import RUNTIME
from sprint_export.runtimes.coreml.mil.constants import read_constant
from sprint_export.runtimes.coreml.mil.program import read_program
from sprint_export.validate.images import psnr_arrays
from tests.export.small_weights import OUT, feeds, make_component

TARGET = load_target("coreml")
SMALLEST_NORMAL = 2.0**-14


@pytest.mark.parametrize("system", ["iOS17", "iOS18"])
def test_small_weights_keep_their_eight_bits_in_a_half_precision_package(system: str, tmp_path: Path) -> None:
    component = make_component("w8a16", "fp16")
    record = EXPORTER.write_component(component, TARGET, "int8", {"deployment_target": system, "compute_unit": "all"}, tmp_path)
    session = RUNTIME.open_session(tmp_path / record.parts[0].graph, record.parts[0].inputs, record.parts[0].outputs)
    given = {"ids": feeds()["ids"].astype(np.int32)}
    found = session.run(given)[OUT.name]
    rounded = TorchSession(component, fake=True).run(feeds())[OUT.name]
    wanted = TorchSession(component).run(feeds())[OUT.name]
    assert psnr_arrays(found, rounded) > 50, f"{psnr_arrays(found, rounded):.1f} dB from the fake-quantized torch"
    assert psnr_arrays(found, wanted) > 40, f"{psnr_arrays(found, wanted):.1f} dB from float"


def test_every_stored_scale_is_a_normal_number_and_only_small_layers_are_multiplied(tmp_path: Path) -> None:
    record = EXPORTER.write_component(
        make_component("w8a16", "fp16"), TARGET, "int8", {"deployment_target": "iOS18", "compute_unit": "all"}, tmp_path
    )
    program = read_program(tmp_path / "model.mlpackage")
    scales = [read_constant(program, op.inputs["scale"][0]) for op in program.compressed.values()]
    assert len(scales) == len(record.layers)
    assert all(isinstance(scale, torch.Tensor) and float(scale.min()) >= SMALLEST_NORMAL for scale in scales)
    lifted = [op for op in program.ops if op.outputs[0].name.endswith("_lifted")]
    assert sorted(op.type for op in lifted) == ["conv", "conv", "gather", "linear"]
