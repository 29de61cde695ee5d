"""One thing is changed in a saved package, and the op where it happens is named; an unchanged package has no departure."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools.optimize.coreml as cto
import numpy as np
import pytest
import torch

from sprint_export.runtimes.coreml.mil.allowance import LARGEST_FLOOR, draw_alike, half_unit, is_filled_in
from sprint_export.runtimes.coreml.mil.constants import read_constant
from sprint_export.runtimes.coreml.mil.departure import Departure, find_departure
from sprint_export.runtimes.coreml.mil.evaluate import Evaluator
from sprint_export.runtimes.coreml.mil.record import find_value, record_values
from sprint_export.runtimes.coreml.mil.sources import Sources, read_sources, recover
from tests.runtimes.coreml.mil.mil_programs import change_literal, change_weight, find_operand, load_model, save_module
from tests.runtimes.coreml.mil.toy_module import Toy, draw_input

NUMPY = {"FLOAT32": "float32", "FLOAT16": "float16"}
Reference = dict[str, torch.Tensor]
Saved = tuple[str, Path, Reference]
Change = Callable[[Path, str], None]  # package, numpy type of its weights


@pytest.fixture(scope="module", params=NUMPY)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """The toy at a precision: (precision, package, PyTorch's values)."""
    package = tmp_path_factory.mktemp(request.param) / "toy.mlpackage"
    exported = save_module(package, Toy(), (draw_input(),), request.param)
    change_literal(package, find_operand(package, "gelu", "mode"), "TANH_APPROXIMATION")  # coremltools drops it on this way
    return request.param, package, record_values(exported, (draw_input(),))


def search(package: Path, reference: Reference, **options: Any) -> Departure | None:
    return find_departure(Evaluator(package), reference, {"x": draw_input().numpy()}, **options)


def test_a_healthy_package_has_no_departure(saved: Saved) -> None:
    _, package, reference = saved
    for seed in range(10):
        assert search(package, reference, seed=seed) is None


def test_a_hundredth_of_one_weight_is_found(saved: Saved, tmp_path: Path) -> None:
    """An element that is not its source rounded stands alone with its change: nothing is allowed for the others."""
    precision, healthy, reference = saved
    exported = torch.export.export(Toy(), (draw_input(),)).run_decompositions({})
    sources = read_sources(exported, reference)
    assert search(healthy, reference, sources=sources) is None
    package = Path(shutil.copytree(healthy, tmp_path / "changed.mlpackage"))

    def step(flat: Any) -> None:
        flat[37] *= 1.01

    change_weight(package, find_operand(package, "linear_2", "weight"), NUMPY[precision], step)
    found = search(package, reference, sources=sources)
    assert found is not None
    assert "p_value_weight" in " ".join(found.weights)


def shift_one(flat: Any) -> None:
    flat[37] += 0.05  # the weights are within 0.18


def weigh(value: str, parameter: str) -> Change:
    return lambda package, dtype: change_weight(package, find_operand(package, value, parameter), dtype, shift_one)


def write(value: str, parameter: str, new: Any) -> Change:
    return lambda package, dtype: change_literal(package, find_operand(package, value, parameter), new)


# what is changed -> (how, the op's type, its value, the weight that is named)
CHANGES: dict[str, tuple[Change, str, str, str]] = {
    "one element of a weight": (weigh("linear_2", "weight"), "linear", "linear_2", "p_value_weight"),
    "one element of a bias": (weigh("linear_4", "bias"), "linear", "linear_4", "p_up_bias"),
    "an epsilon": (write("layer_norm", "epsilon", 1e-3), "layer_norm", "layer_norm", "p_norm_weight"),
    "a permutation of equal sizes": (write("transpose_2", "perm", [0, 1, 2, 3]), "transpose", "transpose_2", ""),
    "the axis of a softmax": (write("softmax", "axis", -2), "softmax", "softmax", ""),
    "a factor": (write("mul", "y", 0.71), "mul", "mul", ""),
    "the form of a gelu": (write("gelu", "mode", "EXACT"), "gelu", "gelu", ""),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_op_that_was_changed_is_named(name: str, saved: Saved, tmp_path: Path) -> None:
    precision, healthy, reference = saved
    change, op_type, value, weight = CHANGES[name]
    package = Path(shutil.copytree(healthy, tmp_path / "changed.mlpackage"))
    change(package, NUMPY[precision])
    found = search(package, reference)
    assert found is not None
    assert found.op_type == op_type
    assert found.value.removesuffix("_cast_fp16") == value, found
    assert found.error > found.tolerance
    assert weight in " ".join(found.weights)
    assert bool(found.weights) == bool(weight)
    made_of = f", made of {', '.join(found.weights)}" if weight else ""
    wanted = f"a {found.measure} error of {found.error:.3g}, allowed {found.tolerance:.3g}{made_of}"
    assert str(found) == f"op {found.op!r} ({op_type}) gives {found.value!r} with {wanted}"


def quantize(package: Path, path: Path) -> Path:
    config = cto.OptimizationConfig(global_config=cto.OpLinearQuantizerConfig(weight_threshold=0))
    cto.linear_quantize_weights(load_model(package), config).save(str(path))
    return path


def record_with_weights_of(package: Path) -> tuple[torch.export.ExportedProgram, Reference]:
    """A program with the package's own weights, and PyTorch's values of it."""
    module = copy.deepcopy(Toy())
    program = Evaluator(package).program
    names = {"query": 0, "key": 1, "value": 2, "out": 3, "up": 4, "down": 5}
    linears = [op for op in program.ops if op.type == "linear"]
    for name, place in names.items():
        weight = read_constant(program, linears[place].inputs["weight"][0])
        assert isinstance(weight, torch.Tensor)
        getattr(module, name).weight.data.copy_(weight)
    exported = torch.export.export(module, (draw_input(),)).run_decompositions({})
    return exported, record_values(exported, (draw_input(),))


@pytest.mark.parametrize("is_known", [False, True])
def test_a_changed_scale_of_a_quantized_weight_is_found(saved: Saved, is_known: bool, tmp_path: Path) -> None:
    """By 3 in a thousand where the weights' sources are known."""
    precision, healthy, float_reference = saved
    package = quantize(healthy, tmp_path / "int8.mlpackage")
    exported, reference = record_with_weights_of(package)
    sources = read_sources(exported, reference) if is_known else Sources()
    assert search(package, reference, sources=sources) is None
    assert search(package, float_reference) is not None, "a float reference is not what a quantized package computes"
    compressed = Evaluator(package).program.compressed
    (scale,) = [op.inputs["scale"][0] for op in compressed.values() if "up_weight" in op.outputs[0].name]
    factor = 1.003 if is_known else 1.03

    def grow(flat: Any) -> None:
        flat[5] *= factor

    change_weight(package, scale, NUMPY[precision], grow)
    found = search(package, reference, sources=sources)
    assert found is not None
    assert (found.op_type, scale in found.weights) == ("linear", True)


def test_names_that_belong_to_another_value_are_cleared(saved: Saved) -> None:
    """What coremltools' own counting does: a node's name stands on a value that is not the node's."""
    _, package, reference = saved
    swapped = dict(reference)
    swapped["transpose"], swapped["transpose_1"] = reference["transpose_1"], reference["transpose"]
    assert search(package, swapped) is None
    assert search(package, swapped | {"matmul": torch.randn_like(reference["matmul"])}) is None


def test_an_output_that_is_another_value_is_reported(saved: Saved) -> None:
    _, package, reference = saved
    (output,) = Evaluator(package).program.outputs
    found = search(package, reference | {output: torch.randn_like(reference[output])})
    assert found is not None
    assert found.value == output


@pytest.mark.parametrize("precision", NUMPY)
def test_a_changed_row_of_an_embedding_is_found(precision: str, tmp_path: Path) -> None:
    package, tokens = tmp_path / "m.mlpackage", torch.tensor([[3, 1, 8]], dtype=torch.int32)
    exported = save_module(package, torch.nn.Embedding(20, 6), (tokens,), precision)
    reference, feeds = record_values(exported, (tokens,)), {"input": tokens.numpy()}
    assert find_departure(Evaluator(package), reference, feeds) is None
    (table,) = [name for name, constant in Evaluator(package).program.constants.items() if constant.value.shape == (20, 6)]

    def shift(flat: Any) -> None:
        flat[8 * 6] += 0.01

    change_weight(package, table, NUMPY[precision], shift)
    found = find_departure(Evaluator(package), reference, feeds)
    assert found is not None
    assert (found.op_type, found.weights) == ("gather", (table,))


def test_a_nan_is_a_departure(saved: Saved, tmp_path: Path) -> None:
    precision, healthy, reference = saved
    package = Path(shutil.copytree(healthy, tmp_path / "changed.mlpackage"))

    def spoil(flat: Any) -> None:
        flat[0] = np.nan

    change_weight(package, find_operand(package, "linear_1", "weight"), NUMPY[precision], spoil)
    found = search(package, reference)
    assert found is not None
    assert "p_key_weight" in " ".join(found.weights)


def test_values_are_recorded_by_node_name_and_output_name() -> None:
    class Halves(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            left, right = x.split(2, dim=-1)
            product: torch.Tensor = left * right
            return product

    x = torch.arange(4.0).reshape(1, 4)
    exported = torch.export.export(Halves(), (x,)).run_decompositions({})
    values = record_values(exported, (x,), ("product",))
    assert values["split_1"].tolist() == [[2, 3]]
    assert values["mul"].tolist() == values["product"].tolist() == [[0, 3]]
    assert set(values) >= {"x", "getitem", "getitem_1"}


def test_a_value_is_found_under_coremltools_names_and_layouts() -> None:
    value = torch.randn(1, 4, 4, 3)
    reference = {"mul_1": value}
    for name in ("mul_1", "mul_1_cast_fp16", "mul_1_1_cast_fp16"):
        assert find_value(reference, name, value) is value
    channels_first = value.permute(0, 3, 1, 2)
    found = find_value(reference, "mul_1", channels_first.clone())
    assert found is not None
    assert torch.equal(found, channels_first)
    assert find_value(reference, "mul_2", value) is None
    assert find_value(reference, "mul_1", torch.zeros(1, 4, 12)) is None


def test_half_a_float16_unit_is_what_rounding_takes() -> None:
    x = torch.logspace(-30, 15, 2000, base=2.0) * 1.37
    taken = (x.half().float() - x).abs()
    assert (taken <= half_unit(x)).all()
    assert (taken / half_unit(x)).max() > 0.99
    assert is_filled_in(torch.tensor([1.0, -1.0, 0.0]))
    assert not any(is_filled_in(torch.tensor([1.0, value])) for value in (0.5, 2.0, 2.0**-24, 1e-6))


def test_equal_elements_of_a_constant_are_moved_alike() -> None:
    stored = torch.tensor([[0.3, 0.7, -0.3], [0.3, 0.7, 0.1]]).half()
    draws = [draw_alike(stored, torch.Generator().manual_seed(seed)) for seed in range(20)]
    assert all(draw[0, 0] == draw[1, 0] and draw[0, 1] == draw[1, 1] for draw in draws)
    assert {tuple(draw.flatten().tolist()) for draw in draws} > {tuple(draws[0].flatten().tolist())}


def test_a_constant_is_its_source_but_where_it_was_changed() -> None:
    source = torch.linspace(0.1, 1.3, 9)
    stored = source.half()
    value, unlike = recover(stored, source)
    assert torch.equal(value, source)
    assert not unlike.any()
    stored[4] += 0.01
    value, unlike = recover(stored, source)
    assert unlike.nonzero().tolist() == [[4]]
    assert value[4] == stored[4]
    assert recover(stored, source * 1.1)[1].all(), "another tensor"
    assert torch.equal(recover(stored, None)[0], stored)


class SmallFloor(torch.nn.Module):
    """A norm whose epsilon is rounded by half, to a power of two: what a Gemma of width 40 has."""

    def __init__(self, floor: float) -> None:
        super().__init__()
        self.floor = floor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x / 256
        return x * torch.rsqrt((x * x).sum(-1, keepdim=True) + self.floor)


@pytest.mark.parametrize("floor", [3.9e-8, 2.0**-24, 4.4e-8, 8.9e-8])
def test_an_epsilon_that_is_rounded_to_a_power_of_two_is_no_departure(floor: float, tmp_path: Path) -> None:
    exported = save_module(tmp_path / "m.mlpackage", SmallFloor(floor), (draw_input(),), "FLOAT16")
    reference = record_values(exported, (draw_input(),))
    assert search(tmp_path / "m.mlpackage", reference, sources=read_sources(exported, reference)) is None
    wrong = torch.export.export(SmallFloor(16 * floor), (draw_input(),)).run_decompositions({})
    reference = record_values(wrong, (draw_input(),))
    found = search(tmp_path / "m.mlpackage", reference, sources=read_sources(wrong, reference))
    assert found is not None
    assert found.op_type == "add"


def test_a_factor_that_16_bits_lose_is_no_departure(tmp_path: Path) -> None:
    """coremltools drops a multiplication by what rounds to 1; the same factor written out in float32 is a departure."""

    class Nearly(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x) - torch.sigmoid(x) * 0.9999

    exported = save_module(tmp_path / "m.mlpackage", Nearly(), (draw_input(),), "FLOAT16")
    reference = record_values(exported, (draw_input(),))
    assert "mul" not in {op.type for op in Evaluator(tmp_path / "m.mlpackage").program.ops}
    assert search(tmp_path / "m.mlpackage", reference) is None
    (output,) = Evaluator(tmp_path / "m.mlpackage").program.outputs
    off = reference | {output.removesuffix("_cast_fp16"): reference["sub"] + 20 * LARGEST_FLOOR * torch.sin(10 * draw_input())}
    assert search(tmp_path / "m.mlpackage", off) is not None
