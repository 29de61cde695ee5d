"""The tiny twin on targets of other kinds than the one that every family's contract takes."""

from __future__ import annotations

from pathlib import Path

from sprint_export.conversion import convert
from sprint_export.students.twinflow_z.family import FAMILY
from tests.bundles import read_rows
from tests.students.contract import check_conversion

LEAST_DB = 75.0  # float32 beside float32


def test_float32_draws_the_reference(tmp_path: Path) -> None:
    convert(FAMILY.tiny(), "onnx-fp32", tmp_path / "bundle", count=2, steps=(1, 2))
    rows = read_rows(tmp_path / "bundle")
    assert rows["", "psnr_worst_db"]["value"] >= LEAST_DB
    assert rows["transformer", "denoised_relative_error"]["value"] <= 1e-4


def test_four_bits(tmp_path: Path) -> None:
    """Random weights lose more than trained ones: what is shown is that graphs compute what was rounded."""
    check_conversion(FAMILY, "onnx-w4a16", tmp_path / "bundle", least_db=25, least_converter_db=80)


def test_an_engine_of_fp8(tmp_path: Path) -> None:
    rows = check_conversion(FAMILY, "trt-fp8", tmp_path / "bundle", least_db=25)
    assert rows["transformer", "fused_attention"] == 3, "of the noise refiner and two layers"
