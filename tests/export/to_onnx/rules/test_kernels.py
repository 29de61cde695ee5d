"""What the rewrites are for, seen in the builder's kernel table: fewer kernels, fewer bytes, no float32 product."""

from __future__ import annotations

from pathlib import Path

import pytest

from sprint_export.devices import find_device
from sprint_export.export.to_onnx.writer import make_graph, write_graph
from sprint_export.nouns.student import Student
from sprint_export.registry import load_target
from sprint_export.runtimes.trt.kernels import KernelSummary, parse_kernels, price_kernels
from sprint_export.runtimes.trt.target import TARGET
from tests.export.to_onnx.graphs import quantize

DEVICE = "rtx-4090"
KERNELS_A_BLOCK = 16  # of SANA-Sprint 0.6B, docs/decisions/0009-rtx-kernels.md
ENDS = 16  # patches, caption, mask, output: 12 at full size


@pytest.mark.parametrize("precision", ["fp8", "int8"])
def test_a_block_has_few_kernels(tiny_special: Student, precision: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    target = load_target("trt")
    component = quantize(tiny_special, "trt", precision).components["transformer"]

    def price(name: str, rewrites: tuple[str, ...]) -> KernelSummary:
        path = tmp_path / name / "model.onnx"
        write_graph(make_graph(component, "bf16", rewrites), path)
        table = TARGET.build(path, find_device(DEVICE), "tensorrt-rtx", lambda message: None)["kernels"]
        return price_kernels(parse_kernels(table.read_text()), find_device(DEVICE))

    before, after = price("before", ()), price("after", target.rewrites)
    print(f"{before.kernels} -> {after.kernels} kernels, {before.bytes:.0f} -> {after.bytes:.0f} bytes")
    assert "fp32" in before.by_dtype
    assert set(after.by_dtype) == {"16-bit", precision}
    assert after.attention_kernels == before.attention_kernels == 2
    assert after.kernels <= 2 * KERNELS_A_BLOCK + ENDS < before.kernels
    assert after.bytes < 0.8 * before.bytes
    assert not after.unmatched
