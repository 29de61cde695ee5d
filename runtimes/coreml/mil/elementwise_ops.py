"""Ops that work element by element: arithmetic, comparisons, logic, activations, casts.

Three of them add a constant that PyTorch's have not: rsqrt(x + epsilon) with epsilon 1e-12, log(x + epsilon) with 1e-45,
inverse 1 / (x + epsilon) with 1e-4, where the program gives none. gelu has three forms and the program says which:

    EXACT                  x/2 (1 + erf(x / sqrt 2))
    TANH_APPROXIMATION     x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
    SIGMOID_APPROXIMATION  x sigmoid(1.702 x)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from sprint_export.runtimes.coreml.mil.arguments import Arguments, Function
from sprint_export.runtimes.coreml.mil.constants import torch_dtype


def _unary(function: Callable[[Tensor], Tensor]) -> Function:
    return lambda given: function(given.tensor("x"))


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Function:
    return lambda given: function(given.tensor("x"), given.tensor("y"))


def _shifted(function: Callable[[Tensor], Tensor], epsilon: float) -> Function:
    return lambda given: function(given.tensor("x") + given.number("epsilon", epsilon))


def _divide(x: Tensor, y: Tensor) -> Tensor:
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def _cast(given: Arguments) -> Tensor:
    x, dtype = given.tensor("x"), torch_dtype(given.op.outputs[0].dtype)
    if dtype == torch.bool:
        return x != 0
    return x.trunc().to(torch.int64) if x.is_floating_point() and not dtype.is_floating_point else x.to(_widest(dtype, given))


def _widest(dtype: torch.dtype, given: Arguments) -> torch.dtype:
    return given.compute if dtype.is_floating_point else torch.int64


def _gelu(given: Arguments) -> Tensor:
    x, mode = given.tensor("x"), given.text("mode", "EXACT")
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    if mode not in ("EXACT", "TANH_APPROXIMATION"):
        raise given.refuse(f"gelu mode {mode!r}")
    return F.gelu(x, approximate="none" if mode == "EXACT" else "tanh")


def _select(given: Arguments) -> Tensor:
    return torch.where(given.tensor("cond").bool(), given.tensor("a"), given.tensor("b"))


def _clip(given: Arguments) -> Tensor:
    return given.tensor("x").clamp(given.number("alpha"), given.number("beta"))


def _leaky_relu(given: Arguments) -> Tensor:
    return F.leaky_relu(given.tensor("x"), given.number("alpha", 0.01))


def _sigmoid_hard(given: Arguments) -> Tensor:
    x: Tensor = given.tensor("x") * given.number("alpha", 0.2) + given.number("beta", 0.5)
    return x.clamp(0, 1)


OPS: dict[str, Function] = {
    "add": _binary(torch.add),
    "sub": _binary(torch.sub),
    "mul": _binary(torch.mul),
    "real_div": _binary(_divide),
    "floor_div": _binary(torch.floor_divide),
    "mod": _binary(torch.remainder),
    "pow": _binary(torch.pow),
    "maximum": _binary(torch.maximum),
    "minimum": _binary(torch.minimum),
    "equal": _binary(torch.eq),
    "not_equal": _binary(torch.ne),
    "greater": _binary(torch.gt),
    "greater_equal": _binary(torch.ge),
    "less": _binary(torch.lt),
    "less_equal": _binary(torch.le),
    "logical_and": _binary(torch.logical_and),
    "logical_or": _binary(torch.logical_or),
    "logical_xor": _binary(torch.logical_xor),
    "logical_not": _unary(torch.logical_not),
    "identity": _unary(torch.clone),
    "abs": _unary(torch.abs),
    "sign": _unary(torch.sign),
    "square": _unary(torch.square),
    "sqrt": _unary(torch.sqrt),
    "exp": _unary(torch.exp),
    "exp2": _unary(torch.exp2),
    "sin": _unary(torch.sin),
    "cos": _unary(torch.cos),
    "tanh": _unary(torch.tanh),
    "erf": _unary(torch.erf),
    "floor": _unary(torch.floor),
    "ceil": _unary(torch.ceil),
    "round": _unary(torch.round),
    "rsqrt": _shifted(torch.rsqrt, 1e-12),
    "log": _shifted(torch.log, 1e-45),
    "inverse": _shifted(torch.reciprocal, 1e-4),
    "relu": _unary(F.relu),
    "relu6": _unary(F.relu6),
    "silu": _unary(F.silu),
    "sigmoid": _unary(torch.sigmoid),
    "softplus": _unary(F.softplus),
    "softsign": _unary(F.softsign),
    "sigmoid_hard": _sigmoid_hard,
    "leaky_relu": _leaky_relu,
    "gelu": _gelu,
    "select": _select,
    "clip": _clip,
    "cast": _cast,
}
