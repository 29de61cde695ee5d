"""Where torch computes is chosen by what is here, said where it matters, and exact."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch

from sprint_export import compute as compute_module
from sprint_export.compute import CPU, Compute, Place, check_compute, choose_compute
from sprint_export.errors import InputError, MachineError
from sprint_export.nouns.order import Order
from sprint_export.run_checks import check_order

VERSION = f"PyTorch {torch.__version__}"


@pytest.fixture
def present(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The devices that torch finds; a test adds to them."""
    devices: list[str] = []

    class Module:
        def __init__(self, name: str) -> None:
            self.name = name

        def is_available(self) -> bool:
            return self.name in devices

        def get_device_name(self) -> str:
            return f"a {self.name} card"

    monkeypatch.setattr(torch, "cuda", Module("cuda"))
    monkeypatch.setattr(torch, "xpu", Module("xpu"))
    monkeypatch.setattr(torch.backends, "mps", Module("mps"))
    monkeypatch.setattr(torch, "ones", lambda *shape, device: torch.zeros(*shape))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    return devices


@pytest.mark.parametrize(
    ("devices", "chosen", "title"),
    [
        ([], "cpu", "CPU"),
        (["mps"], "mps", "Apple GPU (MPS)"),
        (["mps", "xpu"], "xpu", "a xpu card"),
        (["mps", "xpu", "cuda"], "cuda", "a cuda card"),
    ],
)
def test_auto_takes_cuda_then_xpu_then_mps(present: list[str], devices: list[str], chosen: str, title: str) -> None:
    present += devices
    said: list[str] = []
    found = choose_compute("auto", said.append)
    assert (found.device, found.title, found.is_cpu) == (chosen, title, not devices)
    assert said == ([f"computes with {VERSION} {title}, float32"] if devices else [])
    assert found.description == f"{VERSION} {title}, float32"
    if devices:
        assert choose_compute(devices[0]).device == devices[0], "what is named is taken, whatever auto would"
    assert choose_compute("cpu") == CPU


def test_a_device_that_is_not_here_is_one_clear_error(present: list[str]) -> None:
    present.append("mps")
    with pytest.raises(MachineError, match=r"^--compute xpu: PyTorch \S+ finds none; here is: mps, cpu \(or auto\)$") as caught:
        choose_compute("xpu")
    assert caught.value.exit_status == 3
    assert torch.version.cuda is None, "the tests run with a torch that has none"
    with pytest.raises(MachineError, match=r"^--compute cuda: PyTorch \S+ is built without CUDA \(pytorch.org has the command"):
        choose_compute("cuda")


def test_a_device_that_cannot_compute_is_said_and_not_taken(present: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*shape: int, device: str) -> torch.Tensor:
        raise RuntimeError(f"no kernel image for {device}\nand more")

    monkeypatch.setattr(torch, "ones", refuse)
    present.append("cuda")
    said: list[str] = []
    assert choose_compute("auto", said.append).is_cpu
    reason = f"{VERSION} finds a CUDA GPU and cannot compute on it (no kernel image for cuda)"
    assert said == [f"computes on the CPU: {reason}"]
    with pytest.raises(MachineError, match="no kernel image for cuda"):
        choose_compute("cuda")


def test_a_gpu_that_this_torch_cannot_use_is_said(present: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    said: list[str] = []
    assert choose_compute("auto", said.append).is_cpu
    assert said == [
        f"computes on the CPU: {VERSION} is built without CUDA (pytorch.org has the command that installs one with it)"
    ]


def test_an_unknown_name_lists_the_choices_before_anything_is_loaded() -> None:
    wanted = r"unknown --compute 'cuba'; choose from: auto, cpu, cuda, mps, xpu. Did you mean 'cuda'\?"
    for ask in (check_compute, choose_compute, lambda name: check_order(Order(target="onnx-int8", compute=name))):
        with pytest.raises(InputError, match=wanted):
            ask("cuba")


def read_flags() -> list[Any]:
    cudnn: Any = torch.backends.cudnn
    sdp = [torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.mem_efficient_sdp_enabled()]
    return [torch.backends.cuda.matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.deterministic, cudnn.benchmark, *sdp]


def test_products_and_convolutions_are_float32_within_and_as_before_after() -> None:
    before = read_flags()
    assert before[1] == "tf32", "cuDNN's own default is what there is to switch off"
    with CPU.exact():
        assert read_flags() == before
    with Compute("cuda", "GPU").exact():
        assert read_flags() == ["ieee", "ieee", True, False, False, False]
    with pytest.raises(ValueError, match="wrong"), Compute("cuda", "GPU").exact():
        raise ValueError("wrong")
    assert read_flags() == before
    assert torch.backends.cudnn.allow_tf32, "the older switch can be read, and says the same"


@pytest.mark.parametrize(
    ("error", "is_short"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 17.98 GB)"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (NotImplementedError("out of memory is what this says"), False),
    ],
)
def test_what_is_short_of_memory_goes_to_the_cpu_once_and_is_said(error: RuntimeError, is_short: bool) -> None:
    said: list[str] = []
    place, tried = Place(Compute("mps", "GPU", said.append), "transformer"), []

    def work() -> str:
        tried.append(place.compute.device)
        if len(tried) == 1:
            raise error
        return "done"

    if not is_short:
        with pytest.raises(type(error), match=r"out of memory|multiplied"):
            place.attempt(work)
        assert not said
        return
    assert place.attempt(work) == "done"
    assert tried == ["mps", "cpu"]
    assert said == ["transformer: too large for the memory of GPU; computed on the CPU"]
    assert place.attempt(work) == "done"
    assert place.compute.is_cpu and tried[2:] == ["cpu"]
    assert not CPU.is_short(error), "on the CPU there is nowhere to go"
    assert compute_module.CHOICES == ("auto", "cpu", "cuda", "xpu", "mps")
