"""Like SVDQuant (arXiv 2411.05007): what is largest in a weight stays float in a branch of rank 8, the rest takes 4 bits.

W = U S V^T      A = S_8^(1/2) V_8^T      B = U_8 S_8^(1/2)      stored: W - B A
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.quantize.schemes.formats import INT4
from sprint_export.quantize.schemes.gates import FEW_BITS
from sprint_export.quantize.schemes.scheme import Scheme

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LowRank(Scheme):
    """The branch holds the largest singular values."""

    def branch(self, weight: torch.Tensor, layer: QuantizedLayer) -> tuple[torch.Tensor, torch.Tensor]:
        """A [rank, in] and B [out, rank]."""
        import torch

        left, values, right = torch.linalg.svd(weight.flatten(1), full_matrices=False)
        roots = values[: self.rank].sqrt()
        return roots[:, None] * right[: self.rank], left[:, : self.rank] * roots


SCHEME = LowRank(
    name="lowrank4",
    meaning="4-bit integer weights in blocks of 32 beside a float branch of rank 8; activations stay float",
    weights=INT4,
    group=32,
    rank=8,
    gates=FEW_BITS,
)
