"""`openvino-int4`: NNCF packs what the recipe names, as the scheme says, and the network computes what the reference does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sprint_export.errors import InputError, MachineError
from sprint_export.export.to_openvino.nncf_weights import find_multiplier, list_packed, pack_weights
from sprint_export.export.to_openvino.writer import EXPORTER, GRAPH
from sprint_export.libraries import check_installed
from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.nouns.student import Student
from sprint_export.quantize.schemes.scheme import load_scheme
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.registry import load_target
from sprint_export.runtimes.openvino_ir.runtime import open_core
from tests.export.to_onnx.graphs import quantize
from tests.made_student import Array, snr_db

openvino = pytest.importorskip("openvino")
pytest.importorskip("nncf")
SCHEME = load_scheme("w4a16_nncf")
MOST_OTHER_CODES = 0.005  # of a weight's: NNCF divides by a scale that it rounds to 16 bits afterwards, and reads 16-bit weights


@pytest.fixture(scope="module")
def student(made_special: Student) -> Student:
    return quantize(made_special, "openvino", "int4")


@pytest.fixture(scope="module", params=["text_encoder", "transformer"])
def role(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def write(student: Student, role: str, folder: Path) -> Path:
    folder.mkdir()
    EXPORTER.write_component(student.components[role], load_target("openvino"), "int4", {"compute_unit": "cpu"}, folder)
    return folder / GRAPH


def read_codes(path: Path) -> dict[str, Array]:
    """Names of 4-bit constants -> their values."""
    found = {}
    for node in open_core().read_model(path).get_ordered_ops():
        if node.get_type_name() == "Constant" and node.get_element_type().get_type_name() == "i4":
            found[node.get_friendly_name()] = _unpack(node)
    return found


def _unpack(node: Any) -> Array:
    """An int4 constant as int8, by OpenVINO's own conversion."""
    ops = openvino.opset13
    model = openvino.Model([ops.result(ops.convert(node, "i8"))], [])
    return np.asarray(open_core().compile_model(model, "CPU")([])[0])


def test_codes_are_those_of_the_scheme(student: Student, role: str, tmp_path: Path) -> None:
    component = student.components[role]
    packed, codes = list_packed(component), read_codes(write(student, role, tmp_path / "ir"))
    assert len(codes) == len(packed) > 4
    for name, layer in packed.items():
        weight = torch.as_tensor(component.weights[f"{name}.weight"].load()).float()
        wanted = SCHEME.pack(weight, layer)["stored"].numpy()
        found = codes[f"{name}.weight.transposed"].reshape(wanted.shape[1], wanted.shape[0]).T
        assert found.min() == -8, "every block's largest value"
        other = float((found != wanted).mean())
        assert other <= MOST_OTHER_CODES, f"{name}: {other:.4f} of the codes are others, at most {MOST_OTHER_CODES}"


def test_it_computes_what_the_fake_quantized_torch_computes(
    student: Student, made_feeds: dict[str, dict[str, Array]], role: str, tmp_path: Path
) -> None:
    component, feeds = student.components[role], made_feeds[role]
    model = open_core().compile_model(write(student, role, tmp_path / "ir"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = np.asarray(next(iter(model(feeds).values())))
    wanted = TorchSession(component, fake=True, dtype="fp16").run(feeds)[component.outputs[0].name]
    plain = TorchSession(component).run(feeds)[component.outputs[0].name]
    converter, recipe = snr_db(found, wanted), snr_db(wanted, plain)
    assert converter >= recipe + 20, f"{converter:.1f} dB from fake-quantized torch, at least 20 above the recipe's {recipe:.1f}"
    assert recipe < 45, "nothing was quantized"


def test_activations_stay_float_in_any_program(student: Student, role: str, tmp_path: Path) -> None:
    model = open_core().compile_model(write(student, role, tmp_path / "ir"), "CPU")
    assert int(model.get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE")) == 0


def test_written_twice_is_the_same_bytes(student: Student, tmp_path: Path) -> None:
    first, second = (write(student, "text_encoder", tmp_path / name) for name in "ab")
    for suffix in (".xml", ".bin"):
        assert first.with_suffix(suffix).read_bytes() == second.with_suffix(suffix).read_bytes()


def test_the_sign_of_the_largest_value_is_in_its_scale() -> None:
    layer = QuantizedLayer("w4a16_nncf", None, 0, "fp32", group=2)
    weight = torch.tensor([[4.0, 1.0, -4.0, 1.0, 0.0, 0.0]])
    packed = SCHEME.pack(weight, layer)
    assert packed["scale"].tolist() == [[-0.5, 0.5, 1.0]]
    assert packed["stored"].tolist() == [[-8, -2, -8, 2, 0, 0]]
    assert SCHEME.unpack(packed).tolist() == weight.tolist()


def test_convolutions_and_tables_are_not_for_nncf() -> None:
    for module in (torch.nn.Conv2d(32, 32, 1), torch.nn.Embedding(64, 64)):
        assert SCHEME.refuse(module) == "NNCF stores products of matrices alone in 4 bits"
    assert SCHEME.refuse(torch.nn.Linear(64, 64)) is None


def test_a_layer_without_a_weight_of_its_own_is_said(student: Student, tmp_path: Path) -> None:
    model = open_core().read_model(write(student, "text_encoder", tmp_path / "ir"))
    with pytest.raises(InputError, match="absent has no weight of its own in the graph for NNCF to pack; leave it float"):
        find_multiplier(model, "absent")
    with pytest.raises(InputError, match="absent has no weight of its own"):
        pack_weights(model, {"absent": next(iter(list_packed(student.components["transformer"]).values()))})


def test_without_nncf_it_says_what_to_install(student: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_target("openvino").list_needs("int4")[-1] == "nncf"
    assert "nncf" not in load_target("openvino").list_needs("int8")
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(MachineError, match="nncf is not installed; run: pip install"):
        check_installed(load_target("openvino").list_needs("int4"))
