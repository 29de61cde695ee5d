"""Rows of a report that only a page's bundles have: what is downloaded, and what has to fit where a page runs it."""

from __future__ import annotations

from math import prod
from typing import Any

from sprint_export.export.bundle import locate
from sprint_export.libraries import require
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.report import Measurement, Metric

METRICS = (Metric("download_mb"), Metric("network_mb", adds_up=True), Metric("largest_tensor_mb"))
SHIPPED = ("graph", "weights", "tokenizer")
BITS = {"UINT4": 4, "INT4": 4}  # of types that numpy has not


def weigh_downloads(bundle: Bundle) -> list[Measurement]:
    """All that ships; of each network its files, which are loaded at once, and its largest tensor."""
    sizes = {artifact.path: artifact.bytes for artifact in bundle.artifacts if artifact.kind in SHIPPED}
    rows = [Measurement("download_mb", sum(sizes.values()) / 1e6, "MB", note="graphs, weights and tokenizer")]
    for record in bundle.components:
        own = sum(size for path, size in sizes.items() if path.startswith(f"{record.role}/"))
        largest = max(find_largest(locate(bundle, f"{record.role}/{part.graph}")) for part in record.parts)
        rows += [
            Measurement("network_mb", own / 1e6, "MB", record.role, note="its files"),
            Measurement("largest_tensor_mb", largest / 1e6, "MB", record.role, note="of its weights"),
        ]
    return rows


def find_largest(graph: Any) -> int:
    """Bytes of the largest weight of an ONNX graph; its data file is not read."""
    onnx = require("onnx", "runtime")
    tensors = onnx.load(str(graph), load_external_data=False).graph.initializer
    return max((prod(tensor.dims) * _count_bits(onnx, tensor.data_type) // 8 for tensor in tensors), default=0)


def _count_bits(onnx: Any, kind: int) -> int:
    name = onnx.TensorProto.DataType.Name(kind)
    return BITS.get(name) or int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize) * 8
