"""An ONNX file with its weights inside, written and read back tensor by tensor: neither holds more than one block of one tensor.

A file is a protobuf message; each field is a tag, its length and its bytes:

    ModelProto = ... [7: graph];  GraphProto = [1: node]* ... [5: initializer]* ...;  TensorProto = ... [9: raw data]
A graph's length stands before it, so it is added up first: the graph without large weights, then for each of these its header
and its bytes. The library would make the whole file in memory, twice. Source: onnx/onnx.proto; protobuf.dev, "Encoding".
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import onnx

from sprint_export.errors import BundleError
from sprint_export.export.safe_files import BLOCK, hash_bytes

MODEL_GRAPH, GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT = 7, 1, 5, 11, 12  # numbers of fields
TENSOR_RAW_DATA = 9
DELIMITED = 2  # the wire type of what carries its length
FIXED = {1: 8, 5: 4}  # bytes of the two wire types of fixed length


@dataclass(frozen=True)
class Span:
    """Bytes of a file."""

    path: Path
    offset: int
    length: int


def count_bytes(model: onnx.ModelProto, spans: Mapping[str, Span]) -> int:
    """Of the file that `write_single_file` makes; a hair more at most."""
    return int(model.ByteSize()) + sum(span.length + 32 for span in spans.values())


def write_single_file(model: onnx.ModelProto, spans: Mapping[str, Span], path: Path) -> None:
    """Write a graph with the bytes of its external initializers inside.

    Args:
        model: without these bytes; it is left as it is.
        spans: where they lie, by the initializer's name.
        path: a new file.
    """
    whole, graph = onnx.ModelProto(), onnx.GraphProto()
    whole.CopyFrom(model)
    graph.CopyFrom(model.graph)
    whole.ClearField("graph")
    graph.ClearField("initializer")
    graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name not in spans)
    begin, rest = graph.SerializeToString(deterministic=True), whole.SerializeToString(deterministic=True)
    moved = [tensor for tensor in model.graph.initializer if tensor.name in spans]
    heads = [(_head(tensor, spans[tensor.name]), spans[tensor.name]) for tensor in moved]
    length = len(begin) + sum(len(head) + span.length for head, span in heads)
    with path.open("xb") as file:
        file.write(rest + _tag(MODEL_GRAPH) + _varint(length) + begin)
        for head, span in heads:
            file.write(head)
            for block in read_span(span):
                file.write(block)
        file.flush()
        os.fsync(file.fileno())


def _head(tensor: onnx.TensorProto, span: Span) -> bytes:
    """All that stands before an initializer's bytes, its own tag among it."""
    inner = onnx.TensorProto()
    inner.CopyFrom(tensor)
    inner.ClearField("external_data")
    inner.ClearField("data_location")
    fields = bytes(inner.SerializeToString(deterministic=True)) + _tag(TENSOR_RAW_DATA) + _varint(span.length)
    return _tag(GRAPH_INITIALIZER) + _varint(len(fields) + span.length) + fields


def _tag(number: int) -> bytes:
    return _varint(number << 3 | DELIMITED)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def read_span(span: Span) -> Iterator[bytes]:
    """The bytes in blocks.

    Raises:
        BundleError: the file ends before they do.
    """
    with span.path.open("rb") as file:
        file.seek(span.offset)
        left = span.length
        while left:
            block = file.read(min(BLOCK, left))
            if not block:
                raise BundleError(f"{span.path} ends {left} bytes before a weight does; copy or export the bundle again")
            left -= len(block)
            yield block


def hash_graph(path: Path) -> str:
    """sha256 of what a graph computes, wherever its weights lie: nodes in order, inputs, outputs, weights by name.

    Raises:
        BundleError: the file is no such message.
    """
    total, weights = hashlib.sha256(), {}
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        for number, start, length in _list_fields(file, 0, size):
            if number != MODEL_GRAPH:
                continue
            for inner, begin, count in _list_fields(file, start, start + length):
                if inner in (GRAPH_NODE, GRAPH_INPUT, GRAPH_OUTPUT):
                    file.seek(begin)
                    total.update(bytes([inner]) + file.read(count))
                elif inner == GRAPH_INITIALIZER:
                    name, described = _describe_weight(file, begin, count, path.parent)
                    weights[name] = described
    for name in sorted(weights):
        total.update(repr((name, weights[name])).encode())
    return total.hexdigest()


def _describe_weight(file: BinaryIO, start: int, length: int, folder: Path) -> tuple[str, Any]:
    """An initializer's name, and its type, shape and the sha256 of its values."""
    header, raw = bytearray(), None
    for number, begin, count in _list_fields(file, start, start + length):
        if number == TENSOR_RAW_DATA:
            raw = Span(Path(), begin, count)
    tensor = onnx.TensorProto()
    file.seek(start)
    header += file.read(length if raw is None else raw.offset - start - len(_varint(raw.length)) - 1)
    tensor.ParseFromString(bytes(header))
    if raw is not None:
        file.seek(raw.offset)
        digest = hash_bytes(file, raw.length)
    elif tensor.data_location == onnx.TensorProto.EXTERNAL:
        values = hashlib.sha256()
        for block in read_span(_find_span(tensor, folder)):
            values.update(block)
        digest = values.hexdigest()
    else:
        digest = hashlib.sha256(onnx.numpy_helper.to_array(tensor).tobytes()).hexdigest()
    return tensor.name, (tensor.data_type, tuple(tensor.dims), digest)


def _find_span(tensor: onnx.TensorProto, folder: Path) -> Span:
    said = {entry.key: entry.value for entry in tensor.external_data}
    offset, length = said.get("offset", "0"), said.get("length", "")
    if not (offset.isdecimal() and length.isdecimal()):
        raise BundleError(f"{folder}: the weight {tensor.name!r} does not say where its bytes are; export the student again")
    return Span(folder / said["location"], int(offset), int(length))


def _list_fields(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(number, where its bytes begin, how many) for each field of a message between two places of a file."""
    place = start
    while place < end:
        file.seek(place)
        head = file.read(20)
        tag, used = _read_varint(head, 0)
        kind = tag & 7
        if kind == DELIMITED:
            length, used = _read_varint(head, used)
        elif kind == 0:
            _, begin = _read_varint(head, used)
            used, length = begin, 0
        else:
            length = FIXED.get(kind, -1)
        if length < 0 or place + used + length > end:
            raise BundleError(f"{file.name} is no ONNX file: a field at byte {place} goes beyond its message")
        yield tag >> 3, place + used, length
        place += used + length


def _read_varint(data: bytes, start: int) -> tuple[int, int]:
    """The number that begins there, and where the next thing does."""
    value = 0
    for i in range(start, min(start + 10, len(data))):
        value |= (data[i] & 0x7F) << 7 * (i - start)
        if not data[i] & 0x80:
            return value, i + 1
    raise BundleError("no ONNX file: a number has no end")
