"""GPTQ: a weight is rounded column by column, and each column's error is made good by those that follow (arXiv 2210.17323).

    minimize  tr E H E^T,  E = W_q - W,  H = X^T X over the rows X that the layer reads
    U^T U = H^-1, U upper;  for j = 1 ... n:  q_j = round(w_j / s_j) s_j,  e = (w_j - q_j) / U_jj,  W_{:, j+1..} -= e U_{j, j+1..}
Columns go in falling order of H_jj, so that what weighs most is rounded while most others are left to answer for it. Scales are
those of plain rounding, and each one's largest value keeps the largest code +-qmax: whoever takes a scale from the result finds
the same again, so W_q is a weight like any other to all that comes after. Codes -8 are not used, for the same reason.
At 8 bits beside rounded inputs it gains nothing that counts; at 4 bits 6 dB of the picture (docs/decisions/0013-algorithms.md).
"""

from __future__ import annotations

import torch

from sprint_export.quantize.scales import spread_scale, weight_scale
from sprint_export.schema import QuantizedLayer

BLOCK = 128  # columns that are rounded before the rest of the matrix is told, as in the paper
DAMPING = 0.01  # of H's mean diagonal, added to it: the paper's; rows that never occur are then left alone


def fit_weight(weight: torch.Tensor, hessian: torch.Tensor, layer: QuantizedLayer) -> tuple[torch.Tensor, torch.Tensor]:
    """Round one weight matrix.

    Args:
        weight: [out, in].
        hessian: X^T X, [in, in].
        layer: says bits and groups; its inputs stay float.

    Returns:
        Codes int8 [out, in] within +-qmax, and their scales float32 as `weight_scale` gives them.
    """
    weight = weight.float()
    scale = weight_scale(weight, layer)
    order = hessian.diagonal().argsort(descending=True)
    steps = spread_scale(scale, weight).expand_as(weight)[:, order]
    largest = _find_largest(weight, layer)[:, order]
    codes = torch.empty(weight.shape, dtype=torch.int8)
    codes[:, order] = _round_columns(weight[:, order], _factorize(hessian[order][:, order]), steps, largest, layer.precision.qmax)
    return codes, scale


def _factorize(hessian: torch.Tensor) -> torch.Tensor:
    """U, upper, with U^T U = (H + damping)^-1."""
    damped = hessian + torch.eye(len(hessian)) * (DAMPING * hessian.diagonal().mean() + torch.finfo(hessian.dtype).tiny)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    factor: torch.Tensor = torch.linalg.cholesky(inverse, upper=True)
    return factor


def _round_columns(
    weight: torch.Tensor, factor: torch.Tensor, steps: torch.Tensor, largest: torch.Tensor, qmax: float
) -> torch.Tensor:
    """Codes of columns that are in order; `weight` is used up. `largest` bool [out, in]: keeps its sign and +-qmax."""
    codes = torch.empty(weight.shape, dtype=torch.int8)
    kept = weight.sign() * qmax
    for start in range(0, weight.shape[1], BLOCK):
        stop = min(start + BLOCK, weight.shape[1])
        errors = torch.empty(len(weight), stop - start)
        for j in range(start, stop):
            code = (weight[:, j] / steps[:, j]).round().clamp(-qmax, qmax)
            code = torch.where(largest[:, j], kept[:, j], code)
            codes[:, j] = code.to(torch.int8)
            error = (weight[:, j] - code * steps[:, j]) / factor[j, j]
            weight[:, j + 1 : stop] -= error[:, None] * factor[j, j + 1 : stop]
            errors[:, j - start] = error
        weight[:, stop:] -= errors @ factor[start:stop, stop:]
    return codes


def _find_largest(weight: torch.Tensor, layer: QuantizedLayer) -> torch.Tensor:
    """True at the first largest magnitude under each scale, bool [out, in]."""
    grouped = weight.abs().unflatten(1, (-1, layer.group or weight.shape[1]))  # [out, groups, inputs of one]
    found = torch.zeros_like(grouped, dtype=torch.bool)
    return found.scatter(2, grouped.argmax(2, keepdim=True), True).flatten(1)
