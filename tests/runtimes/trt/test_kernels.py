"""The kernel table: what a real build prints, the FLOP and bytes of kernels known by hand, and the price."""

from __future__ import annotations

from pathlib import Path

import pytest

from sprint_export.devices import find_device
from sprint_export.errors import InputError
from sprint_export.runtimes.trt.kernels import Kernel, KernelTableError, parse_kernels, price_kernels, read_kernels
from sprint_export.runtimes.trt.target import TARGET
from tests import small_graphs

pytest.importorskip("tensorrt_rtx")
RTX_4090 = find_device("rtx-4090")


def build_kernels(graph: Path) -> tuple[Kernel, ...]:
    table = TARGET.build(graph, RTX_4090, "tensorrt-rtx", lambda message: None)["kernels"]
    return parse_kernels(table.read_text("utf-8"))


def only(kernels: tuple[Kernel, ...], kind: str) -> Kernel:
    found = [kernel for kernel in kernels if kernel.kind == kind]
    assert len(found) == 1, f"expected one {kind}, found {[(kernel.name, kernel.kind) for kernel in kernels]}"
    return found[0]


def test_a_gemm_has_its_flop_and_bytes(tmp_path: Path) -> None:
    gemm = only(build_kernels(small_graphs.save_linear(tmp_path / "g.onnx")), "gemm")
    assert gemm.dtype == "16-bit"
    assert gemm.flop == 2 * 64 * 128 * 256
    assert gemm.bytes == 2 * (64 * 128 + 128 * 256 + 64 * 256) + 2 * 4  # and two float32 scalars, alpha and beta


def test_a_fused_linear_with_bias_and_gelu_is_counted(tmp_path: Path) -> None:
    kernels = build_kernels(small_graphs.save_mlp(tmp_path / "g.onnx"))
    assert [kernel.kind for kernel in kernels] == ["runtime_fusion", "gemm"]
    assert [kernel.flop for kernel in kernels] == [2 * 64 * 128 * 256] * 2


def test_an_fp8_linear_computes_in_fp8(tmp_path: Path) -> None:
    gemm = only(build_kernels(small_graphs.save_fp8_linear(tmp_path / "g.onnx")), "gemm")
    assert (gemm.dtype, gemm.flop) == ("fp8", 2 * 64 * 128 * 256)
    assert {tensor.dtype for tensor in (*gemm.inputs, *gemm.constants) if tensor.size > 1} == {"FP8"}


@pytest.mark.parametrize(("fp8", "dtype"), [(False, "16-bit"), (True, "fp8")])
def test_attention_is_one_fused_kernel(tmp_path: Path, fp8: bool, dtype: str) -> None:
    kernels = build_kernels(small_graphs.save_attention(tmp_path / "g.onnx", fp8))
    summary = price_kernels(kernels, RTX_4090)
    assert summary.attention_kernels == 1
    assert summary.by_dtype == {dtype: 1}
    assert summary.flop == 2 * 4 * 256 * 256 * (64 + 64)
    assert max(tensor.size for kernel in kernels for tensor in kernel.outputs) == 4 * 256 * 64, "S x S was materialized"


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_an_int8_convolution_computes_in_int8(tmp_path: Path, kernel_size: int) -> None:
    kernels = build_kernels(small_graphs.save_int8_convolution(tmp_path / "g.onnx", kernel_size))
    convolution = only(kernels, "correlation")
    assert (convolution.dtype, convolution.flop) == ("int8", 2 * 128 * 32 * 32 * 64 * kernel_size**2)
    assert convolution.outputs[0].dtype == "BFloat16", "a per-tensor scale is applied inside the convolution"


def test_a_depthwise_convolution_counts_one_channel_per_output(tmp_path: Path) -> None:
    convolution = only(build_kernels(small_graphs.save_depthwise(tmp_path / "g.onnx")), "correlation")
    assert convolution.flop == 2 * 64 * 32 * 32 * 9


def test_an_embedding_reads_its_rows_not_its_table(tmp_path: Path) -> None:
    kernels = build_kernels(small_graphs.save_embedding(tmp_path / "g.onnx"))
    assert sum(kernel.bytes for kernel in kernels) < 16 * 128 * 2 * 4
    assert price_kernels(kernels, RTX_4090).unmatched == ()


def make_line(name: str, kind: str, inputs: str, constants: str = "", outputs: str = "") -> str:
    """A table of one kernel; operands as "name:dtype:shape" joined by spaces."""
    lists = []
    for text in (inputs, constants, outputs):
        parts = [item.split(":") for item in text.split()]
        tensors = (
            f"{{ Name: {n}, Dimensions: [{s}], Strides: [1], StrideOrder: [0], Datatype: {d}, Format: (Linear) "
            "Row major linear format }"
            for n, d, s in parts
        )
        lists.append(f" {', '.join(tensors)}" if parts else "")
    return (
        f"Layers:\nName: {name}, LayerType: {kind}, Inputs: [{lists[0]}], Constants: [{lists[1]}], Outputs: "
        f"[{lists[2]}], TacticName: , StreamId: 0, Metadata: [ONNX Layer: a]\n\nI/O Tensors:\n"
    )


@pytest.mark.parametrize(
    ("line", "flop", "dtype"),
    [
        # grouped queries: 2 key heads for 4 query heads, in the order the builder lists them
        (
            make_line("_gemm_mha_v2", "kgen", "k:Half:1,2,20,32 v:Half:1,2,20,32 q:Half:4,256,32", "", "y:Half:4,256,32"),
            2 * 4 * 256 * 20 * 64,
            "16-bit",
        ),
        # a mask between K and V
        (
            make_line(
                "_gemm_mha_v2", "kgen", "q:FP8:4,256,32 k:FP8:4,32,16 m:BFloat16:1,4,1,16 v:FP8:4,16,32", "", "y:Half:4,256,32"
            ),
            2 * 4 * 256 * 16 * 64,
            "fp8",
        ),
        # square weight: the 16-bit residual must not pass for the operand
        (
            make_line(
                "__myl_FcAddAdd",
                "runtime_fusion",
                "r:BFloat16:1,64,128 x:FP8:1,64,128",
                "b:BFloat16:1,1,128 w:FP8:1,128,128",
                "y:BFloat16:1,64,128",
            ),
            2 * 64 * 128 * 128,
            "fp8",
        ),
        # weight on the left, output reshaped, batched linear attention in float32
        (
            make_line("m", "gemm", "a:Float:36,33,1024 b:Float:36,1024,32", "s:Float:1", "y:Float:1,36,33,32"),
            2 * 36 * 33 * 1024 * 32,
            "fp32",
        ),
        (make_line("m", "gemm", "x:Half:1,128,256", "w:Half:1,64,128", "y:Half:1,64,256"), 2 * 64 * 128 * 256, "16-bit"),
        # weight-only int8 computes in the activation's type
        (make_line("m", "gemm", "x:Half:64,128", "w:Int8:128,32", "y:Half:64,32"), 2 * 64 * 128 * 32, "16-bit"),
        (make_line("__myl_Add", "kgen", "x:Half:64,128", "", "y:Half:64,128"), 0, "16-bit"),
    ],
)
def test_flop_and_type_follow_from_shapes(line: str, flop: float, dtype: str) -> None:
    (kernel,) = parse_kernels(line)
    assert (kernel.flop, kernel.dtype) == (flop, dtype)
    assert not kernel.is_unmatched


@pytest.mark.parametrize(
    "line",
    [
        make_line("odd", "gemm", "x:Half:7,11", "w:Half:13,17", "y:Half:7,17"),
        make_line("odd", "deconvolution", "x:Half:7,11", "", "y:Half:7,17"),
    ],
)
def test_a_kernel_that_fits_no_formula_is_listed(line: str) -> None:
    assert price_kernels(parse_kernels(line), RTX_4090).unmatched == ("odd",)


def test_one_tensor_read_twice_is_counted_once() -> None:
    (kernel,) = parse_kernels(make_line("__myl_SlicMul", "kgen", "x:Half:4,8 x:Half:4,8", "", "y:Half:4,4"))
    assert kernel.bytes == 2 * (32 + 16)


def test_the_price_is_the_slower_of_arithmetic_and_memory_plus_a_launch() -> None:
    gemm = make_line("big", "gemm", "x:FP8:4096,4096", "w:FP8:4096,4096", "y:FP8:4096,4096")
    copy = make_line("__myl_Move", "kgen", "x:Half:4096,4096", "", "y:Half:4096,4096")
    signal = make_line("sync", "signal", "")
    summary = price_kernels(parse_kernels(gemm) + parse_kernels(copy) + parse_kernels(signal), RTX_4090)
    expected = {"big": 2 * 4096**3 / 330e12 * 1e3 + 0.002, "__myl_Move": 4 * 4096**2 / 1008e9 * 1e3 + 0.002}
    assert dict(summary.most_expensive) == pytest.approx(expected)
    assert summary.milliseconds == pytest.approx(sum(expected.values()))
    assert (summary.kernels, summary.by_kind) == (2, {"gemm": 1, "kgen": 1, "signal": 1})
    assert (summary.by_dtype, summary.device) == ({"fp8": 1}, "rtx-4090")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a kernel table: expected text that starts with 'Layers:', found ''"),
        ("Layers:\n\nI/O Tensors:\n", "the kernel table is empty"),
        ("Layers:\nName: a, LayerType: CaskConv, Inputs: [], Outputs: []\n", "kernel 1: expected 'Name: ..., LayerType: "),
        (make_line("a", "gemm", "x:Half:1").replace("Datatype", "Format/Datatype"), "kernel 1: expected '{ Name: ..., Dim"),
        (make_line("a", "gemm", "x:E8M0:1"), "tensor x has the unknown type 'E8M0'; known: Float, Half, BFloat16, FP8"),
        (make_line("a", "gemm", "x:Half:-1,8"), "tensor x has a free axis in [-1, 8]; only an engine of fixed shapes"),
    ],
)
def test_an_unknown_form_is_an_error(text: str, message: str) -> None:
    with pytest.raises(KernelTableError) as caught:
        parse_kernels(text)
    assert message in str(caught.value)


def test_a_device_without_figures_or_units_is_an_error() -> None:
    kernels = parse_kernels(make_line("m", "gemm", "x:FP8:64,128", "w:FP8:128,32", "y:FP8:64,32"))
    with pytest.raises(InputError, match=r"device 'cpu' has no published peak figures .* choose an RTX device"):
        price_kernels(kernels, find_device("cpu"))
    with pytest.raises(InputError, match="kernel m computes in fp8, which rtx-3090 has no units for; it has: 16-bit"):
        price_kernels(kernels, find_device("rtx-3090"))


GOOD = (
    "Layers:\nName: a, LayerType: gemm, Inputs: [{ Name: x, Dimensions: [2,3], Strides: [3,1], "
    "StrideOrder: [0,1], Datatype: Float, Format: f }], Constants: [], Outputs: [], TacticName: \n"
)


@pytest.mark.parametrize("dims", ["-", "1-2", "٣", "9" * 5000, "0,3", "999999999999,999999999999", ",".join("2" * 40)])
def test_sizes_that_are_none_are_a_clear_error(tmp_path: Path, dims: str) -> None:
    path = tmp_path / "model.layers.txt"
    path.write_text(GOOD, "utf-8")
    assert read_kernels(path)[0].inputs[0].shape == (2, 3)
    path.write_text(GOOD.replace("[2,3]", f"[{dims}]"), "utf-8")
    with pytest.raises(KernelTableError, match="kernel table"):
        read_kernels(path)


def test_a_table_that_is_no_text_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "model.layers.txt"
    path.write_bytes(b"Layers:\n\xff\xfe")
    with pytest.raises(KernelTableError, match=r"model\.layers\.txt is no kernel table"):
        read_kernels(path)
