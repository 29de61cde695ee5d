"""Each MIL op by itself: a program of one op, saved, evaluated, and compared with torch or with Apple's formula in numpy."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from coremltools.converters.mil import Builder as mb  # noqa: N813  # as Apple's documentation writes it

from sprint_export.errors import RefusedError
from sprint_export.runtimes.coreml.mil.evaluate import OPS, Evaluator
from tests.runtimes.coreml.mil.mil_programs import Spec, save_program

MAX_ERROR = 2e-6  # relative to the largest magnitude: float32 in another order

RANDOM = torch.Generator().manual_seed(0)
W = torch.randn(6, 4, 3, 3, generator=RANDOM)
W_GROUPS = torch.randn(4, 2, 3, 3, generator=RANDOM)
M = torch.randn(5, 6, generator=RANDOM)
V = torch.randn(6, generator=RANDOM)
V4 = torch.rand(4, generator=RANDOM) + 0.5

IMAGE: Spec = ((2, 4, 5, 6), "fp32")
INDICES = np.array([[0, -1], [2, 1]], np.int32)

CASES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "add": (lambda x: mb.add(x=x, y=V.numpy()), lambda x: x + V),
    "sub": (lambda x: mb.sub(x=x, y=V.numpy()), lambda x: x - V),
    "mul": (lambda x: mb.mul(x=x, y=V.numpy()), lambda x: x * V),
    "real_div": (lambda x: mb.real_div(x=x, y=V.numpy()), lambda x: x / V),
    "floor_div": (lambda x: mb.floor_div(x=x, y=V.numpy()), lambda x: torch.floor(x / V)),
    "mod": (lambda x: mb.mod(x=x, y=np.float32(0.75)), lambda x: x - 0.75 * torch.floor(x / 0.75)),
    "pow": (lambda x: mb.pow(x=x, y=np.float32(3)), lambda x: x * x * x),
    "maximum": (lambda x: mb.maximum(x=x, y=V.numpy()), lambda x: torch.maximum(x, V)),
    "minimum": (lambda x: mb.minimum(x=x, y=V.numpy()), lambda x: torch.minimum(x, V)),
    "abs": (lambda x: mb.abs(x=x), torch.abs),
    "sign": (lambda x: mb.sign(x=x), torch.sign),
    "square": (lambda x: mb.square(x=x), lambda x: x * x),
    "sqrt": (lambda x: mb.sqrt(x=mb.abs(x=x)), lambda x: x.abs().sqrt()),
    "exp": (lambda x: mb.exp(x=x), torch.exp),
    "exp2": (lambda x: mb.exp2(x=x), torch.exp2),
    "sin": (lambda x: mb.sin(x=x), torch.sin),
    "cos": (lambda x: mb.cos(x=x), torch.cos),
    "tanh": (lambda x: mb.tanh(x=x), torch.tanh),
    "erf": (lambda x: mb.erf(x=x), torch.erf),
    "floor": (lambda x: mb.floor(x=x), torch.floor),
    "ceil": (lambda x: mb.ceil(x=x), torch.ceil),
    "round": (lambda x: mb.round(x=x), torch.round),
    "identity": (lambda x: mb.identity(x=x), lambda x: x),
    "rsqrt": (lambda x: mb.rsqrt(x=mb.square(x=x), epsilon=0.25), lambda x: (x * x + 0.25).rsqrt()),
    "log": (lambda x: mb.log(x=mb.square(x=x), epsilon=0.25), lambda x: (x * x + 0.25).log()),
    "inverse": (lambda x: mb.inverse(x=mb.square(x=x), epsilon=0.5), lambda x: 1 / (x * x + 0.5)),
    "relu": (lambda x: mb.relu(x=x), lambda x: x.clamp(min=0)),
    "relu6": (lambda x: mb.relu6(x=mb.mul(x=x, y=np.float32(5))), lambda x: (5 * x).clamp(0, 6)),
    "silu": (lambda x: mb.silu(x=x), lambda x: x / (1 + (-x).exp())),
    "sigmoid": (lambda x: mb.sigmoid(x=x), lambda x: 1 / (1 + (-x).exp())),
    "softplus": (lambda x: mb.softplus(x=x), lambda x: (1 + x.exp()).log()),
    "softsign": (lambda x: mb.softsign(x=x), lambda x: x / (1 + x.abs())),
    "leaky_relu": (lambda x: mb.leaky_relu(x=x, alpha=0.3), lambda x: torch.where(x > 0, x, 0.3 * x)),
    "sigmoid_hard": (lambda x: mb.sigmoid_hard(x=x, alpha=0.3, beta=0.4), lambda x: (0.3 * x + 0.4).clamp(0, 1)),
    "clip": (lambda x: mb.clip(x=x, alpha=-0.5, beta=0.75), lambda x: x.clamp(-0.5, 0.75)),
    "greater, select": (lambda x: mb.select(cond=mb.greater(x=x, y=V.numpy()), a=x, b=V.numpy()), lambda x: torch.maximum(x, V)),
    "less_equal, cast": (lambda x: mb.cast(x=mb.less_equal(x=x, y=V.numpy()), dtype="fp32"), lambda x: (x <= V).float()),
    "comparisons, logic": (
        lambda x: mb.cast(
            x=mb.logical_or(
                x=mb.logical_and(x=mb.less(x=x, y=V.numpy()), y=mb.logical_not(x=mb.equal(x=x, y=x))),
                y=mb.logical_xor(x=mb.greater_equal(x=x, y=V.numpy()), y=mb.not_equal(x=x, y=x)),
            ),
            dtype="int32",
        ),
        lambda x: (x >= V).int(),
    ),
    "cast towards zero": (lambda x: mb.cast(x=mb.mul(x=x, y=np.float32(3)), dtype="int32"), lambda x: (x * 3).int()),
    "reshape": (lambda x: mb.reshape(x=x, shape=[2, -1, 0]), lambda x: x.reshape(2, 20, 6)),
    "transpose": (lambda x: mb.transpose(x=x, perm=[0, 2, 3, 1]), lambda x: x.permute(0, 2, 3, 1)),
    "expand_dims": (lambda x: mb.expand_dims(x=x, axes=[1]), lambda x: x[:, None]),
    "squeeze": (lambda x: mb.squeeze(x=mb.expand_dims(x=x, axes=[0]), axes=[0]), lambda x: x),
    "split": (lambda x: mb.split(x=x, split_sizes=[1, 3], axis=1)[1], lambda x: x[:, 1:]),
    "split in equal parts": (lambda x: mb.split(x=x, num_splits=2, axis=-1)[0], lambda x: x[..., :3]),
    "concat": (lambda x: mb.concat(values=[x, mb.relu(x=x)], axis=1), lambda x: torch.cat([x, x.relu()], 1)),
    "concat interleaved": (
        lambda x: mb.concat(values=[x, mb.relu(x=x)], axis=1, interleave=True),
        lambda x: torch.stack(
            [x[:, 0], x[:, 0].relu(), x[:, 1], x[:, 1].relu(), x[:, 2], x[:, 2].relu(), x[:, 3], x[:, 3].relu()], 1
        ),
    ),
    "stack": (lambda x: mb.stack(values=[x, mb.relu(x=x)], axis=1), lambda x: torch.stack([x, x.relu()], 1)),
    "slice_by_index": (
        lambda x: mb.slice_by_index(
            x=x,
            begin=[1, 0, 4, -5],
            end=[0, 3, 0, 6],
            stride=[1, 2, -2, 1],
            begin_mask=[False] * 4,
            end_mask=[False, False, True, False],
            squeeze_mask=[True, False, False, False],
        ),
        lambda x: x[1, 0:3:2].flip(1)[:, ::2, 1:],
    ),
    "slice_by_size": (lambda x: mb.slice_by_size(x=x, begin=[0, 1, 2, 0], size=[-1, 2, 3, 6]), lambda x: x[:, 1:3, 2:5]),
    "tile": (lambda x: mb.tile(x=x, reps=[1, 2, 1, 3]), lambda x: x.repeat(1, 2, 1, 3)),
    "pad": (
        lambda x: mb.pad(x=x, pad=[0, 1, 2, 3], mode="constant", constant_val=0.5),
        lambda x: F.pad(x, [2, 3, 0, 1], value=0.5),
    ),
    "pad reflect": (lambda x: mb.pad(x=x, pad=[0, 1, 2, 3], mode="reflect"), lambda x: F.pad(x, [2, 3, 0, 1], mode="reflect")),
    "gather": (lambda x: mb.gather(x=x, indices=INDICES, axis=1), lambda x: x[:, [[0, 3], [2, 1]]]),
    "gather_along_axis": (lambda x: mb.gather_along_axis(x=x, indices=np.zeros((1, 4, 5, 6), np.int32), axis=0), lambda x: x[:1]),
    "pixel_shuffle": (lambda x: mb.pixel_shuffle(x=x, upscale_factor=2), lambda x: F.pixel_shuffle(x, 2)),
    "pixel_unshuffle": (
        lambda x: mb.pixel_unshuffle(x=mb.pixel_shuffle(x=x, upscale_factor=2), downscale_factor=np.uint32(2)),
        lambda x: x,
    ),
    "upsample_nearest_neighbor": (
        lambda x: mb.upsample_nearest_neighbor(x=x, scale_factor_height=2, scale_factor_width=3),
        lambda x: F.interpolate(x, scale_factor=(2, 3)),
    ),
    "reverse": (lambda x: mb.reverse(x=x, axes=[1, 3]), lambda x: x.flip(1, 3)),
    "shape": (lambda x: mb.shape(x=mb.relu(x=x)), lambda x: torch.tensor(x.shape, dtype=torch.int32)),
    "fill": (lambda x: mb.fill(shape=mb.shape(x=x), value=0.5), lambda x: torch.full_like(x, 0.5)),
    "range_1d": (
        lambda x: mb.range_1d(start=np.float32(1), end=np.float32(7), step=np.float32(2)),
        lambda x: torch.tensor([1.0, 3, 5]),
    ),
    "linear": (lambda x: mb.linear(x=x, weight=M.numpy(), bias=M[:, 0].numpy()), lambda x: x @ M.T + M[:, 0]),
    "matmul": (lambda x: mb.matmul(x=x, y=M.numpy(), transpose_y=True), lambda x: torch.einsum("bchw,ow->bcho", x, M)),
    "matmul transposed": (lambda x: mb.matmul(x=x, y=x, transpose_x=True), lambda x: torch.einsum("bchw,bchv->bcwv", x, x)),
    "einsum": (
        lambda x: mb.einsum(values=(x, mb.transpose(x=x, perm=[0, 3, 2, 1])), equation="nchw,nwhu->nchu"),
        lambda x: torch.einsum("nchw,nuhw->nchu", x, x),
    ),
    "conv": (
        lambda x: mb.conv(
            x=x, weight=W.numpy(), bias=V.numpy(), pad_type="custom", pad=[1, 0, 2, 1], strides=[2, 1], dilations=[1, 2]
        ),
        lambda x: F.conv2d(F.pad(x, [2, 1, 1, 0]), W, V, stride=(2, 1), dilation=(1, 2)),
    ),
    "conv same": (lambda x: mb.conv(x=x, weight=W.numpy(), pad_type="same"), lambda x: F.conv2d(x, W, padding="same")),
    "conv in groups": (
        lambda x: mb.conv(x=x, weight=W_GROUPS.numpy(), pad_type="valid", groups=2),
        lambda x: F.conv2d(x, W_GROUPS, groups=2),
    ),
    "conv 1d": (
        lambda x: mb.conv(x=mb.reshape(x=x, shape=[2, 4, 30]), weight=W[:, :, 0].numpy()),
        lambda x: F.conv1d(x.reshape(2, 4, 30), W[:, :, 0]),
    ),
    "scaled_dot_product_attention": (
        lambda x: mb.scaled_dot_product_attention(query=x, key=x, value=mb.relu(x=x), attn_mask=np.eye(5, dtype=np.float32)),
        lambda x: F.scaled_dot_product_attention(x, x, x.relu(), torch.eye(5)),
    ),
    "attention with a boolean mask": (
        lambda x: mb.scaled_dot_product_attention(query=x, key=x, value=x, attn_mask=np.tri(5, dtype=bool)),
        lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
    ),
    "softmax": (lambda x: mb.softmax(x=x, axis=1), lambda x: x.exp() / x.exp().sum(1, keepdim=True)),
    "layer_norm": (
        lambda x: mb.layer_norm(x=x, axes=[-1], gamma=V.numpy(), beta=V.numpy(), epsilon=0.01),
        lambda x: F.layer_norm(x, [6], V, V, 0.01),
    ),
    "layer_norm over channels": (
        lambda x: mb.layer_norm(x=x, axes=[1], gamma=V4.numpy(), epsilon=0.01),
        lambda x: F.layer_norm(x.movedim(1, -1), [4], V4, None, 0.01).movedim(-1, 1),
    ),
    "batch_norm": (
        lambda x: mb.batch_norm(x=x, mean=V4.numpy(), variance=V4.numpy(), gamma=V4.numpy(), beta=V4.numpy(), epsilon=0.01),
        lambda x: F.batch_norm(x, V4, V4, V4, V4, eps=0.01),
    ),
    "instance_norm": (
        lambda x: mb.instance_norm(x=x, gamma=V4.numpy(), beta=V4.numpy(), epsilon=0.01),
        lambda x: F.instance_norm(x, weight=V4, bias=V4, eps=0.01),
    ),
    "reduce_sum": (lambda x: mb.reduce_sum(x=x, axes=[1, 3], keep_dims=True), lambda x: x.sum((1, 3), keepdim=True)),
    "reduce_mean": (lambda x: mb.reduce_mean(x=x, axes=[-1]), lambda x: x.mean(-1)),
    "reduce_max": (lambda x: mb.reduce_max(x=x, axes=[1]), lambda x: x.max(1).values),
    "reduce_min": (lambda x: mb.reduce_min(x=x, axes=[1]), lambda x: x.min(1).values),
    "reduce_prod": (lambda x: mb.reduce_prod(x=x, axes=[1, 2]), lambda x: x.prod(2).prod(1)),
    "reduce_sum_square": (lambda x: mb.reduce_sum_square(x=x, axes=[1]), lambda x: (x * x).sum(1)),
    "reduce_l1_norm": (lambda x: mb.reduce_l1_norm(x=x, axes=[1]), lambda x: x.norm(1, 1)),
    "reduce_l2_norm": (lambda x: mb.reduce_l2_norm(x=x, axes=[1]), lambda x: x.norm(2, 1)),
    "reduce_log_sum_exp": (lambda x: mb.reduce_log_sum_exp(x=x, axes=[1]), lambda x: x.exp().sum(1).log()),
    "reduce_argmax": (lambda x: mb.reduce_argmax(x=x, axis=1), lambda x: x.argmax(1).int()),
    "reduce_argmin": (lambda x: mb.reduce_argmin(x=x, axis=1, keep_dims=True), lambda x: x.argmin(1, keepdim=True).int()),
    "cumsum": (lambda x: mb.cumsum(x=x, axis=1), lambda x: x.cumsum(1)),
    "cumsum exclusive": (
        lambda x: mb.cumsum(x=x, axis=1, exclusive=True, reverse=True),
        lambda x: x.sum(1, keepdim=True) - x.cumsum(1),
    ),
    "quantize": (
        lambda x: mb.cast(
            x=mb.quantize(
                input=x, scale=V4.numpy() / 100, zero_point=np.array([0, 1, -2, 3], np.int8), axis=1, output_dtype="int8"
            ),
            dtype="int32",
        ),
        lambda x: (
            (torch.round(x / (V4 / 100)[:, None, None]) + torch.tensor([0, 1, -2, 3])[:, None, None]).clamp(-128, 127).int()
        ),
    ),
    "dequantize": (
        lambda x: mb.dequantize(
            input=mb.quantize(input=x, scale=np.float32(0.05), zero_point=np.uint8(20), output_dtype="uint8"),
            scale=np.float32(0.05),
            zero_point=np.uint8(20),
        ),
        lambda x: 0.05 * ((torch.round(x / 0.05) + 20).clamp(0, 255) - 20),
    ),
}


def largest_error(found: Any, wanted: Any) -> float:
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    assert found.shape == wanted.shape
    return float(np.abs(found - wanted).max() / max(np.abs(wanted).max(), 1e-12))


X = torch.randn(IMAGE[0], generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All cases as the outputs of one program: a conversion takes longer than all of them."""
    package = save_program(
        tmp_path_factory.mktemp("ops") / "ops.mlpackage", [IMAGE], lambda x: tuple(build(x) for build, _ in CASES.values())
    )
    evaluator = Evaluator(package)
    assert {part for name in CASES for part in name.split(", ") if part in OPS} <= {op.type for op in evaluator.program.ops}
    found = evaluator.run({"x": X.numpy()})
    return dict(zip(CASES, (found[name] for name in evaluator.program.outputs), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_an_op_computes_what_torch_does(name: str, results: dict[str, Any]) -> None:
    found, wanted = results[name], CASES[name][1](X).numpy()
    assert found.dtype == wanted.dtype
    error = largest_error(found, wanted)
    assert error <= MAX_ERROR, f"{error:.3g}, allowed {MAX_ERROR:.3g}"


@pytest.mark.parametrize(
    ("mode", "formula"),
    [
        ("EXACT", lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2)))),
        ("TANH_APPROXIMATION", lambda x: 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))),
        ("SIGMOID_APPROXIMATION", lambda x: x / (1 + math.exp(-1.702 * x))),
    ],
)
def test_gelu_takes_the_form_the_program_says(mode: str, formula: Callable[[float], float], tmp_path: Path) -> None:
    package = save_program(tmp_path / "op.mlpackage", [((61,), "fp32")], lambda x: mb.gelu(x=x, mode=mode))
    x = np.linspace(-3, 3, 61, dtype=np.float32)
    (found,) = Evaluator(package).run({"x": x}).values()
    assert largest_error(found, [formula(float(value)) for value in x]) < 1e-6  # the forms are 1e-4 to 2e-2 apart


def test_integers_are_exact(tmp_path: Path) -> None:
    package = save_program(tmp_path / "op.mlpackage", [((2,), "int32")], lambda x: mb.add(x=mb.mul(x=x, y=3), y=16777217))
    (found,) = Evaluator(package).run({"x": np.array([1, 16777217])}).values()
    assert found.dtype == np.int32
    assert found.tolist() == [16777220, 67108868]  # float32 would give 67108864


def test_float16_results_are_rounded_once(tmp_path: Path) -> None:
    weight = torch.randn(5, 64, generator=torch.Generator().manual_seed(2)).half()
    package = save_program(tmp_path / "op.mlpackage", [((3, 64), "fp16")], lambda x: mb.linear(x=x, weight=weight.numpy()))
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(3)).half()
    (found,) = Evaluator(package).run({"x": x.float().numpy()}).values()
    assert found.dtype == np.float16
    wanted = (x.double() @ weight.double().T).half().numpy()
    assert np.mean(found == wanted) > 0.9  # float32 sums round to the neighbour where they fall between two
    assert largest_error(found, wanted) < 1e-3


def test_an_embedding_is_looked_up(tmp_path: Path) -> None:
    table = np.arange(40, dtype=np.float16).reshape(10, 4)
    package = save_program(tmp_path / "op.mlpackage", [((1, 3), "int32")], lambda x: mb.gather(x=table, indices=x, axis=0))
    (found,) = Evaluator(package).run({"x": np.array([[7, 0, 9]], np.int64)}).values()
    np.testing.assert_array_equal(found, table[[[7, 0, 9]]])


def test_an_op_that_is_not_covered_is_named(tmp_path: Path) -> None:
    package = save_program(tmp_path / "op.mlpackage", [((2, 3), "fp32")], lambda x: mb.argsort(x=x, name="order"))
    with pytest.raises(RefusedError, match=r"does not cover op type 'argsort' \(op 'order'\).* It covers: abs, add, "):
        Evaluator(package)
