"""Each fix of coremltools is needed still, does what it says, and leaves coremltools as it was."""

from __future__ import annotations

import contextlib
import dataclasses
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

pytest.importorskip("coremltools")
import coremltools as ct
from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY
from coremltools.converters.mil.mil import Program
from coremltools.converters.mil.mil.passes.defs.quantization import FP16ComputePrecision
from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY

from sprint_export.export.to_coreml import writer
from sprint_export.export.to_coreml.fixes import (
    HALF_PASS,
    LEFT_OUT,
    TANH_FORM,
    drop_aliases,
    exceeds_half,
    frugal_half_precision,
    frugal_passes,
    gelu_keeps_its_form,
    rsqrt_adds_nothing,
)
from sprint_export.export.to_coreml.weights import PASS, make_pipeline
from sprint_export.libraries import hush
from sprint_export.registry import load_target
from tests.export.to_onnx.graphs import quantize_small
from tests.made_student import Array

DELETE = "coremltools does this right by itself now: delete the fix, its lines in coreml_fixes' docstring and this test"


class Module(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def capture(function: Callable[[Tensor], Tensor], shape: tuple[int, ...] = (2, 8)) -> torch.export.ExportedProgram:
    module = Module(function).eval()
    program: torch.export.ExportedProgram = torch.export.export(module, (torch.zeros(shape),), strict=False).run_decompositions()
    return program


def lower(program: torch.export.ExportedProgram, **options: Any) -> list[Any]:
    """The operations coremltools makes of it, constants left out."""
    options = {"compute_precision": ct.precision.FLOAT32} | options
    with hush():
        model = ct.convert(program, minimum_deployment_target=ct.target.iOS18, skip_model_load=True, **options)
    return [op for op in model._mil_program.functions["main"].operations if op.op_type != "const"]


def forms(ops: list[Any]) -> list[str]:
    return [op.mode.val for op in ops if op.op_type == "gelu"]


def tanh_form(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def beside_a_tanh(x: Tensor) -> Tensor:
    """As in Gemma, where the soft cap makes a node called "tanh"; and an exact gelu, which must stay exact."""
    return F.gelu(torch.tanh(x), approximate="tanh") + F.gelu(x)


def test_coremltools_still_loses_the_form_of_a_gelu() -> None:
    assert forms(lower(capture(tanh_form))) == ["EXACT"], DELETE


def test_within_a_gelu_keeps_its_form() -> None:
    assert "tanh" in {node.name for node in capture(beside_a_tanh).graph.nodes}
    with gelu_keeps_its_form():
        assert forms(lower(capture(tanh_form))) == [TANH_FORM]
        assert forms(lower(capture(beside_a_tanh))) == [TANH_FORM, "EXACT"]
        assert forms(lower(capture(F.gelu))) == ["EXACT"]


def test_the_two_forms_are_50_db_apart() -> None:
    """Why it matters: nothing else about a picture would say so."""
    x = torch.linspace(-4, 4, 4001)
    error = (tanh_form(x) - F.gelu(x)).square().mean()
    assert 40 < 10 * torch.log10(F.gelu(x).square().mean() / error) < 90


def test_left_alone_an_rsqrt_adds_an_epsilon_of_its_own() -> None:
    (op,) = lower(capture(torch.rsqrt))
    assert op.epsilon.val == pytest.approx(1e-12), DELETE


def test_within_an_rsqrt_adds_nothing() -> None:
    with rsqrt_adds_nothing():
        (op,) = lower(capture(torch.rsqrt))
    assert op.op_type == "rsqrt"
    assert op.epsilon.val == 0


def registered() -> list[object]:
    """What the fixes put something else in the place of."""
    return [_TORCH_OPS_REGISTRY.get_func("gelu"), _TORCH_OPS_REGISTRY.get_func("rsqrt"), PASS_REGISTRY.passes[HALF_PASS]]


@pytest.mark.parametrize("fails", [False, True])
def test_afterwards_coremltools_is_as_before(fails: bool) -> None:
    before = registered()
    try:
        with gelu_keeps_its_form(), rsqrt_adds_nothing(), frugal_half_precision():
            assert not any(new is old for new, old in zip(registered(), before, strict=True))
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    assert registered() == before


def with_aliases(x: Tensor) -> Tensor:
    first: Tensor = torch.ops.aten.alias.default(torch.relu(x))
    return torch.ops.aten.alias.default(torch.ops.aten.alias.default(first) * 2 + first)  # type: ignore[no-any-return]  # an op


def test_coremltools_still_knows_no_alias() -> None:
    with pytest.raises(NotImplementedError, match="alias"):
        pytest.fail(f"{DELETE}: {lower(capture(with_aliases))}")


def test_aliases_are_removed_and_nothing_else() -> None:
    program = capture(with_aliases)
    x = torch.randn(2, 8)
    wanted = program.module()(x)
    drop_aliases(program)
    targets = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert targets == [torch.ops.aten.relu.default, torch.ops.aten.mul.Tensor, torch.ops.aten.add.Tensor]
    assert torch.equal(program.module(check_guards=False)(x), wanted)
    assert [op.op_type for op in lower(program)] == ["relu", "mul", "add"]


def scale_and_shift(x: Tensor) -> Tensor:
    """[1, 4, 3, 3]: x a + b by channel, as an RMS norm with a bias ends."""
    steps = torch.arange(4.0).reshape(4, 1, 1)
    return x * (1 + steps) + (0.5 + steps)


def test_left_alone_a_product_and_sum_become_a_norm_with_an_epsilon() -> None:
    (norm,) = lower(capture(scale_and_shift, (1, 4, 3, 3)))
    assert norm.op_type == "batch_norm", DELETE
    assert norm.variance.val.tolist() == [1, 1, 1, 1]
    assert norm.epsilon.val == pytest.approx(1e-5), DELETE


def test_without_that_pass_they_stay() -> None:
    pipeline = make_pipeline({}, {}, {})
    assert set(LEFT_OUT) <= set(ct.PassPipeline().passes), "a pass of that name exists"
    assert not set(LEFT_OUT) & set(pipeline.passes)
    assert pipeline.passes[-1] == PASS, "weights are compressed when all else is done"
    assert [op.op_type for op in lower(capture(scale_and_shift, (1, 4, 3, 3)), pass_pipeline=pipeline)] == ["mul", "add"]


def reading(value: Array) -> Any:
    """As much of an operation as the search for large weights looks at: one that reads a float32 constant."""
    const = SimpleNamespace(op_type="const", val=SimpleNamespace(val=value))
    return SimpleNamespace(inputs={"x": SimpleNamespace(op=const, is_tensor_or_scalar_of=lambda dtype: dtype == "fp32")})


def peak_bytes(function: Callable[[Any], bool], op: Any) -> int:
    tracemalloc.start()
    try:
        function(op)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_coremltools_still_makes_indices_of_64_bits_for_every_weight() -> None:
    op = reading(np.ones((512, 512), np.float32))
    theirs = peak_bytes(FP16ComputePrecision.fp16_overflow, op) / 512**2
    with frugal_half_precision():
        ours = peak_bytes(PASS_REGISTRY.passes[HALF_PASS].fp16_overflow, op) / 512**2
    assert theirs >= 16, f"{theirs:.1f} bytes a weight; {DELETE}"
    assert ours <= 4, f"{ours:.1f} bytes a weight, at most 4"


@pytest.mark.parametrize(
    ("value", "beyond"),
    [
        ([1.0, -2.0], False),
        ([65504.0, -65504.0], False),
        ([65520.0], True),
        ([-1e5, 1.0], True),
        ([-np.inf, 0.0, 1e38], False),
        ([-3.4e38, 7e4], True),
        ([], False),
    ],
)
def test_the_search_finds_what_coremltools_finds(value: list[float], beyond: bool) -> None:
    array = np.array(value, np.float32)
    assert exceeds_half(array) == FP16ComputePrecision.fp16_overflow(reading(array)) == beyond
    with frugal_half_precision():
        found = PASS_REGISTRY.passes[HALF_PASS].fp16_overflow
        assert found(reading(array)) == beyond
        listed = SimpleNamespace(inputs={"values": (reading(np.ones(2, np.float32)).inputs["x"], reading(array).inputs["x"])})
        assert found(listed) == beyond


@pytest.mark.parametrize(("factor", "dtype"), [(6e4, "fp16"), (7e4, "fp32")])
def test_an_operation_with_a_large_weight_stays_in_float32(factor: float, dtype: str) -> None:
    with frugal_half_precision():
        ops = lower(capture(lambda x: x * factor * torch.ones(8) + 1), compute_precision=ct.precision.FLOAT16)
    (product,) = [op for op in ops if op.op_type == "mul"]
    assert product.outputs[0].is_tensor_or_scalar_of(dtype=dtype)


@pytest.mark.parametrize("precision", ["fp16", "int8"])  # the latter with compressed constants
def test_without_a_check_after_each_pass_the_file_is_the_same(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    component, checks, validate = quantize_small("int8", "fp16", 0, target="coreml"), Counter[str](), Program.validate
    if precision == "fp16":
        component = dataclasses.replace(component, layers={})
    for name, passes in (("frugal", frugal_passes), ("usual", contextlib.nullcontext)):

        def count(program: Any, *given: Any, name: str = name, **named: Any) -> None:
            checks[name] += 1
            validate(program, *given, **named)

        monkeypatch.setattr(Program, "validate", count)
        monkeypatch.setattr(writer, "frugal_passes", passes)
        options = {"deployment_target": "iOS18", "compute_unit": "all"}
        writer.EXPORTER.write_component(component, load_target("coreml"), precision, options, tmp_path / name)
        assert Program.validate is count
    files = sorted(path.relative_to(tmp_path / "usual") for path in (tmp_path / "usual").rglob("*") if path.is_file())
    different = [file for file in files if (tmp_path / "frugal" / file).read_bytes() != (tmp_path / "usual" / file).read_bytes()]
    assert files
    assert not different
    assert checks["frugal"] == 1
    assert checks["usual"] > 100, DELETE
