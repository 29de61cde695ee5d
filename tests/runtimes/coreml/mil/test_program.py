"""Reading a saved package: what is in it, and what a damaged one says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil import Builder as mb  # noqa: N813  # as Apple's documentation writes it

from sprint_export.errors import BundleError, InputError, RefusedError
from sprint_export.runtimes.coreml.mil.evaluate import Evaluator
from sprint_export.runtimes.coreml.mil.program import Value, find_model, read_model, read_program
from sprint_export.runtimes.coreml.mil.weights_file import unpack_bits
from tests.runtimes.coreml.mil.mil_programs import TYPES, find_literal, list_operations, save_model, save_program

WEIGHT = np.arange(64 * 32, dtype=np.float32).reshape(64, 32)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """y = relu(x W^T)."""
    package = tmp_path_factory.mktemp("saved") / "model.mlpackage"
    return save_program(package, [((1, 32), "fp32")], lambda x: mb.relu(x=mb.linear(x=x, weight=WEIGHT, name="dense"), name="y"))


@pytest.fixture
def package(saved: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(saved, tmp_path / "model.mlpackage"))


def weights_of(package: Path) -> Path:
    return find_model(package).parent / "weights" / "weight.bin"


def test_a_program_is_its_ops_in_order(saved: Path) -> None:
    program = read_program(saved)
    assert [(op.type, op.name) for op in program.ops] == [("linear", "dense"), ("relu", "y")]
    assert program.inputs == (Value("x", "float32", (1, 32)),)
    assert program.outputs == ("y",)
    weight = program.constants[program.ops[0].inputs["weight"][0]]
    assert (weight.on_disk, weight.value.shape) == (True, (64, 32))
    np.testing.assert_array_equal(weight.load(), WEIGHT)


def test_reading_changes_no_file(saved: Path) -> None:
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in saved.rglob("*") if path.is_file()}
    Evaluator(saved).run({"x": np.ones((1, 32), np.float32)})
    assert before == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in saved.rglob("*") if path.is_file()}


def test_no_package_and_no_manifest_are_bundle_errors(package: Path) -> None:
    with pytest.raises(BundleError, match=r"none\.mlpackage is no Core ML package: it has no Manifest\.json; export"):
        read_program(package.parent / "none.mlpackage")
    (package / "Manifest.json").write_text("{}")
    with pytest.raises(BundleError, match=r"Manifest\.json names no model \(KeyError"):
        read_program(package)


def test_a_manifest_may_not_point_outside(package: Path) -> None:
    manifest = json.loads((package / "Manifest.json").read_text())
    manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"] = "../../secret"
    (package / "Manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"points outside the package, to \.\./\.\./secret; do not use it"):
        read_program(package)


def test_a_truncated_or_missing_model_is_a_bundle_error(package: Path) -> None:
    model = find_model(package)
    data = model.read_bytes()
    model.write_bytes(data[: len(data) // 2])
    with pytest.raises(BundleError, match=rf"model\.mlmodel is damaged \({len(data) // 2} bytes: .*\); export the student again"):
        read_program(package)
    model.write_bytes(b"")
    with pytest.raises(BundleError, match=r"holds a model of no type, expected an mlProgram; export"):
        read_program(package)
    model.unlink()
    with pytest.raises(BundleError, match=r"model\.mlpackage has no Data/com\.apple\.CoreML/model\.mlmodel"):
        read_program(package)


def test_a_truncated_or_missing_weights_file_is_a_bundle_error(package: Path) -> None:
    weights = weights_of(package)
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(BundleError, match=r"weight\.bin is truncated at 5000 bytes: \S*weight\S* lies beyond; export"):
        read_program(package)
    weights.unlink()
    with pytest.raises(BundleError, match=r"weight\.bin is missing, which holds the weights"):
        read_program(package)


def test_weights_of_another_model_are_a_bundle_error(package: Path) -> None:
    weights = weights_of(package)
    weights.write_bytes(bytes(weights.stat().st_size))
    with pytest.raises(BundleError, match=r"has something else at 64, expected 8192 bytes for \S+, float32 \[64, 32\]"):
        read_program(package)


def test_weights_outside_the_package_are_not_read(package: Path) -> None:
    model = read_model(package)
    name = read_program(package).ops[0].inputs["weight"][0]
    find_literal(model, name).blobFileValue.fileName = "@model_path/weights/../../../secret"
    find_model(package).write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=r"is in '@model_path/weights/\.\./\.\./\.\./secret', outside the package"):
        read_program(package)


def test_an_unknown_function_lists_the_known(saved: Path) -> None:
    with pytest.raises(InputError, match=r"unknown function of .*model\.mlpackage: 'other'; choose from: main"):
        read_program(saved, "other")


def test_an_operand_that_nothing_gives_is_a_bundle_error(package: Path) -> None:
    model = read_model(package)
    list_operations(model)[-1].inputs["x"].arguments[0].name = "ghost"
    find_model(package).write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=r"op 'y' reads 'ghost', which nothing gives"):
        read_program(package)


def test_a_shape_that_is_not_the_declared_one_is_a_bundle_error(package: Path) -> None:
    model = read_model(package)
    list_operations(model)[-1].outputs[0].type.tensorType.dimensions[1].constant.size = 63
    find_model(package).write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=r"op 'y' \(relu\) gives 'y' with shape \[1, 64\], the package declares \[1, 63\]"):
        Evaluator(package).run({"x": np.ones((1, 32), np.float32)})


def test_flexible_shapes_are_not_covered(tmp_path: Path) -> None:
    spec = mb.TensorSpec(shape=(ct.converters.mil.mil.get_new_symbol(), 4), dtype=TYPES["fp32"])
    program = mb.program(input_specs=[spec], opset_version=ct.target.iOS18)(lambda x: mb.relu(x=x))
    inputs = [ct.TensorType("x", ct.Shape((ct.RangeDim(1, 8, 2), 4)))]
    save_model(tmp_path / "m.mlpackage", program, ct.target.iOS18, inputs=inputs)
    with pytest.raises(RefusedError, match=r"the value 'x' has a flexible shape; the checker covers fixed shapes only"):
        read_program(tmp_path / "m.mlpackage")


@pytest.mark.parametrize("function", ["small", "large"])
def test_functions_share_a_package(function: str, tmp_path: Path) -> None:
    descriptor = ct.utils.MultiFunctionDescriptor()
    for name, factor in (("small", 2.0), ("large", 300.0)):
        path = save_program(tmp_path / f"{name}.mlpackage", [((2,), "fp32")], _scaler(factor))
        descriptor.add_function(str(path), "main", name)
    descriptor.default_function_name = "small"
    ct.utils.save_multifunction(descriptor, str(tmp_path / "both.mlpackage"))
    (found,) = Evaluator(tmp_path / "both.mlpackage", function).run({"x": np.array([1, -1], np.float32)}).values()
    assert found.tolist() == ([2, -2] if function == "small" else [300, -300])


def _scaler(factor: float) -> Any:
    return lambda x: mb.mul(x=x, y=np.float32(factor))


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8])
def test_bits_are_unpacked_lowest_first(bits: int) -> None:
    values = torch.randint(0, 2**bits, (13,), generator=torch.Generator().manual_seed(0)).tolist()
    whole = sum(value << (bits * i) for i, value in enumerate(values))
    packed = np.frombuffer(whole.to_bytes(-(-13 * bits // 8), "little"), np.uint8)
    assert unpack_bits(packed, bits, 13).tolist() == values
    if bits == 4:
        assert unpack_bits(packed, 4, 13, signed=True).tolist() == [value - 16 * (value >= 8) for value in values]
