"""Compressed weights: what coremltools' optimizers write, decompressed here and by coremltools or by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
import pytest
import torch
from coremltools.converters.mil import Builder as mb  # noqa: N813  # as Apple's documentation writes it
from coremltools.converters.mil.mil import types

from sprint_export.errors import BundleError
from sprint_export.runtimes.coreml.mil import constants
from sprint_export.runtimes.coreml.mil.constants import DECOMPRESS, feeding_weights, look_up, read_constant, shift_scale
from sprint_export.runtimes.coreml.mil.evaluate import Evaluator
from sprint_export.runtimes.coreml.mil.program import Program
from tests.runtimes.coreml.mil.mil_programs import load_model, save_program

MAX_ERROR = 1e-3  # of the largest weight: coremltools rounds its products to float16 in another place

WEIGHT = torch.randn(64, 96, generator=torch.Generator().manual_seed(0)).half().numpy()


def quantize(**options: Any) -> Any:
    return lambda model: cto.linear_quantize_weights(model, _config(cto.OpLinearQuantizerConfig(weight_threshold=0, **options)))


def palettize(joint: bool = False, **options: Any) -> Any:
    config = _config(cto.OpPalettizerConfig(mode="uniform", weight_threshold=0, **options))
    return lambda model: cto.palettize_weights(model, config, joint_compression=joint)


def prune(model: Any) -> Any:
    return cto.prune_weights(model, _config(cto.OpMagnitudePrunerConfig(target_sparsity=0.5, weight_threshold=0)))


def lut_of_int8(model: Any) -> Any:
    config = _config(cto.OpLinearQuantizerConfig(weight_threshold=0, granularity="per_tensor"))
    return cto.linear_quantize_weights(palettize(nbits=4)(model), config, joint_compression=True)


def _config(op: Any) -> Any:
    return cto.OptimizationConfig(global_config=op)


# compression -> (what makes it, the ops it leaves, largest deviation from the weight over the largest weight)
COMPRESSIONS: dict[str, tuple[Any, set[str], float]] = {
    "int8 per channel": (quantize(mode="linear_symmetric", dtype="int8"), {"blockwise_shift_scale"}, 0.005),
    "uint8 with a zero point": (quantize(mode="linear", dtype="uint8"), {"blockwise_shift_scale"}, 0.005),
    "int4 per block": (
        quantize(mode="linear_symmetric", dtype="int4", granularity="per_block", block_size=32),
        {"blockwise_shift_scale"},
        0.1,
    ),
    "uint4 per block": (
        quantize(mode="linear", dtype="uint4", granularity="per_block", block_size=32),
        {"blockwise_shift_scale"},
        0.1,
    ),
    "palette of 6 bits": (palettize(nbits=6), {"lut_to_dense"}, 0.1),
    "palette of 4 bits": (palettize(nbits=4), {"lut_to_dense"}, 0.1),
    "palettes per 16 channels": (palettize(nbits=4, granularity="per_grouped_channel", group_size=16), {"lut_to_dense"}, 0.1),
    "sparse": (prune, {"sparse_to_dense"}, 0.3),
    "palette of int8": (lut_of_int8, {"lut_to_dense", "blockwise_shift_scale"}, 0.1),
    "sparse palette": (lambda model: palettize(nbits=4, joint=True)(prune(model)), {"sparse_to_dense", "lut_to_sparse"}, 0.3),
    "sparse int8": (
        lambda model: cto.linear_quantize_weights(
            prune(model), _config(cto.OpLinearQuantizerConfig(weight_threshold=0)), joint_compression=True
        ),
        {"sparse_to_dense", "sparse_blockwise_shift_scale"},
        0.3,
    ),
}


def save_linear(path: Path, target: Any = ct.target.iOS18) -> Path:
    return save_program(path, [((3, 96), "fp16")], lambda x: mb.linear(x=x, weight=WEIGHT), target)


def read_weight(program: Program) -> torch.Tensor:
    (op,) = [op for op in program.ops if op.type == "linear"]
    weight = read_constant(program, op.inputs["weight"][0])
    assert isinstance(weight, torch.Tensor)
    assert op.inputs["weight"][0] in program.compressed
    return weight


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_linear(tmp_path_factory.mktemp("plain") / "linear.mlpackage")


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_a_compressed_weight_is_what_coremltools_decompresses(name: str, plain: Path, tmp_path: Path) -> None:
    compress, kinds, max_deviation = COMPRESSIONS[name]
    compressed = compress(load_model(plain))
    compressed.save(str(tmp_path / "compressed.mlpackage"))
    program = Evaluator(tmp_path / "compressed.mlpackage").program
    assert {op.type for op in program.compressed.values()} == {f"constexpr_{kind}" for kind in kinds}
    weight = read_weight(program)
    assert weight.dtype == torch.float16
    cto.decompress_weights(compressed).save(str(tmp_path / "dense.mlpackage"))
    dense = Evaluator(tmp_path / "dense.mlpackage").program
    (op,) = [op for op in dense.ops if op.type == "linear"]
    wanted = np.asarray(dense.constants[op.inputs["weight"][0]].load(), np.float64)
    peak = np.abs(WEIGHT).max()
    assert np.abs(weight.double().numpy() - wanted).max() <= MAX_ERROR * peak
    deviation = np.abs(weight.double().numpy() - WEIGHT).max() / peak
    assert 0 < deviation < max_deviation, deviation


@pytest.mark.parametrize("name", ["int8 per channel", "palette of 4 bits", "sparse"])
def test_the_forms_of_ios_16_are_decompressed_too(name: str, tmp_path: Path) -> None:
    package = save_linear(tmp_path / "linear.mlpackage", ct.target.iOS16)
    COMPRESSIONS[name][0](load_model(package)).save(str(tmp_path / "compressed.mlpackage"))
    program = Evaluator(tmp_path / "compressed.mlpackage").program
    wanted = {"int8 per channel": "affine_dequantize", "palette of 4 bits": "lut_to_dense", "sparse": "sparse_to_dense"}
    assert {op.type for op in program.compressed.values()} == {f"constexpr_{wanted[name]}"}
    deviation = np.abs(read_weight(program).numpy() - WEIGHT).max() / np.abs(WEIGHT).max()
    assert 0 < deviation < COMPRESSIONS[name][2]
    if name == "sparse":
        assert (read_weight(program) == 0).float().mean() == pytest.approx(0.5, abs=0.001)


def test_a_compressed_weight_is_what_the_op_uses(plain: Path, tmp_path: Path) -> None:
    COMPRESSIONS["int8 per channel"][0](load_model(plain)).save(str(tmp_path / "compressed.mlpackage"))
    evaluator = Evaluator(tmp_path / "compressed.mlpackage")
    x = torch.randn(3, 96, generator=torch.Generator().manual_seed(1)).half()
    (found,) = evaluator.run({"x": x.numpy()}).values()
    wanted = x.float() @ read_weight(evaluator.program).float().T
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-3, atol=1e-2)
    (name,) = list(evaluator.program.compressed)
    assert len(feeding_weights(evaluator.program, name)) == 2  # data and scale


def test_apples_example_of_palettes_per_group() -> None:
    indices = torch.tensor([2, 3, 3, 0, 1, 0, 3, 0, 2, 1, 0, 3], dtype=torch.uint8).reshape(6, 2)
    lut = torch.tensor([1.0, 5, 9, 13, 2, 10, 18, 26]).reshape(2, 1, 4, 1)
    wanted = [[9, 13], [13, 1], [5, 1], [26, 2], [18, 10], [2, 26]]
    assert look_up(indices, lut, 0, torch.float32).tolist() == wanted


def test_apples_examples_of_vector_palettes() -> None:
    indices = torch.tensor([0, 0, 1, 0, 1, 1, 0, 0], dtype=torch.uint8).reshape(2, 2, 2)
    a, b = [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]
    lut = torch.tensor([a, b]).reshape(1, 1, 1, 2, 3)
    middle = look_up(indices, lut, 1, torch.float32)
    assert middle[0].tolist() == [[1, 1], [2, 2], [3, 3], [4, 1], [5, 2], [6, 3]]
    last = look_up(indices, lut, 2, torch.float32)
    assert last.tolist() == [[a + a, b + a], [b + b, a + a]]


@pytest.mark.parametrize(
    ("lut", "axis", "mask", "wanted"),
    [
        ([2.0, 3.0], None, ["110000", "110001", "011010", "000100"], [2.0, 3, 3, 2, 3, 3, 2, 2, 3]),
        (
            [2.0, 2.5, 3.0, 3.5],
            0,
            ["110000", "110000", "110001", "110001", "011010", "011010", "000100", "000100"],
            [2, 3, 2.5, 3.5, 3, 2, 3, 3.5, 2.5, 3.5, 3, 2, 2, 3.5, 2.5, 2.5, 3, 3.5],
        ),
    ],
    ids=["scalars", "vectors"],
)
def test_apples_examples_of_sparse_palettes(lut: list[float], axis: int | None, mask: list[str], wanted: list[float]) -> None:
    rows = ["110000", "110001", "011010", "000100"]
    parts: dict[str, Any] = {
        "indices_mask": torch.tensor([[int(bit) for bit in row] for row in rows], dtype=torch.uint8),
        "indices_nonzero_data": torch.tensor([0, 1, 1, 0, 1, 1, 0, 0, 1], dtype=torch.uint8),
        "lut": torch.tensor(lut).reshape(1, 1, 2, -1),
    }
    parts |= {} if axis is None else {"vector_axis": torch.tensor(axis)}
    found_mask, found = DECOMPRESS["constexpr_lut_to_sparse"](parts, torch.float32)
    assert ["".join(str(bit) for bit in row) for row in found_mask.tolist()] == mask
    assert found.tolist() == wanted


def test_a_scale_holds_for_its_block() -> None:
    data = torch.arange(24, dtype=torch.int8).reshape(4, 6)
    scale, offset = torch.tensor([[1.0, 10.0], [2.0, 20.0]]), torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    found = shift_scale(data, scale, offset, torch.float32)
    for i in range(4):
        for j in range(6):
            assert found[i, j] == scale[i // 2, j // 3] * (data[i, j] - offset[i // 2, j // 3])


def test_large_weights_are_decompressed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    data = torch.randint(-8, 8, (12, 10), generator=generator, dtype=torch.int8)
    scales = [torch.rand(rows, 5, generator=generator) for rows in (1, 3, 12)]
    lut = torch.rand(4, 1, 16, 1, generator=generator)
    whole = [shift_scale(data, scale, None, torch.float16) for scale in scales]
    palette = look_up((data + 8).to(torch.uint8), lut, 0, torch.float16)
    monkeypatch.setattr(constants, "CHUNK", 25)
    for scale, wanted in zip(scales, whole, strict=True):
        assert torch.equal(shift_scale(data, scale, None, torch.float16), wanted)
    assert torch.equal(look_up((data + 8).to(torch.uint8), lut, 0, torch.float16), palette)


def test_an_index_beyond_the_palette_is_a_bundle_error(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        indices = np.array([0, 1, 2, 3], dtype=types.nptype_from_builtin(types.uint2)).reshape(2, 2)
        lut = np.arange(4, dtype=np.float16).reshape(1, 1, 4, 1)
        return mb.linear(x=x, weight=mb.constexpr_lut_to_dense(indices=indices, lut=lut, name="palette"))

    package = save_program(tmp_path / "p.mlpackage", [((1, 2), "fp16")], build)
    program = Evaluator(package).program
    assert read_constant(program, "palette").tolist() == [[0, 1], [2, 3]]  # type: ignore[union-attr]  # it is no text
    short = Program(
        **{**vars(program), "constants": {**program.constants, program.compressed["palette"].inputs["lut"][0]: _short(program)}}
    )
    with pytest.raises(
        BundleError, match=r"op 'palette' \(constexpr_lut_to_dense\) does not decompress: an index of 3 into a palette of 2"
    ):
        read_constant(short, "palette")


def _short(program: Program) -> Any:
    lut = program.constants[program.compressed["palette"].inputs["lut"][0]]
    return type(lut)(lut.value, lambda: np.zeros((1, 1, 2, 1), np.float16), lut.on_disk)
