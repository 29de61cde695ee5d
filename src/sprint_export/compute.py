"""Compute: the device that torch works on while a student is measured, searched and drawn, and how exactly it does.

    auto    cuda, else xpu, else mps, whichever torch finds first; else cpu
Everything is float32, with no TF32 in products or convolutions (cuDNN's own default has it) and attention by plain products, so
that devices differ from the CPU in the last digits only (docs/decisions/0028). What ends in files without being measured (folded
weights, rounded weights, scales) is computed on the CPU whatever the device. A Compute is handed from stage to stage; nothing is
global. The standard library only, until a device is chosen.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from sprint_export.errors import MachineError, unknown_choice
from sprint_export.progress import Say, say_nothing

if TYPE_CHECKING:
    import torch

AUTO, ON_CPU = "auto", "cpu"
DEVICES = {"cuda": "CUDA GPU", "xpu": "Intel GPU (XPU)", "mps": "Apple GPU (MPS)"}  # in the order that `auto` asks for them
CHOICES = (AUTO, ON_CPU, *DEVICES)
HELD_SHARE = 0.5  # of the free memory may be taken by weights that stay; the rest is for activations
SHORT = ("out of memory", "ALLOC_FAILED")  # in what Apple's backend, cuBLAS and cuDNN say; others raise OutOfMemoryError

Result = TypeVar("Result")


@dataclass(frozen=True)
class Compute:
    """A device by torch's name for it, and what it is; `say` is told in a line of each network that does not fit on it."""

    device: str = ON_CPU
    title: str = "CPU"
    say: Say = field(default=say_nothing, compare=False, repr=False)

    @property
    def is_cpu(self) -> bool:
        """Whether nothing has to be moved."""
        return self.device == ON_CPU

    @property
    def description(self) -> str:
        """What computes, and in what, e.g. "PyTorch 2.13.0 NVIDIA H200, float32"."""
        import torch

        return f"PyTorch {torch.__version__} {self.title}, float32"

    def place(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor on the device; itself where it lies there already."""
        return tensor.to(self.device)

    @contextlib.contextmanager
    def exact(self) -> Iterator[None]:
        """Within, the device computes float32 in float32, the same way each time; what was set before is set again after."""
        if self.device != "cuda":
            yield
            return
        import torch
        from torch.backends import cuda
        from torch.nn.attention import SDPBackend, sdpa_kernel

        cudnn: Any = torch.backends.cudnn
        wanted: tuple[tuple[Any, str, Any], ...] = (
            (cuda.matmul, "fp32_precision", "ieee"),
            (cudnn.conv, "fp32_precision", "ieee"),
            (cudnn, "deterministic", True),
            (cudnn, "benchmark", False),
        )
        before = [getattr(owner, name) for owner, name, _ in wanted]
        try:
            for owner, name, value in wanted:
                setattr(owner, name, value)
            with sdpa_kernel(SDPBackend.MATH):  # the fused kernels split float32 into pieces of TF32
                yield
        finally:
            for (owner, name, _), value in zip(wanted, before, strict=True):
                setattr(owner, name, value)

    def count_free(self) -> int:
        """Bytes of the device's memory that tensors can still take; 0 on the CPU, where weights are never kept."""
        import torch

        if self.is_cpu:
            return 0
        if self.device == "mps":
            return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
        of_device = getattr(torch, self.device)
        return int(of_device.mem_get_info()[0] + of_device.memory_reserved() - of_device.memory_allocated())

    def read_clock(self) -> float:
        """Seconds, once the device has done what it was given."""
        import torch

        if not self.is_cpu:
            getattr(torch, self.device).synchronize()
        return time.perf_counter()

    def is_short(self, error: BaseException) -> bool:
        """Whether this error says that the device's memory is too small."""
        import torch

        said = type(error) is RuntimeError and any(phrase in str(error) for phrase in SHORT)
        return not self.is_cpu and (said or isinstance(error, torch.OutOfMemoryError))

    def leave(self, what: str, rows: int = 1) -> Compute:
        """The CPU, for `what` that `rows` prompts at once do not fit on the device with; it is said."""
        at_once = "" if rows == 1 else f" with {rows} prompts at once"
        self.say(f"{what}: too large{at_once} for the memory of {self.title}; computed on the CPU")
        return replace(CPU, say=self.say)


CPU = Compute()


class Place:
    """Where one thing runs: the device, until its memory is short; from then on the CPU.

    Args:
        compute: the device.
        what: runs there, for the line that says it no longer does.
    """

    def __init__(self, compute: Compute, what: str) -> None:
        self.compute, self.what = compute, what

    def attempt(self, work: Callable[[], Result], *modules: torch.nn.Module) -> Result:
        """What `work` gives; where the device's memory is short, what it gives once these modules lie on the CPU."""
        try:
            return work()
        except RuntimeError as error:
            if not self.compute.is_short(error):
                raise
        self.compute = self.compute.leave(self.what)
        for module in modules:
            module.to(self.compute.device)
        return work()


def check_compute(name: str) -> None:
    """Refuse a name that is no choice; whether the device is here is seen when torch is loaded.

    Raises:
        InputError: the message lists them.
    """
    if name not in CHOICES:
        raise unknown_choice("--compute", name, CHOICES)


def choose_compute(name: str = AUTO, say: Say = say_nothing) -> Compute:
    """The device of a name; `auto` takes the first that works here.

    Args:
        name: one of CHOICES.
        say: is told what was chosen, where it is not the CPU, and of what does not fit on it.

    Raises:
        InputError: an unknown name. MachineError: torch has no such device here; the message says what there is.
    """
    check_compute(name)
    if name == ON_CPU:
        return replace(CPU, say=say)
    reasons = {device: _find_fault(device) for device in (DEVICES if name == AUTO else [name])}
    found = next((device for device, reason in reasons.items() if reason is None), None)
    if found is not None:
        compute = Compute(found, _read_title(found), say)
        say(f"computes with {compute.description}")
        return compute
    if name != AUTO:
        present = [device for device in DEVICES if device != name and _find_fault(device) is None]
        raise MachineError(f"--compute {name}: {reasons[name]}; here is: {', '.join((*present, ON_CPU))} (or auto)")
    for device, reason in reasons.items():
        if reason is not None and (_is_available(device) or (device == "cuda" and shutil.which("nvidia-smi"))):
            say(f"computes on the CPU: {reason}")
    return replace(CPU, say=say)


def _is_available(device: str) -> bool:
    import torch

    return bool((torch.backends.mps if device == "mps" else getattr(torch, device)).is_available())


def _find_fault(device: str) -> str | None:
    """Why torch cannot compute on a device here, or None."""
    import torch

    if not _is_available(device):
        lacks = device == "cuda" and torch.version.cuda is None
        return f"PyTorch {torch.__version__} " + (
            "is built without CUDA (pytorch.org has the command that installs one with it)" if lacks else "finds none"
        )
    try:
        torch.ones(2, device=device).add(1).cpu()
    except RuntimeError as error:  # a driver too old, kernels for other cards, a device that is taken
        return f"PyTorch {torch.__version__} finds a {DEVICES[device]} and cannot compute on it ({str(error).splitlines()[0]})"
    return None


def _read_title(device: str) -> str:
    import torch

    return DEVICES[device] if device == "mps" else str(getattr(torch, device).get_device_name())
