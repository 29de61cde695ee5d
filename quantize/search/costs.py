"""What a layer costs: bytes in a file, or time on a device by its published peaks.

    bytes     of all weights, as `quantize.weight_bytes` counts them
    time      max(2 multiplications / peak of the type,  (input + weight + output) bytes / bandwidth)
Time is a price, not a measurement. It knows a layer and not what a builder fuses it with: a quantized input is counted as if the
kernel before had written it in 8 bits, and what two precisions side by side cost (a second quantizer, Q, K and V no longer one
kernel) is not counted. Only Linear and Conv2d layers are: launches, norms and attention cost every precision the same.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sprint_export.errors import InputError, unknown_choice
from sprint_export.nouns.chain import EACH_STEP
from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.nouns.student import Student
from sprint_export.nouns.target import Device
from sprint_export.quantize.schemes.scheme import load_scheme
from sprint_export.quantize.weight_bytes import count_layer_bytes, count_student_bytes, count_value_bytes, find_column

COSTS = ("time", "bytes")
PICOSECONDS = 1e12


def find_shape(student: Student, layer: str) -> tuple[int, ...]:
    """Of the weight of `role.module`."""
    role, _, module = layer.partition(".")
    return tuple(student.components[role].weights[f"{module}.weight"].shape)


@dataclass(frozen=True)
class LayerWork:
    """What one picture asks of a layer: values read and written, and multiplications."""

    inputs: int = 0
    outputs: int = 0
    multiplications: int = 0


def measure_work(student: Student) -> dict[str, LayerWork]:
    """LayerWork of every Linear and Conv2d by `role.module`, from the shapes that pass through the specialized student.

    No weight is loaded; a layer that runs several times for a picture is counted as often.
    """
    import torch

    from sprint_export.quantize.measure.streaming import watch_shapes

    assert student.plan is not None
    work: dict[str, LayerWork] = {}
    times = {stage.role: student.plan.steps if stage.when == EACH_STEP else 1 for stage in student.chain.stages}

    def note(role: str, name: str, layer: torch.nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
            before, read, written = work.get(f"{role}.{name}", LayerWork()), inputs[0].numel(), times[role] * output.numel()
            products = before.multiplications + written * layer.weight[0].numel()
            work[f"{role}.{name}"] = LayerWork(before.inputs + times[role] * read, before.outputs + written, products)

    for role, component in student.components.items():
        watch_shapes(component, functools.partial(note, role))
    return work


def price_layer(work: LayerWork, shape: Sequence[int], how: QuantizedLayer | None, dtype: str, device: Device) -> int:
    """Picoseconds on a device with peaks, for a picture; `dtype` is what the graph computes in.

    What the device has no units for is multiplied in the graph's type, as are weights that are stored alone.
    """
    column, size = find_column(dtype), count_value_bytes(dtype)
    read: float = size
    scheme = None if how is None else load_scheme(how.scheme)
    if scheme is not None and scheme.inputs is not None:
        read = scheme.inputs.format.bits / 8
        column = scheme.inputs.format.name if scheme.inputs.format.name in device.tflops else column
    moved = work.inputs * read + count_layer_bytes(shape, how, size) + work.outputs * size
    seconds = max(2 * work.multiplications / (device.tflops[column] * 1e12), moved / (device.gigabytes_per_s * 1e9))
    return round(seconds * PICOSECONDS)


def choose_cost(cost: str | None, device: Device) -> str:
    """What a search makes small: what was asked for; else time where the device has published peaks, bytes elsewhere.

    Raises:
        InputError: an unknown name, or time for a device without published peaks.
    """
    if cost is not None and cost not in COSTS:
        raise unknown_choice("cost", cost, COSTS)
    if cost == "time" and not device.tflops:
        raise InputError(
            f"--cost time: no peaks of {device.name} are published to price a layer's time with; use --cost bytes, or --device "
            "with an RTX card"
        )
    return cost or ("time" if device.tflops else "bytes")


class Prices:
    """Costs of layers and of whole students as whole numbers: bytes, or picoseconds a picture.

    Args:
        student: specialized.
        cost: "bytes" or "time".
        device: has the peaks that time is priced with.
        dtype: what the graph computes in.
    """

    def __init__(self, student: Student, cost: str, device: Device, dtype: str) -> None:
        self.student, self.cost, self.device, self.dtype = student, cost, device, dtype
        self.unit, self.scale = ("ms", 1e3 / PICOSECONDS) if cost == "time" else ("bytes", 1.0)
        self._work = measure_work(student) if cost == "time" else {}

    def price(self, layer: str, how: QuantizedLayer | None) -> int:
        """Of `role.module`, rounded so, or in float."""
        shape = find_shape(self.student, layer)
        if self.cost == "bytes":
            return count_layer_bytes(shape, how, count_value_bytes(self.dtype))
        return price_layer(self._work.get(layer, LayerWork()), shape, how, self.dtype, self.device)

    def total(self, layers: Mapping[str, QuantizedLayer]) -> int:
        """With these layers rounded: bytes of all weights, or the time of all Linear and Conv2d layers."""
        if self.cost == "bytes":
            return count_student_bytes(self.student, layers, count_value_bytes(self.dtype))
        return sum(self.price(layer, layers.get(layer)) for layer in self._work)

    def explain(self) -> str:
        """What the figures are and what they are not, in a sentence."""
        if self.cost == "bytes":
            return "cost is the bytes of all weights; it says nothing about speed"
        return (
            f"cost is arithmetic on the published peaks of {self.device.name} for Linear and Conv2d layers, not a measurement; "
            "fusions of kernels are not in it"
        )
