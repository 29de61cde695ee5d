"""GPTQ: a weight is rounded column by column, and each column's error is made good by those that follow (arXiv 2210.17323).

    minimize  tr E H E^T,  E = W_q - W,  H = X^T X over the rows X that the layer reads
    U^T U = H^-1, U upper;  for j = 1 ... n:  q_j = round(w_j / s_j) s_j,  e = (w_j - q_j) / U_jj,  W_{:, j+1..} -= e U_{j, j+1..}
Columns go in falling order of H_jj, so that what weighs most is rounded while most others are left to answer for it. Scales are
those of plain rounding, and each one's largest value keeps the largest code +-qmax: whoever takes a scale from the result finds
the same again, so W_q is a weight like any other to all that comes after. Codes -8 are not used, for the same reason.
At 8 bits beside rounded inputs it gains nothing that counts; at 4 bits, in the text encoder, 9 dB (docs/decisions/0066).
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from sprint_export.errors import InputError
from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.quantize.scales import spread_scale, weight_scale
from sprint_export.quantize.schemes.scheme import load_scheme

BLOCK = 128  # columns that are rounded before the rest of the matrix is told, as in the paper
FACTORIZING = ("cpu", "cuda")
DAMPINGS = (0.01, 0.1, 1.0)  # of H's mean diagonal, added to it: the paper's, and more where float32 finds no factor


def fit_weight(weight: torch.Tensor, hessian: torch.Tensor, layer: QuantizedLayer) -> tuple[torch.Tensor, torch.Tensor]:
    """Round one weight matrix.

    Args:
        weight: [out, in], on any device, where it is rounded.
        hessian: X^T X, [in, in], on the same.
        layer: says bits and groups; its inputs stay float.

    Returns:
        Codes int8 [out, in] within +-qmax, and their scales float32 as `weight_scale` gives them, both on the CPU.

    Raises:
        InputError: the hessian is none.
    """
    weight = weight.float()
    scale = weight_scale(weight.cpu(), layer)  # as files have it, to the last digit
    order = hessian.diagonal().argsort(descending=True)
    steps, largest = spread_scale(scale, weight).expand_as(weight), _find_largest(weight, layer)
    matrices = _Columns(*(matrix.t()[order] for matrix in (weight, steps, largest)))
    codes = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
    codes[:, order] = _round_columns(matrices, _factorize(hessian[order][:, order]), load_scheme(layer.scheme).weights.qmax).t()
    return codes.cpu(), scale


def _factorize(hessian: torch.Tensor) -> torch.Tensor:
    """U, upper, with U^T U = (H + damping)^-1; on the CPU for devices that have no such routine."""
    if hessian.device.type not in FACTORIZING:
        return _factorize(hessian.cpu()).to(hessian.device)
    mean = hessian.diagonal().mean() + torch.finfo(hessian.dtype).tiny
    identity = torch.eye(len(hessian), device=hessian.device)
    for damping in DAMPINGS:
        lower, failed = torch.linalg.cholesky_ex(hessian + damping * mean * identity)
        if not failed:
            upper: torch.Tensor
            upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
            if not failed:
                return upper
    raise InputError("X^T X of a layer's inputs has no factor; they are damaged or nearly constant, leave gptq out of the recipe")


class _Columns(NamedTuple):
    """[in, out] each, a column's values together: what is left to round, its steps, and True where +-qmax must be kept."""

    values: torch.Tensor
    steps: torch.Tensor
    largest: torch.Tensor


def _round_columns(matrices: _Columns, factor: torch.Tensor, qmax: float) -> torch.Tensor:
    """Codes int8 [in, out] of columns in order, which are used up."""
    columns, steps, largest = matrices
    codes = torch.empty(columns.shape, dtype=torch.int8, device=columns.device)
    kept = columns.sign() * qmax
    for start in range(0, len(columns), BLOCK):
        stop = min(start + BLOCK, len(columns))
        errors = columns.new_empty(stop - start, columns.shape[1])
        for j in range(start, stop):
            code = (columns[j] / steps[j]).round().clamp(-qmax, qmax)
            code = torch.where(largest[j], kept[j], code)
            codes[j] = code.to(torch.int8)
            errors[j - start] = (columns[j] - code * steps[j]) / factor[j, j]
            columns[j + 1 : stop] -= torch.outer(factor[j, j + 1 : stop], errors[j - start])
        columns[stop:] -= factor[start:stop, stop:].t() @ errors
    return codes


def _find_largest(weight: torch.Tensor, layer: QuantizedLayer) -> torch.Tensor:
    """True at the first largest magnitude under each scale, bool [out, in]."""
    grouped = weight.abs().unflatten(1, (-1, layer.group or weight.shape[1]))  # [out, groups, inputs of one]
    found = torch.zeros_like(grouped, dtype=torch.bool)
    return found.scatter(2, grouped.argmax(2, keepdim=True), True).flatten(1)
