"""ONNX Runtime's execution providers: what each is called, which package of pip has it, and how it is given to a session.

A provider is built into a wheel of onnxruntime (one wheel has one or two beside the CPU's) or lies in a package of its own, a
plugin, which Python can register from ONNX Runtime 1.23 on. Where a graph's nodes really ran is placement.py's matter.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sprint_export.errors import MachineError
from sprint_export.libraries import hush, is_installed
from sprint_export.runtimes.interfaces import name_first_line

CPU = "cpu"
CUDA = "CUDAExecutionProvider"
PLAIN = (CPU, "coreml")  # built into plain onnxruntime


@dataclass(frozen=True)
class Provider:
    """One execution provider.

    Args:
        name: what a user asks for.
        library: ONNX Runtime's name of it.
        where: what it runs on.
        wheels: distributions with it built in, which take the place of `onnxruntime`.
        plugins: distributions beside `onnxruntime` with it as a library of its own -> the module to import.
        is_for_cpus: whether integer products that are shaped for a CPU are its own.
        reads_own_graph: whether it compiles what a bundle ships for a GPU, which on others is checked by its shadow.
        replays: whether launches are replayed from a recorded graph; None where the host launches none.
    """

    name: str
    library: str
    where: str
    wheels: tuple[str, ...] = ()
    plugins: Mapping[str, str] | None = None
    is_for_cpus: bool = False
    reads_own_graph: bool = False
    replays: bool | None = None

    @property
    def plugin(self) -> str | None:
        """The module of a plugin that is installed, or None."""
        return next((module for module in (self.plugins or {}).values() if is_installed(module)), None)

    @property
    def install(self) -> str:
        """What brings it."""
        wheels = [f"pip install {wheel} in place of onnxruntime" for wheel in self.wheels]
        beside = [f"pip install {name} beside onnxruntime 1.23 or newer" for name in self.plugins or ()]
        plain = "pip install onnxruntime" if self.name in PLAIN else "no package of pip has it: build ONNX Runtime with it"
        return ", or ".join([*beside, *wheels]) or plain


PROVIDERS = {
    each.name: each
    for each in (
        Provider(CPU, "CPUExecutionProvider", "any CPU", is_for_cpus=True),
        Provider("cuda", CUDA, "NVIDIA GPUs", ("onnxruntime-gpu",), replays=False),
        Provider("cuda-graph", CUDA, "NVIDIA GPUs, launches recorded once and replayed", ("onnxruntime-gpu",), replays=True),
        Provider(
            "tensorrt", "TensorrtExecutionProvider", "NVIDIA GPUs", ("onnxruntime-gpu",), reads_own_graph=True, replays=False
        ),
        Provider(
            "tensorrt-rtx",
            "NvTensorRTRTXExecutionProvider",
            "RTX PCs",
            ("onnxruntime-trt-rtx",),
            {"onnxruntime-ep-nv-tensorrt-rtx": "onnxruntime_ep_nv_tensorrt_rtx"},
            reads_own_graph=True,
            replays=False,
        ),
        Provider("directml", "DmlExecutionProvider", "GPUs on Windows", ("onnxruntime-directml",), replays=False),
        Provider(
            "webgpu",
            "WebGpuExecutionProvider",
            "GPUs through Vulkan, Direct3D 12 or Metal",
            ("onnxruntime-webgpu",),
            {"onnxruntime-ep-webgpu": "onnxruntime_ep_webgpu"},
            replays=False,
        ),
        Provider("coreml", "CoreMLExecutionProvider", "Macs; onnxruntime has it on macOS"),
        Provider(
            "openvino",
            "OpenVINOExecutionProvider",
            "Intel CPUs, GPUs and NPUs",
            ("onnxruntime-openvino",),
            {"onnxruntime-ep-openvino": "onnxruntime_ep_openvino"},
            is_for_cpus=True,
        ),
        Provider("qnn", "QNNExecutionProvider", "Snapdragon NPUs", ("onnxruntime-qnn",)),
        Provider("migraphx", "MIGraphXExecutionProvider", "AMD GPUs", ("onnxruntime-migraphx",), replays=False),
        Provider("xnnpack", "XnnpackExecutionProvider", "ARM CPUs", is_for_cpus=True),
    )
}


def refuse_provider(name: str, ort: Any) -> str | None:
    """Why the onnxruntime that is installed has no such provider, or None; what it has and what brings it is said."""
    provider = PROVIDERS[name]
    if provider.library in ort.get_available_providers():
        return None
    if provider.plugin is not None and hasattr(ort, "register_execution_provider_library"):
        return None
    has = [each.name for each in PROVIDERS.values() if each.library in ort.get_available_providers()]
    found = f"onnxruntime {ort.__version__} is installed, and has {', '.join(has)}"
    if provider.plugin is not None:
        return f"{found}; {provider.plugin} is a plugin, which takes onnxruntime 1.23 or newer"
    return f"{found}; for {name}: {provider.install}"


def add_provider(name: str, ort: Any, options: Any, is_shadow: bool = False) -> list[str | tuple[str, dict[str, str]]]:
    """Give a provider to a session's options, and what has to be loaded before it; the list of providers to open it with.

    Args:
        name: one that refuse_provider lets pass.
        ort: the library.
        options: onnxruntime.SessionOptions; a plugin's devices are added to them.
        is_shadow: the graph runs a few times, as a check: no convolution is worth trying all of cuDNN's algorithms (14 s of the
            first run of a 1024 px decoder).

    Raises:
        MachineError: the provider's own libraries are missing, or it finds no device here.
    """
    provider = PROVIDERS[name]
    if provider.library in ort.get_available_providers():
        if provider.library == CUDA and hasattr(ort, "preload_dlls"):
            with hush():  # of nvidia's packages, where those are installed; it prints what it does not find
                ort.preload_dlls()
        names = dict.fromkeys([provider.library, PROVIDERS[CPU].library])
        exact = {"use_tf32": "0", **({"cudnn_conv_algo_search": "HEURISTIC"} if is_shadow else {})}
        recorded = {"enable_cuda_graph": "1"} if provider.replays else {}
        return [(each, exact | recorded) if each == CUDA else each for each in names]
    assert provider.plugin is not None, "refuse_provider would have said so"
    options.add_provider_for_devices(_find_devices(provider, provider.plugin, ort)[:1], {})
    return []


def _find_devices(provider: Provider, module: str, ort: Any) -> list[Any]:
    """A plugin's devices, GPUs first."""
    try:
        plugin = importlib.import_module(module)
        if not any(device.ep_name == provider.library for device in ort.get_ep_devices()):
            ort.register_execution_provider_library(provider.library, plugin.get_library_path())
    except Exception as error:  # what a plugin raises is its own
        raise MachineError(f"{provider.name} cannot be loaded: {name_first_line(error)}") from error
    devices = [device for device in ort.get_ep_devices() if device.ep_name == provider.library]
    if not devices:
        raise MachineError(f"{module} finds none of its devices on this machine ({provider.where}); leave --provider out")
    return sorted(devices, key=lambda device: device.device.type != ort.OrtHardwareDeviceType.GPU)
