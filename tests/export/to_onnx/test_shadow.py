"""The float32 shadow of a 16-bit graph: same weights file, no 16-bit arithmetic left, close to fake-quantized torch."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto

from sprint_export.export.to_onnx import shadow
from sprint_export.export.to_onnx.shadow import write_shadow
from sprint_export.nouns.student import Student
from sprint_export.quantize.torch_session import TorchSession
from tests.export.to_onnx.graphs import (
    HALF,
    Exported,
    attributes,
    export_component,
    producers,
    run_onnx,
    small_component,
    small_feeds,
    types_of,
)
from tests.made_student import Array, snr_db

ROLES = ("transformer", "vae_decoder")


def shadow_of(graph: Exported) -> Path:
    assert graph.shadow is not None
    return graph.shadow


@pytest.mark.parametrize("role", ROLES)
def test_nothing_is_16_bit_but_stored_weights(fp8_graphs: dict[str, Exported], role: str) -> None:
    model = onnx.load(str(shadow_of(fp8_graphs[role])))
    types = types_of(model)
    weights = {tensor.name for tensor in model.graph.initializer}
    assert HALF[1] in {types[name] for name in weights}, "the shadow reads the 16-bit weights themselves"
    for node in model.graph.node:
        for name in node.output:
            assert types[name] not in HALF, f"{node.op_type} writes {name}"
        for name in filter(None, node.input):
            assert types[name] not in HALF or node.op_type == "Cast", f"{node.op_type} reads {name}"
        assert not [
            value for value in attributes(node).values() if isinstance(value, int) and node.op_type == "Cast" and value in HALF
        ]


@pytest.mark.parametrize("role", ROLES)
def test_no_weight_is_copied(fp8_graphs: dict[str, Exported], role: str) -> None:
    path, shadow = fp8_graphs[role].path, shadow_of(fp8_graphs[role])
    assert {file.name for file in path.parent.iterdir()} == {"model.onnx", "model.onnx.data", "model.shadow.onnx"}
    where = []
    for file in (path, shadow):
        tensors = onnx.load(str(file), load_external_data=False).graph.initializer
        where.append(
            {t.name: [(e.key, e.value) for e in t.external_data] for t in tensors if t.data_location == TensorProto.EXTERNAL}
        )
    assert where[0] == where[1] != {}
    assert dict(next(iter(where[1].values())))["location"] == "model.onnx.data"


@pytest.mark.parametrize("role", ROLES)
def test_the_same_quantized_layers_at_the_same_scales(fp8_graphs: dict[str, Exported], role: str) -> None:
    graphs = [onnx.load(str(file)).graph for file in (fp8_graphs[role].path, shadow_of(fp8_graphs[role]))]
    for op in ("QuantizeLinear", "MatMul", "Conv"):
        counts = [sum(node.op_type == op for node in graph.node) for graph in graphs]
        assert counts[0] == counts[1] > 0, op
    scales = [
        {node.input[1].removesuffix(".fp32") for node in graph.node if node.op_type == "QuantizeLinear"} for graph in graphs
    ]
    assert scales[0] == scales[1]
    names = [{value.name for value in (*graph.input, *graph.output)} for graph in graphs]
    assert names[0] == names[1]


def test_no_fp8_activation_has_a_dequantize_linear(fp8_graphs: dict[str, Exported]) -> None:
    model = onnx.load(str(shadow_of(fp8_graphs["transformer"])))
    weights = {tensor.name for tensor in model.graph.initializer}
    read = {node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    assert read and read <= weights, "ONNX Runtime before 1.32 would fuse it into an operator that takes no FP8"


@pytest.mark.parametrize("role", ROLES)
def test_it_runs_and_is_the_fake_quantized_torch(
    fp8_graphs: dict[str, Exported], tiny_feeds: dict[str, dict[str, Array]], role: str
) -> None:
    graph = fp8_graphs[role]
    wanted = TorchSession(graph.component, fake=True, dtype="bf16").run(tiny_feeds[role])[graph.component.outputs[0].name]
    plain = TorchSession(graph.component).run(tiny_feeds[role])[graph.component.outputs[0].name]
    found = run_onnx(shadow_of(graph), tiny_feeds[role], fuse=False)
    converter, recipe = snr_db(found, wanted), snr_db(wanted, plain)
    # Not 100: a last bit of difference (attention's scale is a bfloat16 constant) moves values over FP8's 6 % steps.
    assert converter >= recipe + 10, f"{converter:.1f} dB between shadow and fake-quantized; recipe {recipe:.1f} dB"
    assert recipe < 50, "the fake-quantized output is the float one: nothing was quantized"


@pytest.mark.parametrize("role", ROLES)
def test_written_twice_is_the_same_bytes(fp8_graphs: dict[str, Exported], role: str) -> None:
    before = shadow_of(fp8_graphs[role]).read_bytes()
    write_shadow(fp8_graphs[role].path)
    assert shadow_of(fp8_graphs[role]).read_bytes() == before


def test_a_float32_graph_has_none(fp32_graphs: dict[str, Exported]) -> None:
    assert fp32_graphs["transformer"].shadow is None
    assert not fp32_graphs["transformer"].path.with_name("model.shadow.onnx").exists()


def test_a_float16_graph_has_one(tmp_path: Path) -> None:
    graph = export_component(small_component(), "fp16", tmp_path)
    wanted = TorchSession(graph.component, fake=True, dtype="fp16").run(small_feeds())["image"]
    found = snr_db(run_onnx(shadow_of(graph), small_feeds()), wanted)
    assert found >= 100, f"{found:.1f} dB, at least 100: the weights are the same and the arithmetic is float32"


def test_large_weights_are_widened_when_their_layer_runs(
    fp8_graphs: dict[str, Exported],
    tiny_feeds: dict[str, dict[str, Array]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    late, model = write_late_shadow(fp8_graphs["transformer"].path.parent, tmp_path, monkeypatch)
    made, weights = producers(model), {tensor.name: tensor for tensor in model.graph.initializer}
    large = {name for name, tensor in weights.items() if math.prod(tensor.dims) >= 256 and not name.endswith(".scale")}
    widened = {node.input[0] for node in model.graph.node if node.op_type in ("Cast", "DequantizeLinear")}
    delayed = [node for node in model.graph.node if node.op_type == "Reshape" and node.name.endswith(".late")]
    assert len(delayed) > 20 and not widened & large
    assert all(node.input[0] in weights and made[node.input[1]].op_type == "Where" for node in delayed)
    feeds = tiny_feeds["transformer"]
    found, wanted = (run_onnx(path, feeds, fuse=False) for path in (late, shadow_of(fp8_graphs["transformer"])))
    assert (found == wanted).all()


def test_rows_are_looked_up_in_a_table_as_it_is_stored(
    tiny_special: Student, tiny_feeds: dict[str, dict[str, Array]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "late").mkdir()
    plain = export_component(tiny_special.components["text_encoder"], "bf16", tmp_path)
    late, model = write_late_shadow(tmp_path, tmp_path / "late", monkeypatch)
    weights = {tensor.name for tensor in model.graph.initializer}
    assert [node for node in model.graph.node if node.op_type == "Gather" and node.input[0] in weights]
    feeds = tiny_feeds["text_encoder"]
    assert (run_onnx(late, feeds, fuse=False) == run_onnx(shadow_of(plain), feeds, fuse=False)).all()


def write_late_shadow(source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, onnx.ModelProto]:
    """A shadow in which weights of 256 values and more count as large."""
    for name in ("model.onnx", "model.onnx.data"):
        shutil.copy(source / name, folder)
    monkeypatch.setattr(shadow, "LARGE_VALUES", 256)
    path = write_shadow(folder / "model.onnx")
    assert path is not None
    return path, onnx.load(str(path))
