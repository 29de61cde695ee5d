"""Large Linear layers on the CPU by oneDNN, in float32 as ever.

torch gives a Linear's product to MKL, which on an AMD EPYC with AVX-512 reaches 100 GFLOP/s a core (presumably it stays with AVX2
there), where oneDNN, which computes torch's convolutions anyway, has 215 (docs/decisions/0029). Results differ in
float32's last digits, so it is for layers that are worth it, and small students keep their bytes.
"""

from __future__ import annotations

import torch

LARGE = 1 << 18  # values of a weight
_NAME = "_linear_pointwise"  # torch's own compiler calls it; older builds, and those without oneDNN, have none


class OneDnnLinear(torch.nn.Linear):
    """A Linear whose weight lies on the CPU in float32."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., in] -> [..., out]."""
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return product


def use_onednn(module: torch.nn.Module) -> None:
    """Let a Linear compute by oneDNN from now on, where this torch has it; other modules stay as they are."""
    if type(module) is torch.nn.Linear and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, _NAME):
        module.__class__ = OneDnnLinear


def hasten_products(module: torch.nn.Module) -> None:
    """`use_onednn` for every large Linear of a module on the CPU, but of such in float64."""
    for part in module.modules():
        if isinstance(part, torch.nn.Linear) and part.weight.numel() > LARGE and part.weight.dtype == torch.float32:
            use_onednn(part)
