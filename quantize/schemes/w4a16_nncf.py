"""INT4 weights in blocks as NNCF's INT4_SYM stores them: scale = m / -8 with m the value of largest magnitude, sign and all.

    q = clip(round(W / scale), -8, 7)     so that m itself is -8, the one code that a positive scale of amax / 7 leaves unused
NNCF packs the files (export/to_openvino/nncf_weights.py); this is what it does, for the reference in torch. Scales are 16-bit
floats. Source: nncf 3.4.0 quantization/algorithms/weight_compression/weight_lowering.py, _calculate_signed_scale.
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

    from sprint_export.quantize.patterns import Layer


@dataclass(frozen=True)
class SignedScales(Scheme):
    """Scales that carry the sign of what they are taken from."""

    def refuse(self, module: Layer) -> str | None:
        """Also why NNCF does not store a layer so."""
        import torch

        if not isinstance(module, torch.nn.Linear):
            return "NNCF stores products of matrices alone in 4 bits"
        return super().refuse(module)

    def weight_scale(self, weight: torch.Tensor, layer: QuantizedLayer) -> torch.Tensor:
        """Scales float32 [out, in / group] or, without a group, [out]; negative where the largest value is positive; 1 for zeros.

        Of the 16-bit weights that NNCF reads: where the largest two are equal but for their signs, its digits decide.
        """
        import torch

        halves = weight.half().float()
        blocks = halves.unflatten(1, (-1, layer.group)).flatten(2) if layer.group else halves.flatten(1)
        low, high = blocks.amin(-1), blocks.amax(-1)
        scale = (torch.where(-low >= high, -low, -high) / -INT4.qmin).half().float()
        return torch.where(scale == 0, 1.0, scale)


SCHEME = SignedScales(
    name="w4a16_nncf",
    meaning="4-bit integer weights packed by NNCF, a signed 16-bit scale for every 64 input values; activations stay float",
    weights=INT4,
    gates=FEW_BITS,
    group=64,
    packed_by="nncf",
)
