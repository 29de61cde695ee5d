"""Running a package: what comes out against torch, what is recorded, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from coremltools.converters.mil import Builder as mb  # noqa: N813  # as Apple's documentation writes it

from sprint_export.errors import BundleError, InputError
from sprint_export.runtimes.coreml.mil.evaluate import Evaluator, settle
from sprint_export.runtimes.coreml.mil.program import Value
from tests.runtimes.coreml.mil.mil_programs import change_literal, find_operand, save_module, save_program
from tests.runtimes.coreml.mil.toy_module import Toy, draw_input

MAX_ERROR = {"FLOAT32": 2e-6, "FLOAT16": 3e-3}  # relative to the largest magnitude


@pytest.mark.parametrize("precision", MAX_ERROR)
def test_a_converted_module_computes_what_torch_does(precision: str, tmp_path: Path) -> None:
    module, x = Toy(), draw_input()
    package = tmp_path / "toy.mlpackage"
    save_module(package, module, (x,), precision)
    change_literal(package, find_operand(package, "gelu", "mode"), "TANH_APPROXIMATION")  # coremltools drops it on this way
    (found,) = Evaluator(package).run({"x": x.numpy()}).values()
    wanted = module(x).detach().numpy()
    error = np.abs(found - wanted).max() / np.abs(wanted).max()
    assert error <= MAX_ERROR[precision], f"{error:.3g}, allowed {MAX_ERROR[precision]:.3g}"
    assert precision == "FLOAT32" or error > 1e-5, "nothing was rounded to 16 bits"


def save_square(path: Path) -> Path:
    """y = mean of x^2 in float16, scaled down afterwards: right in float32, infinite in float16 from 256 on."""
    return save_program(
        path,
        [((1, 4), "fp16")],
        lambda x: mb.mul(x=mb.rsqrt(x=mb.reduce_mean(x=mb.square(x=x, name="squared"), axes=[-1], name="mean")), y=x, name="y"),
    )


def test_an_overflow_is_recorded_though_no_nan_comes_out(tmp_path: Path) -> None:
    evaluator = Evaluator(save_square(tmp_path / "m.mlpackage"))
    found = evaluator.run({"x": np.array([[300, 1, 2, 3]], np.float32)})["y"]
    assert found.tolist() == [[0, 0, 0, 0]]
    health = evaluator.health
    assert (health.infinities, health.nans) == (2, 0)  # the square and the mean
    first = health.first_infinite
    assert first is not None
    assert (first.op, first.op_type, first.value, first.dtype, first.infinities, first.largest) == (
        "squared",
        "square",
        "squared",
        "float16",
        1,
        9.0,
    )


def test_health_covers_all_runs_and_healthy_ones_have_no_infinity(tmp_path: Path) -> None:
    evaluator = Evaluator(save_square(tmp_path / "m.mlpackage"))
    for peak in (250, 100):
        evaluator.run({"x": np.full((1, 4), peak, np.float32)})
    assert (evaluator.health.infinities, evaluator.health.first_infinite) == (0, None)
    assert evaluator.health.largest == 62496.0  # 62500 to the nearest float16
    evaluator.run({"x": np.array([[np.nan, 1, 1, 1]], np.float32)})
    assert evaluator.health.nans == 1 + 1 + 1 + 4


def test_sums_are_accumulated_in_float32(tmp_path: Path) -> None:
    package = save_program(tmp_path / "m.mlpackage", [((1, 3), "fp16")], lambda x: mb.reduce_sum(x=x, axes=[-1], keep_dims=True))
    evaluator = Evaluator(package)
    (found,) = evaluator.run({"x": np.array([[60000, 60000, -60000]], np.float32)}).values()
    assert found.tolist() == [[60000]]
    (found,) = evaluator.run({"x": np.array([[60000, 60000, 0]], np.float32)}).values()
    assert found.tolist() == [[np.inf]]


def test_float64_is_computed_only_if_asked(tmp_path: Path) -> None:
    package = save_program(tmp_path / "m.mlpackage", [((1, 3), "fp32")], lambda x: mb.reduce_sum(x=x, axes=[-1], keep_dims=True))
    x = {"x": np.array([[2.0**25, 1.0, -(2.0**25)]], np.float32)}
    assert [Evaluator(package, compute=dtype).run(x).popitem()[1].item() for dtype in (torch.float32, torch.float64)] == [0, 1]


def test_a_watcher_sees_every_value_rounded(tmp_path: Path) -> None:
    seen: dict[str, torch.Tensor] = {}
    Evaluator(save_square(tmp_path / "m.mlpackage")).run({"x": np.full((1, 4), 0.1)}, watch=seen.__setitem__)
    assert list(seen)[:2] == ["squared", "mean"]
    assert seen["squared"][0, 0].item() == float(np.float16(float(np.float16(0.1)) ** 2))


def test_feeds_that_are_not_the_inputs_are_refused(tmp_path: Path) -> None:
    evaluator = Evaluator(save_square(tmp_path / "m.mlpackage"))
    with pytest.raises(InputError, match=r"m\.mlpackage has inputs \['x'\], found \['z'\]"):
        evaluator.run({"z": np.ones((1, 4))})
    with pytest.raises(InputError, match=r"the input 'x' has shape \[1, 4\], found \[4, 1\]"):
        evaluator.run({"x": np.ones((4, 1))})


def test_an_integer_beyond_its_type_is_a_bundle_error() -> None:
    with pytest.raises(BundleError, match="n is declared int8 and holds -3 to 200"):
        settle(Value("n", "int8", (2,)), torch.tensor([-3, 200]), torch.float32)


def test_operands_that_do_not_fit_are_a_bundle_error(tmp_path: Path) -> None:
    package = save_program(tmp_path / "m.mlpackage", [((2, 3), "fp32")], lambda x: mb.transpose(x=x, perm=[1, 0], name="turned"))
    change_literal(package, find_operand(package, "turned", "perm"), [0, 0])
    with pytest.raises(BundleError, match=r"op 'turned' \(transpose\) does not compute: "):
        Evaluator(package).run({"x": np.ones((2, 3))})
