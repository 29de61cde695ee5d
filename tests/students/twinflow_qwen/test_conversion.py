"""The tiny twin to ONNX in float and FP8 and to TensorRT's FP8 graphs; onnx-int8 is every family's (test_families.py).

All precisions of onnx-*: benchmarks/twin_targets.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from sprint_export.students.twinflow_qwen.family import FAMILY
from tests.students.contract import check_conversion


@pytest.mark.parametrize(
    ("target", "least_db", "least_converter_db"), [("onnx-fp32", 80, 80), ("onnx-fp8", 33, 80), ("trt-fp8", 20, 33)]
)
def test_the_tiny_twin_is_exported(target: str, least_db: float, least_converter_db: float, tmp_path: Path) -> None:
    check_conversion(FAMILY, target, tmp_path / "bundle", least_db, least_converter_db=least_converter_db)
