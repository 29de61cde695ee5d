"""PyTorch as a side that draws in turns: the original implementation, eager or through torch.compile.

Everything else is as PyTorch comes: its own choice of kernels and of TF32, which a validation's reference turns off. Calls are
timed until the device has done them. On CUDA torch.compile is asked to record launches and replay them ("reduce-overhead");
whether it did is read from its own count of what it left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch

from sprint_export.compute import Compute
from sprint_export.errors import InputError, MachineError, SprintExportError
from sprint_export.noise import make_noise
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.student import Student
from sprint_export.students.family import WholeStock, load_family, time_calls
from sprint_export.thread_count import fixed_threads
from sprint_export.validate.latency.bundle_side import PROMPT
from sprint_export.validate.latency.opponents import DTYPES, Opponent

REPLAYED = "reduce-overhead"  # torch.compile's mode that records CUDA graphs


@dataclass
class TorchSide:
    """The original implementation of a bundle's student, drawing the same prompt `pictures` times at once."""

    label: str
    stock: WholeStock
    compute: Compute
    dtype: str
    pictures: int
    shape: tuple[int, ...]  # of the noise of one picture: [steps, 1, *latents]
    compiled: str | None = None  # torch.compile's mode
    threads: int | None = None  # of the CPU; None: torch's own choice
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for role, network in self.stock.networks.items():
            if self.compiled is not None:  # the hooks that time stay outside of what is compiled
                network.forward = torch.compile(network.forward, mode=self.compiled)
            time_calls(network, self.seconds.setdefault(role, []), self.compute.read_clock)

    @property
    def description(self) -> str:
        """What runs it and where."""
        how = "eager" if self.compiled is None else f"torch.compile ({self.compiled})"
        return f"PyTorch {torch.__version__} {self.compute.title}, {self.dtype}, {how}"

    @property
    def replays(self) -> bool | None:
        """Whether all networks' launches are replayed; None on a processor."""
        if self.compute.is_cpu:
            return None
        return self.compiled == REPLAYED and not count_skipped()

    def draw(self, seed: int) -> Mapping[str, Sequence[float]]:
        """Draw; the seconds of each call of each network, by role.

        Raises:
            MachineError: the device's memory is short. InputError: PyTorch itself cannot draw or compile it.
        """
        for seconds in self.seconds.values():
            seconds.clear()
        noise = make_noise(seed, self.shape[0], self.pictures, self.shape[2:])
        if self.compiled == REPLAYED and not self.compute.is_cpu:
            torch.compiler.cudagraph_mark_step_begin()
        try:
            with fixed_threads(self.threads) if self.threads else nullcontext():
                self.stock.draw([PROMPT] * self.pictures, noise)
        except SprintExportError:
            raise
        except Exception as error:  # what a compiler and the stock classes raise is their own
            if self.compute.is_short(error) or isinstance(error, MemoryError):
                raise MachineError(f"{self.label}: the memory of {self.compute.title} is too small for it") from error
            said = " ".join(str(error).split())[:300]
            raise InputError(f"{self.label}: PyTorch itself cannot draw it ({type(error).__name__}: {said})") from error
        return {role: tuple(seconds) for role, seconds in self.seconds.items()}


def count_skipped() -> int:
    """How many graphs torch.compile did not record."""
    from torch._dynamo.utils import counters

    return int(counters["inductor"]["cudagraph_skips"])


def open_torch(
    bundle: Bundle, student: Student, opponent: Opponent, compute: Compute, pictures: int = 1, threads: int | None = None
) -> TorchSide:
    """The original implementation with a bundle's times.

    Args:
        bundle: gives times and guidance.
        student: as it was loaded.
        opponent: eager or compiled, and in which type.
        compute: where.
        pictures: at once.
        threads: of the CPU; default: torch's own choice.

    Raises:
        InputError: the student is not the one that the bundle was made from. MachineError: it does not fit.
        RefusedError: the family's students are not timed in PyTorch.
    """
    if student.fingerprint != bundle.fingerprint:
        raise InputError(
            f"--against {opponent.text}: the student is not the one that {bundle.folder} was made from (its weights have another "
            "sha256); give the right one with --student"
        )
    _check_memory(student, opponent, compute)
    stock = _attempt(
        lambda: load_family(student.family).open_whole(student, bundle.plan, compute.device, DTYPES[opponent.dtype]),
        compute,
        opponent,
    )
    mode = None
    if opponent.is_compiled:
        mode = "default" if compute.is_cpu else REPLAYED
    shape = (bundle.plan.steps, 1, *bundle.latent_shape)
    return TorchSide(opponent.text, stock, compute, DTYPES[opponent.dtype], pictures, shape, mode, threads)


def _attempt(make: Callable[[], WholeStock], compute: Compute, opponent: Opponent) -> WholeStock:
    try:
        return make()
    except RuntimeError as error:
        if not compute.is_short(error):
            raise
        raise MachineError(f"--against {opponent.text}: the memory of {compute.title} is too small for it") from error


def _check_memory(student: Student, opponent: Opponent, compute: Compute) -> None:
    """Refuse weights that the memory does not hold: what is read from the disk for each call would time the disk."""
    from math import prod

    from sprint_export.process_memory import find_free_memory

    width = getattr(torch, DTYPES[opponent.dtype]).itemsize
    needed = width * sum(prod(handle.shape) for network in student.components.values() for handle in network.weights.values())
    free = find_free_memory() if compute.is_cpu else compute.count_free()
    if free is not None and needed > free:
        raise MachineError(
            f"--against {opponent.text}: the networks take {needed / 1e9:.1f} GB as {DTYPES[opponent.dtype]}, "
            f"{free / 1e9:.1f} GB are free on {compute.title}"
        )
