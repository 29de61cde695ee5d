"""Target `gpu`: ONNX graphs in 8 bits, in the form that the providers of ONNX Runtime for GPUs take.

    y = DQ(Q(x, s_x), s_x) . DQ(W_q, s_w)      x, scales and sums float16; Q signed, every zero point 0;
                                               s_x one number, s_w one for each output channel
It is the form of the target `trt` in half precision in place of bfloat16, which TensorRT's parser reads strongly typed: TensorRT
for RTX, in ONNX Runtime's provider or alone, multiplies in 8 bits; the CUDA provider has kernels for every node of it, and
multiplies in float16. No engine is built: a provider compiles the graph where it runs, for the GPU that is there.
A graph without rounding needs no form for GPUs: `onnx-fp16` runs whole on the CUDA provider.
"""

from __future__ import annotations

from collections.abc import Mapping

from sprint_export.nouns.target import Device, Offer, Options, Target
from sprint_export.runtimes.trt.target import TARGET as TRT
from sprint_export.versions import OLDEST_ONNXRUNTIME

_NEEDS = {"int8": (7, 5), "fp8": (8, 9)}  # compute capability from which on tensor cores multiply it: Turing, Ada


class GpuTarget(Target):
    """GPUs whose tensor cores multiply 8 bits."""

    def refuse_device(self, precision: str, device: Device) -> str | None:
        """Why that precision is of no use on that device, naming the nearest that is; None where it is."""
        capability, needed = device.compute_capability, _NEEDS[precision]
        if capability is None:
            return f"gpu-{precision} is for NVIDIA's GPUs, and {device.name} is none; use onnx-int8, or onnx-fp16 on any GPU"
        if capability < needed:
            has, wants = (".".join(map(str, each)) for each in (capability, needed))
            instead = "onnx-fp16" if precision == "int8" else "gpu-int8"
            return f"gpu-{precision} needs compute capability {wants} or newer; {device.name} has {has}; use {instead}"
        return None

    def oldest(self, options: Options) -> Mapping[str, str]:
        """The first ONNX Runtime that reads the opset."""
        return {"onnxruntime": OLDEST_ONNXRUNTIME}


TARGET = GpuTarget(
    name="gpu",
    format="onnx",
    title="ONNX in 8 bits for ONNX Runtime's TensorRT-RTX and CUDA providers",
    offers={
        "int8": Offer("w8a8", "fp16"),
        "fp8": Offer("fp8", "fp16", convolutions="w8a8"),  # as on trt: twice the rate there
        "w8a16": Offer("w8a16"),
    },
    default_device="rtx-4090",
    extra="runtime",
    panel="GPU",
    files=r"model\.onnx(\.data)?",
    needs=("onnx", "onnx_ir", "onnxscript", "ml_dtypes"),
    runtimes=("onnx",),
    ships_to=("node", "cpp", "windows"),
    lacks={
        "batch": "graphs of several prompts were not tried on a GPU's providers; the nearest that can are trt-int8 and trt-fp8",
        "fp16": "without rounding a graph needs no form for GPUs; use onnx-fp16, which runs whole on the CUDA provider",
        "bf16": "ONNX Runtime's providers have few kernels in bfloat16; use onnx-fp16, or trt-bf16",
        "dynamic": "a provider compiles the graph for one size of picture; the nearest that can is onnx-fp16",
    },
    rewrites=TRT.rewrites,
    required_rules=TRT.required_rules,
)
