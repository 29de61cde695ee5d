"""Read the kernel table of a TensorRT engine build and price it for a device, with no GPU.

At VERBOSE the builder prints a line per kernel: kind, inputs, constants, outputs, each with type and shape. So follow

    bytes = inputs + constants + outputs           (each tensor once; an upper bound where a kernel reads a slice)
    gemm       [M, K] x [K, N]:                       2 M N K             per matrix of the batch
    convolution, weight [Cout, Cin/groups, kh, kw]:  2 |output| Cin/groups kh kw
    attention  Q [S, d], K [T, d], V [T, e]:          2 S T (d + e)       per head
    milliseconds = sum over kernels of  max(FLOP / peak of the type, bytes / bandwidth) + cost of one kernel

The price is a lower bound on what the same kernels take: it knows no cache, no tile waste, no clock. Two builds of one
model compare well by it. Elementwise work, softmax and matrix-vector products (`...MulSum`) have no FLOP here: bytes
always dominate them.

Kinds seen (TensorRT for RTX 1.7): gemm; correlation (a convolution); runtime_fusion (a gemm `__myl_Fc...` or
convolution `__myl_Corr...` with its neighbours); kgen (generated code; fused attention is a kgen named `_gemm_mha...`);
signal and wait (synchronize streams: no kernels). A kernel that should have a formula but fits none is listed in
`KernelSummary.unmatched`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING

from sprint_export.errors import InputError, SprintExportError

if TYPE_CHECKING:
    from sprint_export.nouns.target import Device

# The builder's name of a type -> bytes per element, and its column of Device.tflops ("other": index arithmetic).
_TYPES = {
    "Float": (4.0, "fp32"),
    "Half": (2.0, "16-bit"),
    "BFloat16": (2.0, "16-bit"),
    "FP8": (1.0, "fp8"),
    "Int8": (1.0, "int8"),
    "Int4": (0.5, "16-bit"),  # weight-only: decoded to 16 bit before it is multiplied
    "UInt8": (1.0, "other"),
    "Bool": (1.0, "other"),
    "Int32": (4.0, "other"),
    "Int64": (8.0, "other"),
}
_WIDEST_FIRST = ("fp32", "16-bit", "int8", "fp8")  # a product of mixed types computes in the wider
_SYNCHRONIZATION = frozenset({"signal", "wait"})

_LINE = re.compile(
    r"Name: (?P<name>.+?), LayerType: (?P<kind>\w+), Inputs: \[(?P<inputs>.*?)\], Constants: \[(?P<constants>.*?)\], "
    r"Outputs: \[(?P<outputs>.*?)\], TacticName: "
)
_NODE = re.compile(r"\[ONNX Layer: ([^\[\]]+)\]")
_TENSOR = re.compile(
    r"\{ Name: (\S+), Dimensions: \[([-\d,]*)\], Strides: \[[-\d,]*\], StrideOrder: \[[-\d,]*\], Datatype: (\w+), "
    r"Format: [^{}]*\}"
)
_SHAPE = re.compile(r"(-?[0-9]{1,12}(,-?[0-9]{1,12}){0,15})?,?")
_MOST_VALUES = 1 << 40  # of one operand


class KernelTableError(SprintExportError):
    """A kernel table has a form this module does not know: another builder, or a new version of it."""


@dataclass(frozen=True)
class KernelTensor:
    """One operand of a kernel; `dtype` is the builder's name, e.g. "BFloat16"."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> float:
        """Bytes of the whole tensor (half bytes for Int4)."""
        return self.size * _element_bytes(self)

    @property
    def batch(self) -> int:
        """How many matrices the tensor stacks: [b, h, M, N] -> b * h."""
        return math.prod(self.shape[:-2])


@dataclass(frozen=True)
class Kernel:
    """One kernel of an engine; `nodes` are names of those of the graph that it does, or a part of them."""

    name: str
    kind: str
    inputs: tuple[KernelTensor, ...]
    constants: tuple[KernelTensor, ...]
    outputs: tuple[KernelTensor, ...]
    nodes: tuple[str, ...] = ()

    @property
    def is_attention(self) -> bool:
        """True for softmax(Q K) V in one kernel."""
        return "_mha" in self.name and self.kind == "kgen"

    @cached_property
    def bytes(self) -> float:
        """Bytes read and written. The two halves of one tensor are two operands of one name: counted once."""
        gathers = "Gath" in self.name
        written = max((tensor.bytes for tensor in self.outputs), default=0.0)
        total = 0.0
        for tensor in dict.fromkeys((*self.inputs, *self.constants, *self.outputs)):
            # An embedding table is listed whole (vocabulary x width), but only the rows that come out are read.
            total += min(tensor.bytes, written) if gathers else tensor.bytes
        return total

    @property
    def flop(self) -> float:
        """Floating-point operations (a multiply-add is two); 0 for a kernel without a formula."""
        return self._product[0]

    @property
    def dtype(self) -> str:
        """fp8, int8, 16-bit or fp32: what it computes in or, without a formula, the type of its largest operand."""
        return self._product[1]

    @property
    def is_unmatched(self) -> bool:
        """True for a kernel that multiplies, or is of an unknown kind, and whose shapes fit no formula."""
        if self.kind in _SYNCHRONIZATION or self.flop:
            return False
        return self.kind != "kgen" or self.is_attention

    @cached_property
    def _product(self) -> tuple[float, str]:
        formula = _find_formula(self)
        flop, operands = formula(self) if formula else (0.0, ())
        if operands:
            types = {_TYPES[tensor.dtype][1] for tensor in operands}
            return flop, next((dtype for dtype in _WIDEST_FIRST if dtype in types), "other")
        largest = max((*self.inputs, *self.constants, *self.outputs), key=lambda tensor: tensor.bytes, default=None)
        return 0.0, _TYPES[largest.dtype][1] if largest else "other"


Product = tuple[float, tuple[KernelTensor, ...]]  # FLOP, and the operands that are multiplied
_NONE: Product = (0.0, ())


def _find_formula(kernel: Kernel) -> Callable[[Kernel], Product] | None:
    if kernel.is_attention:
        return _attention_flop
    if kernel.kind == "correlation" or (kernel.kind == "runtime_fusion" and "Corr" in kernel.name):
        return _convolution_flop
    return _gemm_flop if kernel.kind in ("gemm", "runtime_fusion") else None


def _element_bytes(tensor: KernelTensor) -> float:
    return _TYPES[tensor.dtype][0]


def _gemm_flop(kernel: Kernel) -> Product:
    """Find A [..., M, K] and B [..., K, N] (either may be stored transposed) whose product has an output's size.

    A fusion also lists biases [N] and residuals [M, N]; only the size of the output tells the operands from these.
    Outputs may be reshaped, so their shape is not looked at.
    """
    sizes = {tensor.size for tensor in kernel.outputs}
    operands = [tensor for tensor in (*kernel.constants, *kernel.inputs) if len(tensor.shape) >= 2]
    operands.sort(key=_element_bytes)  # where K = N a 16-bit residual fits as well as the FP8 input: narrow types first
    for i, a in enumerate(operands):
        for b in operands[i + 1 :]:
            batch = max(a.batch, b.batch)
            for k in {*a.shape[-2:]} & {*b.shape[-2:]} - {1}:
                product = batch * (a.size // a.batch // k) * (b.size // b.batch // k)
                if product in sizes:
                    return 2.0 * product * k, (a, b)
    return _NONE


def _convolution_flop(kernel: Kernel) -> Product:
    """2 |output| |weight| / Cout; the weight [Cout, Cin/groups, kh, kw] is the largest constant, or else input."""
    weights = [tensor for tensor in kernel.constants if len(tensor.shape) >= 3 and tensor.shape[0] > 1]
    weights = weights or [tensor for tensor in kernel.inputs[1:] if len(tensor.shape) >= 3]
    if not weights or not kernel.inputs or not kernel.outputs:
        return _NONE
    weight = max(weights, key=lambda tensor: tensor.size)
    output = max(kernel.outputs, key=lambda tensor: tensor.size)
    source = min(kernel.inputs, key=_element_bytes)  # not the 16-bit residual
    return 2.0 * output.size * weight.size / weight.shape[0], (source, weight)


def _attention_flop(kernel: Kernel) -> Product:
    """2 heads S T (d + e) for Q [S, d], K [T, d] or [d, T], V [T, e], output [S, e].

    The order of the inputs varies, a mask may stand between them, and K and V may have fewer heads than Q.
    """
    for output in kernel.outputs:
        for q, k, v in permutations(kernel.inputs, 3):
            if min(len(tensor.shape) for tensor in (output, q, k, v)) < 2:
                continue
            (s, e), (q_s, d), (t, v_e) = output.shape[-2:], q.shape[-2:], v.shape[-2:]
            heads_fit = q.batch == output.batch and k.batch == v.batch and output.batch % v.batch == 0
            if heads_fit and (q_s, v_e) == (s, e) and sorted(k.shape[-2:]) == sorted((t, d)):
                return 2.0 * output.batch * s * t * (d + e), (q, k, v)
    return _NONE


@dataclass(frozen=True)
class KernelSummary:
    """What a kernel table amounts to on one device. `kernels` leaves out stream synchronization; `by_kind` has it."""

    device: str
    kernels: int
    bytes: float
    flop: float
    milliseconds: float
    by_kind: Mapping[str, int]
    by_dtype: Mapping[str, int]  # of the kernels that multiply: gemm, convolution, attention
    attention_kernels: int
    most_expensive: tuple[tuple[str, float], ...]  # names and milliseconds of the ten
    unmatched: tuple[str, ...]  # priced by their bytes alone because no FLOP formula fits them


def read_kernels(path: Path) -> tuple[Kernel, ...]:
    """The kernels of a table in a file.

    Raises:
        KernelTableError: it cannot be read, or is no table.
    """
    try:
        return parse_kernels(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise KernelTableError(f"{path} is no kernel table ({error}); build the bundle again") from error


def parse_kernels(text: str) -> tuple[Kernel, ...]:
    """The kernels of a table, in order of execution, with the stream synchronization lines ("signal", "wait").

    Args:
        text: what the builder printed, from its "Layers:" on; what follows the first empty line is not read.

    Raises:
        KernelTableError: no table, an empty one, or a line, type or shape of an unknown form.
    """
    head, found, rest = text.partition("Layers:\n")
    if not found or head.strip():
        raise KernelTableError(
            f"not a kernel table: expected text that starts with 'Layers:', found {text[:60]!r}; "
            "build the engine with TensorRT for RTX, as `sprint-export build` does"
        )
    lines = rest.partition("\n\n")[0].splitlines()
    if not lines or not lines[0].strip():
        raise KernelTableError(
            "the kernel table is empty: expected at least one 'Name: ..., LayerType: ...' line after 'Layers:'"
        )
    return tuple(_parse_line(line, number) for number, line in enumerate(lines, start=1))


def _parse_line(line: str, number: int) -> Kernel:
    match = _LINE.match(line)
    if match is None:
        raise KernelTableError(
            f"kernel table, kernel {number}: expected 'Name: ..., LayerType: ..., Inputs: [...], Constants: [...], "
            f"Outputs: [...], TacticName: ...' as TensorRT for RTX 1.7 writes it, found {line[:160]!r}; "
            "teach runtimes/trt/kernels.py this form"
        )
    lists = {part: _parse_tensors(match[part], number) for part in ("inputs", "constants", "outputs")}
    nodes = tuple(_NODE.findall(line[match.end() :]))
    return Kernel(match["name"], match["kind"], **lists, nodes=nodes)


def _parse_tensors(text: str, number: int) -> tuple[KernelTensor, ...]:
    found = _TENSOR.findall(text)
    if len(found) != text.count("{ Name: ") or (text.strip() and not found):
        raise KernelTableError(
            f"kernel table, kernel {number}: expected '{{ Name: ..., Dimensions: [...], ..., "
            f"Datatype: ..., Format: ... }}', found {text[:160]!r}; "
            "teach runtimes/trt/kernels.py this form"
        )
    return tuple(_make_tensor(name, dims, dtype, number) for name, dims, dtype in found)


def _make_tensor(name: str, dims: str, dtype: str, number: int) -> KernelTensor:
    if dtype not in _TYPES:
        raise KernelTableError(
            f"kernel table, kernel {number}: tensor {name} has the unknown type {dtype!r}; known: {', '.join(_TYPES)}"
        )
    if _SHAPE.fullmatch(dims) is None:
        raise KernelTableError(f"kernel table, kernel {number}: tensor {name} has the dimensions {dims[:80]!r}; expected sizes")
    shape = tuple(int(size) for size in dims.split(",") if size)
    if 0 in shape or math.prod(shape) > _MOST_VALUES:
        raise KernelTableError(f"kernel table, kernel {number}: tensor {name} has {math.prod(shape)} values; build it again")
    if any(size < 0 for size in shape):
        raise KernelTableError(
            f"kernel table, kernel {number}: tensor {name} has a free axis in {list(shape)}; "
            "only an engine of fixed shapes can be priced: export with fixed shapes"
        )
    return KernelTensor(name, dtype, shape)


def list_real(kernels: tuple[Kernel, ...]) -> list[Kernel]:
    """Without the synchronization of streams."""
    return [kernel for kernel in kernels if kernel.kind not in _SYNCHRONIZATION]


def price_kernels(kernels: tuple[Kernel, ...], device: Device) -> KernelSummary:
    """Sum a table up and price it on a device.

    Raises:
        InputError: the device has no published figures, or none for a type that a kernel computes in.
    """
    if not device.gigabytes_per_s:
        raise InputError(
            f"device {device.name!r} has no published peak figures to price kernels with; choose an RTX device, e.g. rtx-4090"
        )
    real = list_real(kernels)
    prices = [_price_kernel(kernel, device) for kernel in real]
    ranked = sorted(zip(real, prices, strict=True), key=lambda pair: -pair[1])[:10]
    return KernelSummary(
        device=device.name,
        kernels=len(real),
        bytes=sum(kernel.bytes for kernel in real),
        flop=sum(kernel.flop for kernel in real),
        milliseconds=sum(prices),
        by_kind=dict(sorted(Counter(kernel.kind for kernel in kernels).items())),
        by_dtype=dict(sorted(Counter(kernel.dtype for kernel in real if kernel.flop).items())),
        attention_kernels=sum(kernel.is_attention for kernel in real),
        most_expensive=tuple((kernel.name, price) for kernel, price in ranked),
        unmatched=tuple(kernel.name for kernel in real if kernel.is_unmatched),
    )


def _price_kernel(kernel: Kernel, device: Device) -> float:
    """Milliseconds of one kernel: the slower of arithmetic and memory, plus the cost of launching it."""
    compute = 0.0
    if kernel.flop:
        if kernel.dtype not in device.tflops:
            raise InputError(
                f"kernel {kernel.name} computes in {kernel.dtype}, which {device.name} has no units for; "
                f"it has: {', '.join(sorted(device.tflops))}"
            )
        compute = kernel.flop / (device.tflops[kernel.dtype] * 1e9)  # TFLOP/s = 1e9 FLOP per millisecond
    memory = kernel.bytes / (device.gigabytes_per_s * 1e6)
    return max(compute, memory) + device.kernel_us / 1e3
