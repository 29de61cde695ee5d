"""What a precision is: how a layer's weight is stored, what happens to its input, what stands beside it, what it must reach.

    y = unpack(pack(W - B A)) r(x) + B (A x)        r: x as it is, or rounded by a scale that is measured or taken from x itself
A scheme is a value with behaviour; a new one is one file of this folder, and a line in each target that offers it. Whoever rounds
(the torch reference, the exporters, the searches) asks a scheme's fields and methods, and never for its name. Reading a scheme
needs no torch: what computes imports it when it is called.

`Scheme` has scales (quantize/scales.py), over a whole weight, its rows, or blocks of input values; `Palette` has tables
(quantize/palettes.py). A subclass that replaces a step overrides a method: docs/decisions/0023-schemes.md shows two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.nouns.report import Gate
from sprint_export.quantize.schemes.formats import Format
from sprint_export.registry import list_members, load_member

if TYPE_CHECKING:
    import torch

    from sprint_export.quantize.patterns import Layer

SMALLEST_GROUP = 32  # of input values; what kernels for 4 bits start at
MIN_CHANNELS = 16  # an 8-bit kernel reads 16 values at a time, as modelopt assumes too; thinner layers stay float


@dataclass(frozen=True)
class Inputs:
    """How a layer's input is rounded: to `format`, by a scale that is measured before or, `is_dynamic`, taken from the values.

    A measured scale serves the whole tensor. A dynamic one serves `block` neighbouring channels of one token (or pixel), 0: all.
    """

    format: Format
    is_dynamic: bool = False
    block: int = 0


@dataclass(frozen=True)
class Scheme:
    """Weights in `weights` by scales over `group` input values of a row (0: all of it; a target's offer may say another).

    `weight_axis` 0 is a scale per output channel, None one per tensor. `inputs` of None leaves them in the graph's float type.
    `rank` is the rank of the branch beside the layer, 0 for none; `packed_by` is the library that writes its weights into a file,
    where that is not an exporter's own code. `gates` are what a bundle of it must reach by default.
    """

    name: str
    meaning: str
    weights: Format
    gates: tuple[Gate, ...]
    inputs: Inputs | None = None
    weight_axis: int | None = 0
    group: int = 0
    rank: int = 0
    packed_by: str = ""

    @property
    def is_quantized(self) -> bool:
        """Whether layers are rounded by it; a float type is what a whole graph computes in."""
        return self.weights.bits <= 8

    def refuse(self, module: Layer) -> str | None:
        """Why no kernel wants this layer so, or None; a weight that is only stored in few bits suits any kernel."""
        import torch

        weight = module.weight
        if isinstance(module, torch.nn.Embedding):
            if self.inputs is not None or self.rank:
                return "an embedding is read, not multiplied: only its weight can be compressed"
        elif isinstance(module, torch.nn.Conv2d):
            if module.groups > 1 and (self.inputs is not None or self.rank):
                return "grouped or depthwise convolution: 8-bit kernels pad the groups and lose"
            is_product = max(*module.kernel_size, *module.stride) == 1 and module.padding in ((0, 0), "valid")
            if not is_product and (self.rank or (self.inputs is not None and self.inputs.is_dynamic)):
                return "not a plain 1x1 convolution: a branch, or scales for each pixel, are for products of matrices"
        inputs, outputs = weight[0].numel() if self.inputs is None else weight.shape[1], weight.shape[0]
        if min(outputs, inputs) < MIN_CHANNELS:
            return f"{inputs} -> {outputs} channels: fewer than {MIN_CHANNELS}"
        if self.inputs is not None and self.inputs.block and inputs % self.inputs.block:
            return f"{inputs} input channels are not whole blocks of {self.inputs.block}"
        return None

    def fit_group(self, shape: Sequence[int], wanted: int) -> int:
        """The group that a weight [out, in, ...] gets: the wanted one, halved until it divides the row.

        0 where even SMALLEST_GROUP would leave a shorter one: no format can say it.
        """
        group = wanted or self.group
        while group and shape[1] % group:
            group = group // 2 if group > SMALLEST_GROUP else 0
        return group

    def weight_scale(self, weight: torch.Tensor, layer: QuantizedLayer) -> torch.Tensor:
        """Scales float32 of a weight [out, in, ...]: a scalar, [out], or [out, in / group]."""
        from sprint_export.quantize.scales import measure_scale

        return measure_scale(weight, layer, self.weights)

    def pack(self, weight: torch.Tensor, layer: QuantizedLayer) -> dict[str, torch.Tensor]:
        """What a file stores of a weight [out, in, ...]: `stored` in the weights' format, and its `scale` (`weight_scale`)."""
        from sprint_export.quantize.scales import quantize_tensor

        scale = self.weight_scale(weight, layer)
        return {"stored": quantize_tensor(weight, scale, self.weights), "scale": scale}

    def unpack(self, packed: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The weight float32 [out, in, ...] that packed tensors stand for."""
        from sprint_export.quantize.scales import spread_scale

        stored = packed["stored"].float()
        return stored * spread_scale(packed["scale"], stored)

    def branch(self, weight: torch.Tensor, layer: QuantizedLayer) -> tuple[torch.Tensor, torch.Tensor] | None:
        """A [rank, in] and B [out, rank] of the branch beside a layer of this float64 weight, or None; W - B A is stored."""
        return None

    def count_bytes(self, shape: Sequence[int], layer: QuantizedLayer, float_bytes: int) -> int:
        """Bytes of a weight [out, in, ...] with its scales and its branch; `float_bytes` is a value of the graph's type."""
        scales = 1 if layer.weight_axis is None else shape[0] * (shape[1] // layer.group if layer.group else 1)
        return self._count_stored(shape) + (scales + self.rank * (shape[0] + shape[1])) * float_bytes

    def _count_stored(self, shape: Sequence[int]) -> int:
        bits = math.prod(shape) * self.weights.bits
        return -(-bits // 8)


@dataclass(frozen=True)
class Palette(Scheme):
    """Every weight is an index into a table of its own values; `group` rows share one, 0: all."""

    def fit_group(self, shape: Sequence[int], wanted: int) -> int:
        """The number of rows that share a table."""
        wanted = wanted or self.group
        return wanted if wanted and shape[0] % wanted == 0 else 0

    def pack(self, weight: torch.Tensor, layer: QuantizedLayer) -> dict[str, torch.Tensor]:
        """`stored` uint8 [out, in, ...] and `table` float32 [groups, values]."""
        from sprint_export.quantize.palettes import palettize

        indices, table = palettize(weight, layer)
        return {"stored": indices, "table": table}

    def unpack(self, packed: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Every index looked up."""
        from sprint_export.quantize.palettes import look_up

        return look_up(packed["stored"], packed["table"])

    def count_bytes(self, shape: Sequence[int], layer: QuantizedLayer, float_bytes: int) -> int:
        """Bytes of a weight with its tables."""
        tables = shape[0] // layer.group if layer.group else 1
        return self._count_stored(shape) + (tables << self.weights.bits) * float_bytes


def load_scheme(name: str) -> Scheme:
    """The scheme of that name.

    Raises:
        InputError: there is none; the message lists them.
    """
    scheme: Scheme = load_member("scheme", name).SCHEME
    return scheme


def list_schemes() -> dict[str, Scheme]:
    """All schemes by name."""
    return {name: load_scheme(name) for name in list_members("scheme")}
