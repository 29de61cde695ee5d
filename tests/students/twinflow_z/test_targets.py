"""The tiny twin on targets of other kinds than the one that every family's contract takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from sprint_export.students.twinflow_z.family import FAMILY
from tests.students.contract import check_conversion


@pytest.mark.parametrize(("target", "least_db"), [("onnx-fp32", 75), ("trt-fp8", 22)])
def test_it_goes_the_whole_road(target: str, least_db: float, tmp_path: Path) -> None:
    check_conversion(FAMILY, target, tmp_path / "bundle", least_db)
