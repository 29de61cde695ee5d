"""Integer kernels of onnxruntime-web give Python's codes; what parts in 8-bit targets are floats between them (decision 0060)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.runtimes.javascript.integer_kernels import make_kernels, make_run
from tests.runtimes.javascript.programs import has_node, make_work_folder
from tests.runtimes.javascript.wasm_nodes import compare_in_wasm

pytestmark = pytest.mark.skipif(not has_node(), reason="node and npm are not installed")


def test_integer_kernels_are_pythons_to_the_bit_and_float_sums_are_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    left, right = rng.standard_normal((64, 1152), np.float32), rng.standard_normal((1152, 64), np.float32)
    floats = make_run("MatMul", "floats", {"left": left}, {"right": right})
    *integers, found = compare_in_wasm(make_work_folder(tmp_path / "work"), [*make_kernels(), floats])
    assert len(integers) == 10 and sum(each.values for each in integers) > 200_000
    assert {f"{each.operator} {each.name}": each.apart for each in integers if each.apart} == {}
    assert found.apart > 0 and found.largest < 1e-5, "sums in another order, and no further apart"
