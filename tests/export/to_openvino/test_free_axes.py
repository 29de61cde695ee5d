"""OpenVINO IR with free height and width: one compiled network, right at every size, in the kernels of fixed sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sprint_export.export.to_onnx.writer import make_graph
from sprint_export.nouns.student import Component, Student
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.registry import load_target
from sprint_export.specialize import specialize_student
from tests.export.to_onnx.graphs import quantize
from tests.export.to_onnx.test_free_axes import ROLES, SIZES, freed, make_noise_feeds
from tests.made_student import Array, snr_db

pytest.importorskip("openvino")
MIN_FLOAT_DB = 90.0  # 16-bit weights on both sides, float32 arithmetic
FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32"}


@pytest.fixture(scope="module", params=["fp16", "int8"])
def student(request: pytest.FixtureRequest, made: Student) -> Student:
    fixed = specialize_student(made)
    return fixed if request.param == "fp16" else quantize(fixed, "openvino", "int8")


def write(component: Component, folder: Path) -> Path:
    from sprint_export.export.to_openvino.writer import EXPORTER, GRAPH

    folder.mkdir(parents=True)
    EXPORTER.write_component(component, load_target("openvino"), "int8", {"compute_unit": "cpu"}, folder)
    return folder / GRAPH


@pytest.mark.parametrize("role", ROLES)
def test_one_network_is_right_at_every_size(student: Student, role: str, tmp_path: Path) -> None:
    from sprint_export.runtimes.openvino_ir.runtime import open_core

    component = student.components[role]
    model = open_core().compile_model(write(freed(student).components[role], tmp_path / "ir"), "CPU", FLOAT32)
    rounded, plain = TorchSession(component, fake=True, dtype="fp16"), TorchSession(component)
    for size in (*SIZES, SIZES[0]):
        feeds = make_noise_feeds(component, *size, scale=0.5 if role == "vae_decoder" else 1.0)
        found: Array = np.asarray(next(iter(model(feeds).values())))
        (wanted,), (exact,) = rounded.run(feeds).values(), plain.run(feeds).values()
        assert found.shape == wanted.shape
        # INT8, as in test_to_openvino.py: other kernels round a few values to the neighbouring step.
        least = snr_db(wanted, exact) + 3 if component.layers else MIN_FLOAT_DB
        assert snr_db(found, wanted) >= least, f"{size}: {snr_db(found, wanted):.1f} dB, demanded {least:.1f}"


@pytest.mark.parametrize("role", ROLES)
def test_its_kernels_are_those_of_fixed_sizes(student: Student, role: str, tmp_path: Path) -> None:
    from sprint_export.runtimes.openvino_ir.runtime import OpenVinoSession

    found = []
    for name, chosen in (("fixed", student), ("free", freed(student))):
        component = chosen.components[role]
        session = OpenVinoSession(write(component, tmp_path / name), component.inputs, component.outputs)
        found.append(sorted(kind for _, _, kind in session.multiplying_layers()))
    assert found[0] == found[1]
    assert ("int8" in found[0]) == bool(student.components[role].layers)


def test_tokens_come_last_with_free_sizes_too(student: Student) -> None:
    counts = []
    for chosen in (student, freed(student)):
        nodes = list(make_graph(chosen.components["transformer"], "fp32", ["tokens_last"]).graph)
        orders = [tuple(node.attributes["perm"].as_ints()) for node in nodes if node.op_type == "Transpose"]
        counts.append({order: orders.count(order) for order in orders})
    assert counts[0] == counts[1]
    assert counts[0][0, 2, 3, 1] > counts[0].get((0, 2, 1), 0)
