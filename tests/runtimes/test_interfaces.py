"""What a graph takes and gives, held against the manifest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sprint_export.errors import BundleError
from sprint_export.nouns.student import TensorSpec
from sprint_export.runtimes.interfaces import check_interface, check_results, name_first_line

GRAPH = Path("model.onnx")
FIXED, FREE = TensorSpec("x", "float32", (1, 3), ""), TensorSpec("x", "float32", (1, "height"), "")


def test_an_equal_interface_passes() -> None:
    check_interface(GRAPH, "inputs", {"x": ("float32", [1, 3])}, [FIXED])
    check_interface(GRAPH, "inputs", {"x": ("float32", [1, None])}, [FREE])


@pytest.mark.parametrize(
    ("found", "spec", "part"),
    [
        ({"y": ("float32", [1, 3])}, FIXED, "model.onnx has inputs ['y'], the manifest says ['x']"),
        ({"x": ("float16", [1, 3])}, FIXED, "model.onnx has 'x' as float16 [1, 3], the manifest says float32 [1, 3]"),
        ({"x": ("float32", [1, 4])}, FIXED, "float32 [1, 4], the manifest says float32 [1, 3]"),
        ({"x": ("float32", [1])}, FIXED, "float32 [1], the manifest says"),
        ({"x": ("float32", [1, None])}, FIXED, "float32 [1, free], the manifest says float32 [1, 3]"),
        ({"x": ("float32", [1, 3])}, FREE, "float32 [1, 3], the manifest says float32 [1, height]"),
    ],
)
def test_another_interface_is_named(found: dict[str, tuple[str, list[int | None]]], spec: TensorSpec, part: str) -> None:
    with pytest.raises(BundleError) as caught:
        check_interface(GRAPH, "inputs", found, [spec])
    assert part in str(caught.value)


def test_results_are_what_the_manifest_says() -> None:
    good = {"x": np.zeros((1, 3), np.float32)}
    assert check_results(GRAPH, good, [FIXED]) == good
    assert check_results(GRAPH, good, [FREE]) == good, "some size of a free axis"
    for bad in (np.zeros((1, 3)), np.zeros((1, 4), np.float32), np.zeros((1, 3, 1), np.float32)):
        with pytest.raises(BundleError, match=r"model\.onnx gave 'x' as .*, the manifest says float32 \[1, 3\]"):
            check_results(GRAPH, {"x": bad}, [FIXED])


def test_a_librarys_message_becomes_one_line() -> None:
    assert name_first_line(RuntimeError("\n first \n second")) == "first"
    assert name_first_line(RuntimeError("")) == "RuntimeError"
    assert len(name_first_line(RuntimeError("x" * 10_000))) == 400
