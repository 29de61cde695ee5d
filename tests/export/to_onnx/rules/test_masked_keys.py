"""Hidden rows with keys of zero: the same picture, and no weight that underflows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from sprint_export.export.to_onnx.rules.masked_keys import BIAS
from sprint_export.nouns.student import Student
from sprint_export.specialize import specialize_student
from tests.export.to_onnx.graphs import run_onnx
from tests.export.to_onnx.rules.before_after import compare, make_noise_feeds
from tests.made_student import relative_error

TOLERANCE = 5e-6  # relative, float32


def constants(model: onnx.ModelProto) -> set[float]:
    """Every stored single number."""
    return {float(numpy_helper.to_array(value)) for value in model.graph.initializer if list(value.dims) == []}


@pytest.mark.parametrize("name", ["tiny_student", "made"])
def test_hidden_rows_stay_hidden(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    student: Student = request.getfixturevalue(name)
    component = specialize_student(student).components["transformer"]
    found = compare(component, ["masked_keys"], tmp_path)
    assert found.deviation <= TOLERANCE, f"deviation {found.deviation:.1e}, tolerance {TOLERANCE}"
    assert -10000.0 in constants(found.models[0])
    assert -10000.0 not in constants(found.models[1])
    assert BIAS in constants(found.models[1])

    feeds = make_noise_feeds(component)
    path = tmp_path / "after" / "model.onnx"
    kept = run_onnx(path, feeds)
    feeds["prompt_embeds"][:, 100:] += 10  # behind the mask
    assert relative_error(run_onnx(path, feeds), kept) <= TOLERANCE
    feeds["prompt_embeds"][:, :100] += 10
    assert relative_error(run_onnx(path, feeds), kept) > 100 * TOLERANCE


def expose_softmaxes(folder: Path) -> list[str]:
    """A written graph again, with the output of every Softmax as its outputs; their names."""
    model = onnx.load(str(folder / "model.onnx"))
    names = [node.output[0] for node in model.graph.node if node.op_type == "Softmax"]
    del model.graph.output[:]
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    onnx.save(model, str(folder / "inside.onnx"))
    return names


def test_no_weight_underflows(tiny_special: Student, tmp_path: Path) -> None:
    component = tiny_special.components["transformer"]
    compare(component, ["masked_keys"], tmp_path)
    weights = []
    for name in ("before", "after"):
        names = expose_softmaxes(tmp_path / name)
        session = onnxruntime.InferenceSession(str(tmp_path / name / "inside.onnx"), providers=["CPUExecutionProvider"])
        weights.append(np.concatenate([w.ravel() for w in session.run(names, make_noise_feeds(component))]))
    smallest = np.finfo(np.float32).tiny
    assert np.mean(weights[0] < smallest) > 0.5  # 200 of 300 rows are hidden
    assert np.all(weights[1] >= smallest)


def test_an_attention_without_a_mask_is_left_alone(tiny_special: Student, tmp_path: Path) -> None:
    """The text encoder's bias is causal and stored, not computed from a mask."""
    found = compare(tiny_special.components["text_encoder"], ["masked_keys"], tmp_path)
    assert found.operators[0] == found.operators[1]
    assert found.deviation == 0
