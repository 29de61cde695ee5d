"""Target onnx: refusals, a real session on the CPU, and what it says about files that are no graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from sprint_export.devices import find_device
from sprint_export.errors import BundleError
from sprint_export.nouns.student import TensorSpec
from sprint_export.runtimes.onnx_cpu import runtime
from sprint_export.runtimes.onnx_cpu.runtime import RUNTIME, make_options
from sprint_export.runtimes.onnx_cpu.target import TARGET
from tests import small_graphs

X, Y = (TensorSpec(name, "float32", shape, "") for name, shape in (("x", (2, 3)), ("y", (2, 3))))


def save_twice(path: Path) -> Path:
    """y = x + x, float32 [2, 3]."""
    node = onnx.helper.make_node("Add", ["x", "x"], ["y"])
    return small_graphs.save_graph(path, [node], {"x": [2, 3]}, [2, 3], [], TensorProto.FLOAT)


def test_a_session_computes_and_says_what_it_is(tmp_path: Path) -> None:
    session = RUNTIME.open_session(save_twice(tmp_path / "model.onnx"), (X,), (Y,))
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    result = session.run({"x": x})
    assert list(result) == ["y"]
    np.testing.assert_array_equal(result["y"], 2 * x)
    assert session.description.startswith("ONNX Runtime 1.")
    assert session.description.endswith(" CPU")


def test_a_shadow_is_called_one(tmp_path: Path) -> None:
    session = RUNTIME.open_session(save_twice(tmp_path / "model.shadow.onnx"), (X,), (Y,))
    assert session.description.endswith(" CPU, fp32-compute shadow")


@pytest.mark.parametrize("name", ["model.onnx", "model.shadow.onnx"])
def test_a_graph_of_large_outputs_runs_again_and_again(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both give their memory back after each run: nothing is kept in an arena."""
    monkeypatch.setattr(runtime, "LARGE_VALUES", 6)
    opened: list[Any] = []

    def note_options(*asked: Any) -> Any:
        opened.append(make_options(*asked))
        return opened[0]

    monkeypatch.setattr(runtime, "make_options", note_options)
    session = RUNTIME.open_session(save_twice(tmp_path / name), (X,), (Y,))
    assert not opened[0].enable_cpu_mem_arena
    for x in (np.ones((2, 3), np.float32), np.full((2, 3), 2, np.float32)):
        np.testing.assert_array_equal(session.run({"x": x})["y"], 2 * x)


def test_sessions_take_the_threads_that_are_asked_for(tmp_path: Path) -> None:
    session: Any = RUNTIME.limit_threads(3).open_session(save_twice(tmp_path / "model.onnx"), (X,), (Y,))
    assert session._session.get_session_options().intra_op_num_threads == 3
    assert make_options().intra_op_num_threads == 0, "ONNX Runtime's own choice"


def test_it_runs_everywhere_and_builds_nothing(tmp_path: Path) -> None:
    assert RUNTIME.can_run() is None
    save_twice(tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert not TARGET.needs_build


def test_it_refuses_only_precisions_it_does_not_have() -> None:
    for device in ("cpu", "rtx-4090"):
        assert [TARGET.refuses(precision, find_device(device)) for precision in TARGET.precisions] == [None] * 6
    choices = "fp32, fp16, int8, fp8, fp8a16, w4a16"
    assert TARGET.refuses("bf16", find_device("cpu")) == f"onnx has no precision 'bf16'; choose from: {choices}"


def test_a_file_that_is_no_graph_is_a_bundle_error(tmp_path: Path) -> None:
    graph = tmp_path / "model.onnx"
    graph.write_bytes(b"hello world")
    with pytest.raises(BundleError, match=r"ONNX Runtime cannot load .*model\.onnx: .+"):
        RUNTIME.open_session(graph, (X,), (Y,))


def test_a_truncated_data_file_is_a_bundle_error(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    weight = onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    nodes = [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])]
    model = onnx.load(small_graphs.save_graph(path, nodes, {"x": [1, 64]}, [1, 64], [weight], TensorProto.FLOAT))
    onnx.save(model, path, save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    specs = (TensorSpec("x", "float32", (1, 64), ""),), (TensorSpec("y", "float32", (1, 64), ""),)
    assert RUNTIME.open_session(path, *specs).run({"x": np.ones((1, 64), np.float32)})["y"][0, 0] == 64
    data = tmp_path / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(BundleError, match=r"ONNX Runtime cannot load .*model\.onnx"):
        RUNTIME.open_session(path, *specs)


def test_weights_outside_the_bundle_are_not_read(tmp_path: Path) -> None:
    """A bundle is untrusted: a graph may not point at files elsewhere."""
    (tmp_path / "secret").write_bytes(bytes(64 * 64 * 4))
    folder = tmp_path / "bundle"
    folder.mkdir()
    weight = onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    nodes = [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = small_graphs.save_graph(folder / "model.onnx", nodes, {"x": [1, 64]}, [1, 64], [weight], TensorProto.FLOAT)
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match="ONNX Runtime cannot load"):
        RUNTIME.open_session(path, (TensorSpec("x", "float32", (1, 64), ""),), (TensorSpec("y", "float32", (1, 64), ""),))


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ((TensorSpec("z", "float32", (2, 3), ""),), (Y,), r"has inputs \['x'\], the manifest says \['z'\]"),
        ((X,), (TensorSpec("image", "float32", (2, 3), ""),), r"has outputs \['y'\], the manifest says \['image'\]"),
        ((X,), (TensorSpec("y", "float16", (2, 3), ""),), r"'y' as float32 \[2, 3\], the manifest says float16 \[2, 3\]"),
        ((TensorSpec("x", "float32", (2, 4), ""),), (Y,), r"'x' as float32 \[2, 3\], the manifest says float32 \[2, 4\]"),
        ((TensorSpec("x", "float32", (2, "width"), ""),), (Y,), r"the manifest says float32 \[2, width\]"),
    ],
    ids=["inputs", "outputs", "a type", "a shape", "a free axis"],
)
def test_an_interface_that_is_not_the_manifests_is_a_bundle_error(
    tmp_path: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        RUNTIME.open_session(save_twice(tmp_path / "model.onnx"), inputs, outputs)


def save_rows(path: Path) -> Path:
    """y = table[x], float32 [4, 3] of a table of five rows."""
    table = onnx.numpy_helper.from_array(np.arange(15, dtype=np.float32).reshape(5, 3), "table")
    given = onnx.helper.make_tensor_value_info("x", TensorProto.INT64, [4])
    made = onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 3])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Gather", ["table", "x"], ["y"])], "rows", [given], [made], [table])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def test_what_fails_while_it_runs_is_one_line(tmp_path: Path) -> None:
    session = RUNTIME.open_session(
        save_rows(tmp_path / "model.onnx"), (TensorSpec("x", "int64", (4,), ""),), (TensorSpec("y", "float32", (4, 3), ""),)
    )
    assert session.run({"x": np.array([0, 1, 2, 4])})["y"][3, 2] == 14
    for ids in ([0, 1, 2, 10**6], [0, 1, 2]):
        with pytest.raises(BundleError, match=r"ONNX Runtime cannot run .*model\.onnx: ") as caught:
            session.run({"x": np.array(ids)})
        assert "\n" not in str(caught.value)
