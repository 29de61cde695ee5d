"""Compressed layers of small graphs: what is written, what reads it, and what is left alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("coremltools")

from sprint_export.errors import InputError
from sprint_export.export.to_coreml.writer import EXPORTER
from sprint_export.nouns.bundle import ComponentRecord
from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.nouns.student import Component, TensorSpec
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.registry import load_target
from sprint_export.runtimes.coreml.checker import RUNTIME
from sprint_export.runtimes.coreml.mil.program import Op, Program, read_program
from sprint_export.validate.images import relative_error
from sprint_export.weights import random_handle
from tests.export.to_onnx.graphs import quantize_small, small_feeds

TARGET = load_target("coreml")
OFFERS = {name: dataclasses.replace(offer, graph="fp32") for name, offer in TARGET.offers.items()}
FLOAT = dataclasses.replace(TARGET, offers=OFFERS)  # arithmetic in float32
MAX_ERROR = 1e-5  # of the range: the same rounding, float32 arithmetic on both sides
X, Y = TensorSpec("x", "float32", (1, 8, 32), "in"), TensorSpec("y", "float32", (1, 8, 32), "out")


def write(component: Component, folder: Path, system: str = "iOS18", precision: str = "w8a8") -> tuple[ComponentRecord, Program]:
    folder.mkdir(parents=True)
    record = EXPORTER.write_component(component, FLOAT, precision, {"deployment_target": system, "compute_unit": "all"}, folder)
    return record, read_program(folder / "model.mlpackage")


def check_numbers(component: Component, record: ComponentRecord, folder: Path, feeds: Mapping[str, np.ndarray]) -> None:
    """The file computes what torch computes with the same rounding."""
    (part,), (output,) = record.parts, record.outputs
    found = RUNTIME.open_session(folder / part.graph, part.inputs, part.outputs).run(feeds)[output.name]
    deviation = relative_error(found, TorchSession(component, fake=True).run(feeds)[output.name])
    assert deviation <= MAX_ERROR, f"{deviation:.1e} of the range, tolerance {MAX_ERROR:.0e}"


def reader(program: Program, layer: str) -> Op:
    (op,) = [op for op in program.ops if any(f"p_{layer}_weight" in name for name in op.operands)]
    return op


class Three(nn.Module):
    """Three Linears that read one value, in this order."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(32, 32) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sin(x)
        result: Tensor = self.q(x) + self.k(x) * self.v(x)
        return result


class Twice(nn.Module):
    """One Linear, called two times."""

    def __init__(self) -> None:
        super().__init__()
        self.again = nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.again(torch.relu(self.again(x)))
        return result


class Gain(nn.Module):
    """A weight that no matrix product reads."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(32)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.norm(x)
        return result


def make_component(module: Callable[[], nn.Module], layers: Mapping[str, float | None]) -> Component:
    """The module with seeded weights; layers in 8 bits, with the range of their input or None."""
    with torch.device("meta"):
        made = module().eval()
    weights = {name: random_handle(name, tuple(value.shape), 0.2) for name, value in made.state_dict().items()}
    quantized = {name: QuantizedLayer("w8a16" if amax is None else "w8a8", amax, 0, "fp32") for name, amax in layers.items()}
    return Component("vae_decoder", made, weights, (X,), (Y,), quantized)


FEEDS = {"x": np.random.default_rng(0).standard_normal((1, 8, 32)).astype(np.float32)}


def rounded_inputs(program: Program) -> dict[str, list[str]]:
    """Value -> the layers that read it through a quantize and a dequantize."""
    pairs = {
        after.outputs[0].name: before.inputs["input"][0]
        for before in program.ops
        for after in program.ops
        if before.type == "quantize" and after.type == "dequantize" and after.inputs["input"][0] == before.outputs[0].name
    }
    found: dict[str, list[str]] = {}
    for op in program.ops:
        if op.type in ("linear", "conv") and op.inputs["x"][0] in pairs:
            found.setdefault(pairs[op.inputs["x"][0]], []).append(
                op.inputs["weight"][0].removesuffix("_weight").removeprefix("p_")
            )
    return found


def test_layers_that_read_one_value_share_its_rounding(tmp_path: Path) -> None:
    component = quantize_small("w8a8", "fp32", 0)
    record, program = write(component, tmp_path / "small")
    assert [op.type for op in program.ops].count("quantize") == 4, "five layers, of which two read the same"
    assert sorted(rounded_inputs(program).values()) == [["conv"], ["left", "right"], ["out"], ["point"]]
    check_numbers(component, record, tmp_path / "small", small_feeds())


@pytest.mark.parametrize(
    ("layers", "groups"),
    [
        ({"q": 1.0, "k": 1.0, "v": 1.0}, [["q", "k", "v"]]),
        ({"q": 1.0, "v": 1.0}, [["q", "v"]]),
        ({"q": 1.0, "k": None, "v": 1.0}, [["q", "v"]]),
        ({"q": 1.0, "k": 0.5, "v": 1.0}, [["q", "v"], ["k"]]),
    ],
)
def test_a_layer_between_two_that_share_a_rounding_is_left_alone(
    layers: dict[str, float | None], groups: list[list[str]], tmp_path: Path
) -> None:
    """Its input is rounded as its own entry says, or not at all."""
    component = make_component(Three, layers)
    record, program = write(component, tmp_path / "three")
    sources = [op.inputs["input"][0] for op in program.ops if op.type == "quantize"]
    assert sources == [program.ops[0].outputs[0].name] * len(groups), "what is rounded was not rounded before"
    names: dict[str, list[str]] = {op.inputs["x"][0]: [] for op in program.ops if op.type == "linear"}
    for layer in "qkv":
        names[reader(program, layer).inputs["x"][0]].append(layer)
    alone = [["k"]] if layers.get("k") is None else []
    assert sorted(names.values()) == sorted(groups + alone)
    check_numbers(component, record, tmp_path / "three", FEEDS)


def test_a_layer_that_is_called_twice_is_compressed_once_and_read_twice(tmp_path: Path) -> None:
    component = make_component(Twice, {"again": 2.0})
    record, program = write(component, tmp_path / "twice")
    assert len(program.compressed) == 1
    linears = [op for op in program.ops if op.type == "linear"]
    assert [op.inputs["weight"][0] for op in linears] == [*program.compressed] * 2
    assert (record.precision_counts["INT8"], record.precision_counts["FP32"]) == (32 * 32, 2 * 32), "32 scales, 32 biases"
    assert [op.type for op in program.ops].count("quantize") == 2
    check_numbers(component, record, tmp_path / "twice", FEEDS)


@pytest.mark.parametrize(
    ("system", "form"),
    [
        ("iOS17", "constexpr_affine_dequantize"),
        ("macOS14", "constexpr_affine_dequantize"),
        ("iOS18", "constexpr_blockwise_shift_scale"),
        ("iOS26", "constexpr_blockwise_shift_scale"),
    ],
)
def test_the_form_is_the_systems_and_the_numbers_are_the_same(system: str, form: str, tmp_path: Path) -> None:
    component = quantize_small("w8a8", "fp32", 0)
    record, program = write(component, tmp_path / "small", system, "int8")
    assert [op.type for op in program.compressed.values()] == [form] * len(component.layers)
    check_numbers(component, record, tmp_path / "small", small_feeds())


def test_only_layers_the_recipe_names_are_touched(tmp_path: Path) -> None:
    """The depthwise convolution is in the graph and large enough; it has no entry."""
    component = quantize_small("w8a8", "fp32", 0)
    assert "depth" not in component.layers
    _, program = write(component, tmp_path / "small", precision="int8")
    (weight,) = reader(program, "depth").inputs["weight"]
    assert program.constants[weight].on_disk
    assert weight not in program.compressed
    assert program.constants[weight].value.dtype == "float32"


def test_a_weight_that_no_product_reads_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"^layer 'norm': expected its weight to be read by a linear, conv or gather of the graph; leave the layer 'float' "
        r"in the recipe$",
    ):
        write(make_component(Gain, {"norm": None}), tmp_path / "gain")


def test_a_layer_of_another_part_is_not_asked_for(tmp_path: Path) -> None:
    """Each part has its own weights; entries of the others are no mistake."""
    component = make_component(Three, {"q": None, "v": None})
    folder = tmp_path / "parts"
    folder.mkdir()
    options: Any = {"deployment_target": "iOS18", "compute_unit": "all"}
    options |= {"part_megabytes": 0.003}  # 3 kB: two layers of 8 bits, or one of 32
    record = EXPORTER.write_component(component, FLOAT, "int8", options, folder)
    programs = [read_program(folder / part.graph.split("/")[0]) for part in record.parts]
    assert len(programs) >= 2
    assert sum(len(program.compressed) for program in programs) == 2
    assert all(len(program.compressed) < 2 for program in programs)
