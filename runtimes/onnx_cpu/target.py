"""Target `onnx`: ONNX graphs of standard operators.

Its INT8 graphs are shaped for ONNX Runtime's kernels on a CPU (docs/decisions/0008-onnx-int8.md): unsigned activations times
signed weights; MatMuls that give floats; convolutions beyond 1x1 that give 8 bits. It is a form for CPUs: ONNX Runtime's CUDA
provider hands such nodes to the CPU and is slower than with fp16, TensorRT's parser refuses them, so other providers than CPUs'
are refused. The form for GPUs is the target `gpu`'s.
"""

from __future__ import annotations

from collections.abc import Mapping

from sprint_export.batches import MOST
from sprint_export.nouns.target import BATCH, DYNAMIC, Device, LayerShape, Offer, Options, Target, TargetOption
from sprint_export.runtimes.onnx_cpu.providers import PROVIDERS
from sprint_export.versions import OLDEST_ONNXRUNTIME

CPU_FORMS = {"int8": "gpu-int8", "fp8": "gpu-fp8"}  # precision -> the target in a form for GPUs
FOR_CPUS = tuple(provider.name for provider in PROVIDERS.values() if provider.is_for_cpus)
FREE_SIZES = TargetOption(
    DYNAMIC,
    "Pictures of any height and width; default: the student's own size only.",
    bool,
    default=False,
    flags=("--dynamic",),
)
PROMPTS_AT_ONCE = TargetOption(
    BATCH,
    "Prompts that the graphs take at once, for programs that draw many; default 1.",
    int,
    flags=("--batch",),
    unit="prompts at once",
    most=MOST,
)


class OnnxTarget(Target):
    """Every device has a CPU, and ONNX Runtime's kernels for it run all of the target's precisions."""

    def refuse_device(self, precision: str, device: Device) -> str | None:
        """None: any device will do."""
        return None

    def refuse_provider(self, precision: str, provider: str) -> str | None:
        """Why the CPU form of int8 and fp8 is not for a GPU's provider, naming what is; else None."""
        instead = CPU_FORMS.get(precision)
        if instead is None or PROVIDERS[provider].is_for_cpus:
            return None
        return (
            f"{self.name}-{precision} is in a form for CPUs, and {provider} would hand its products back to the CPU or refuse "
            f"them; use {instead} or {self.name}-fp16, or one of the providers for CPUs: {', '.join(FOR_CPUS)}"
        )

    def find_unit(self, precision: str, device: Device, options: Options) -> str | None:
        """An NVIDIA GPU by its provider, where the form is not one for CPUs; the CPU of everything else."""
        return "gpu" if device.compute_capability is not None and precision not in CPU_FORMS else "cpu"

    def oldest(self, options: Options) -> Mapping[str, str]:
        """The first ONNX Runtime that reads the opset."""
        return {"onnxruntime": OLDEST_ONNXRUNTIME}


def rounds_output(scheme: str, shape: LayerShape) -> bool:
    """A convolution beyond 1x1: QLinearConv is its only integer kernel; a MatMul may give floats (export/to_onnx/rules/)."""
    return scheme == "w8a8" and any(size > 1 for size in shape.weight[2:])


TARGET = OnnxTarget(
    name="onnx",
    format="onnx",
    title="ONNX for ONNX Runtime: fp32, fp16 and w4a16 for any of its providers; int8 and fp8 in a form for CPUs",
    offers={
        "fp32": Offer("fp32", "fp32"),
        "fp16": Offer("fp16", "fp16"),
        "int8": Offer("w8a8", "fp32"),
        "fp8": Offer("fp8", "fp32"),
        "fp8a16": Offer("fp8a16", "fp32", convolutions="w8a16"),
        "w8a16": Offer("w8a16"),
        "w4a16": Offer("w4a16", "fp32", group=128, convolutions="w8a16"),  # 32-bit scales: in 32s they would be a bit a weight
        "int4": Offer("w4a16", group=128),
    },
    default_device="cpu",
    extra="runtime",
    panel="ONNX",
    needs=("onnx", "onnx_ir", "onnxscript", "ml_dtypes"),
    runtimes=("onnx",),
    ships_to=("web", "node", "cpp", "windows"),
    rounds_output=rounds_output,
    rewrites=(
        "gather_rows",
        "masked_keys",
        "cross_attention",
        "linear_attention_products",
        "separate_gate",
        "unsigned_inputs",
        "pointwise_matmuls",
        "fewer_transposes",
        "integer_matmuls",
        "norm_divisions",
        "float8_casts",
    ),
    options=(FREE_SIZES, PROMPTS_AT_ONCE),
)
