"""What 16 bits hold: one check, asked by every exporter."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from sprint_export.errors import InputError
from sprint_export.export.exporter import load_exporter
from sprint_export.export.narrow import narrow, note_vanished
from sprint_export.nouns.student import Component
from sprint_export.nouns.target import Options
from sprint_export.registry import load_target
from sprint_export.weights import constant
from tests.export.to_onnx.graphs import quantize_small, small_component

MADE = [
    ("onnx", "fp16"),
    ("openvino", "fp16"),
    ("coreml", "fp16"),
    ("coreml", "int8"),
    ("coreml", "w4"),
    ("coreai", "fp16"),
    ("coreai", "int8"),
]
EXTRAS = {"openvino": "openvino", "coreml": "coremltools", "coreai": "coreai_torch"}


def with_value(component: Component, name: str, value: float) -> Component:
    """The first element of a weight replaced."""
    weight = component.weights[name].load().clone()
    weight.view(-1)[0] = value
    return dataclasses.replace(component, weights={**component.weights, name: constant(weight)})


@pytest.mark.parametrize("name", ["conv.weight", "point.bias"])
@pytest.mark.parametrize(("target", "precision"), MADE)
def test_a_weight_beyond_half_precision_is_refused_by_every_exporter(
    target: str, precision: str, name: str, tmp_path: Path
) -> None:

    pytest.importorskip(EXTRAS.get(target, "onnx"))
    known = load_target(target)
    component = small_component() if precision == "fp16" else quantize_small(precision, "fp16", 0, target=target)
    options: Options = {"deployment_target": "iOS18", "compute_unit": "cpu"}
    with pytest.raises(InputError, match=rf"^weight {name} has magnitude 7e\+04, a float16 graph holds at most 65504; choose an"):
        load_exporter(known).write_component(with_value(component, name, 70_000.0), known, precision, options, tmp_path)


def test_what_fits_is_cast_and_what_does_not_is_named() -> None:
    assert narrow(torch.tensor([65504.0]), torch.float16, "w").tolist() == [65504.0]
    assert narrow(torch.tensor([3e38]), torch.float32, "w").dtype == torch.float32
    assert torch.isfinite(narrow(torch.tensor([1e38]), torch.bfloat16, "w")).all()
    with pytest.raises(
        InputError, match=r"weight w has magnitude 6.552e\+04, a float16 graph holds at most 65504; choose an fp32"
    ):
        narrow(torch.tensor([1.0, -65520.0]), torch.float16, "w")


def test_a_weight_that_vanishes_as_a_whole_is_noted() -> None:
    with note_vanished() as notes:
        narrow(torch.full((3,), 1e-9), torch.float16, "faint")
        narrow(torch.zeros(3), torch.float16, "zero")
        narrow(torch.tensor([1e-9, 1.0]), torch.float16, "partly")
    assert notes == {"faint": "faint is at most 1e-09 and zero in float16"}
