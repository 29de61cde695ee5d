"""Weights alone in 8 or 4 bits: what is stored, how an embedding is read, and equality with torch and the rounded weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from sprint_export.export.to_onnx import qdq
from sprint_export.export.to_onnx.writer import make_graph, write_graph
from sprint_export.nouns.recipe import QuantizedLayer, Recipe, Rule
from sprint_export.nouns.student import Component, Student, TensorSpec
from sprint_export.quantize import quantize_student
from sprint_export.quantize.scales import split_weight
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.registry import load_target
from sprint_export.runtimes.onnx_cpu.runtime import OnnxRuntimeSession
from sprint_export.weights import LazyHandle, random_handle
from tests.export.to_onnx.graphs import Exported, attributes, export_component, initializers, producers, run_onnx
from tests.made_student import relative_error

FEEDS = {"input_ids": np.array([[3, 0, 63, 3, 17, 5, 40, 41]])}
GROUP = 16
EXACT = 1e-6  # float32 in another order
TEXT_RECIPE = Recipe(
    "small-text",
    (
        Rule("text_encoder.model.embed_tokens", "w8a16", "read in whole bytes"),
        Rule("text_encoder.*", "int4", "most of the bytes"),
        Rule("*", "float", "small"),
    ),
)


class Reader(torch.nn.Module):
    """A table, a Linear and two convolutions: [1, 8] ids -> [1, 32, 2, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(64, 48)
        self.wide = torch.nn.Linear(48, 64)
        self.point, self.conv = torch.nn.Conv2d(64, 32, 1), torch.nn.Conv2d(32, 32, 3, padding=1)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        rows = torch.tanh(self.wide(self.table(input_ids)))
        result: torch.Tensor = self.conv(self.point(rows.transpose(1, 2).reshape(1, 64, 2, 4)))
        return result.float()


def make_reader(precision: str, dtype: str = "fp32", table: str = "w8a16") -> Component:
    with torch.device("meta"):
        module = Reader().eval()
    weights = {n: random_handle(n, tuple(v.shape), 0.3) for n, v in module.state_dict().items()}
    made = {
        name: QuantizedLayer(kind, None, 0, dtype, GROUP if kind == "w4a16" else 0)
        for name, kind in {"table": table, "wide": precision, "point": precision, "conv": precision}.items()
    }
    inputs = (TensorSpec("input_ids", "int64", (1, 8), "in"),)
    return Component("text_encoder", module, weights, inputs, (TensorSpec("y", "float32", (1, 32, 2, 4), "out"),), made)


@pytest.fixture(scope="module", params=["w8a16", "w4a16"])
def graph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_component(make_reader(request.param), "fp32", tmp_path_factory.mktemp(request.param))


def test_weights_are_stored_in_few_bits_and_activations_are_left_alone(graph: Exported) -> None:
    model, stored = graph.model, initializers(graph.model)
    assert not [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    is_int4 = graph.component.layers["wide"].scheme == "w4a16"
    kind = "int4" if is_int4 else "int8"
    wanted = {
        "wide.weight.transposed": ([48, 64], [3, 64] if is_int4 else [64], 0 if is_int4 else 1),
        "point.weight": ([32, 64, 1, 1], [32, 4, 1, 1] if is_int4 else [32], 1 if is_int4 else 0),
        "conv.weight": ([32, 32, 3, 3], [32, 2, 3, 3] if is_int4 else [32], 1 if is_int4 else 0),
    }
    for name, (shape, scale_shape, axis) in wanted.items():
        weight, scale = stored[f"{name}.{kind}"], stored[f"{name}.scale"]
        assert (weight.data_type, list(weight.dims)) == (TensorProto.INT4 if is_int4 else TensorProto.INT8, shape)
        assert (scale.data_type, list(scale.dims)) == (TensorProto.FLOAT, scale_shape)
        made = attributes(producers(model)[f"{name}.dq"])
        assert made == {"axis": axis} | ({"block_size": GROUP} if is_int4 else {})
        assert name not in stored
        assert len(weight.raw_data) == np.prod(shape) // (2 if is_int4 else 1)


def test_an_embedding_is_stored_in_few_bits(graph: Exported) -> None:
    model, stored = graph.model, initializers(graph.model)
    assert stored["table.weight.int8"].data_type == TensorProto.INT8
    assert list(stored["table.weight.scale"].dims) == [64]
    assert [node.op_type for node in model.graph.node if "table.weight.dq" in node.input] == ["Gather"]


@pytest.mark.parametrize("fuse", [True, False])
def test_the_graph_computes_what_torch_does_with_the_rounded_weights(graph: Exported, fuse: bool) -> None:
    """Also as our own session runs it: fused into MatMulNBits, which by default would round activations to 8 bits (2.5e-3)."""
    session = OnnxRuntimeSession(graph.path, graph.component.inputs, graph.component.outputs)
    found = session.run(FEEDS)["y"] if fuse else run_onnx(graph.path, FEEDS, fuse=False)
    rounded = TorchSession(graph.component, fake=True).run(FEEDS)["y"]
    exact = TorchSession(graph.component).run(FEEDS)["y"]
    converter, recipe = relative_error(found, rounded), relative_error(rounded, exact)
    assert converter <= EXACT, f"deviates by {converter:.1e}, tolerance {EXACT}; the rounding itself by {recipe:.1e}"
    assert recipe > 1000 * EXACT, "the weights were not rounded at all"


@pytest.mark.parametrize("precision", ["w8a16", "w4a16"])
def test_a_bfloat16_graph_and_its_shadow(precision: str, tmp_path: Path) -> None:
    graph = export_component(make_reader(precision, "bf16"), "bf16", tmp_path)
    onnx.checker.check_model(str(graph.path), full_check=True)
    assert initializers(graph.model)["point.weight.scale"].data_type == TensorProto.BFLOAT16
    assert graph.shadow is not None
    found, rounded = (
        run_onnx(graph.shadow, FEEDS, fuse=False),
        TorchSession(graph.component, fake=True, dtype="bf16").run(FEEDS)["y"],
    )
    assert relative_error(found, rounded) <= EXACT


@pytest.mark.parametrize("rules", [(), ("gather_rows",)])
def test_an_embedding_in_4_bits(rules: tuple[str, ...], tmp_path: Path) -> None:
    """Restored as a whole, as TensorRT fuses it, or row by row out of whole bytes."""
    component = make_reader("w8a16")
    component = dataclasses.replace(component, layers={"table": QuantizedLayer("w4a16", None, 0, "fp32", GROUP)})
    write_graph(make_graph(component, "fp32", rules), tmp_path / "model.onnx")
    stored = initializers(onnx.load(tmp_path / "model.onnx"))
    packed = stored.get("table.weight.int4.packed")
    assert (packed is not None) == bool(rules)
    if packed is not None:
        assert (packed.data_type, list(packed.dims)) == (TensorProto.INT8, [64, 24])
        assert "table.weight.int4" not in stored
    found = run_onnx(tmp_path / "model.onnx", FEEDS, fuse=False)
    rounded = TorchSession(component, fake=True).run(FEEDS)["y"]
    assert relative_error(found, rounded) <= EXACT
    assert relative_error(rounded, TorchSession(component).run(FEEDS)["y"]) > 1000 * EXACT


@pytest.mark.parametrize("precision", ["w8a16", "w4a16"])
def test_rows_are_rounded_in_slices_as_they_are_together(precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together = export_component(make_reader(precision), "fp32", tmp_path / "together").path.with_suffix(".onnx.data")
    most: list[int] = []

    def split(rows: torch.Tensor, layer: QuantizedLayer) -> object:
        most.append(rows.numel())
        return split_weight(rows, layer)

    monkeypatch.setattr(qdq, "SLICE", 100)
    monkeypatch.setattr(qdq, "split_weight", split)
    apart = export_component(make_reader(precision), "fp32", tmp_path / "apart").path.with_suffix(".onnx.data")
    assert apart.read_bytes() == together.read_bytes()
    assert len(most) > 8
    assert max(most) <= 9 * 32, "a row has more than SLICE values"


def test_making_the_graph_pulls_no_weight() -> None:
    def refuse() -> torch.Tensor:
        raise AssertionError("pulled")

    component = make_reader("w4a16")
    weights = {n: LazyHandle(h.shape, h.dtype, refuse) if len(h.shape) > 1 else h for n, h in component.weights.items()}
    make_graph(dataclasses.replace(component, weights=weights), "fp32")


@pytest.mark.parametrize(("target", "precision", "group"), [("onnx", "int8", 128), ("trt", "fp8", 64)])
def test_a_recipe_gives_the_text_encoder_few_bits(tiny_special: Student, target: str, precision: str, group: int) -> None:
    """Without calibration, and in blocks where they divide the row."""
    goal = load_target(target)
    recipe = dataclasses.replace(TEXT_RECIPE, prompts=("never drawn",))
    layers = quantize_student(tiny_special, precision, goal, recipe).components["text_encoder"].layers
    assert {layer.input_amax for layer in layers.values()} == {None}
    assert layers["model.embed_tokens"].scheme == "w8a16"
    found = layers["model.layers.0.mlp.down_proj"]  # of 96 values
    assert (found.scheme, found.group) == ("w4a16", 32), "halved until it divides the row"
    assert goal.offers["int4"].group == goal.offers["w4a16"].group == group
