"""Constants of a Core ML package as tensors that can be compared with a student's.

Parts of a compressed one are called after it: "<weight>.<parameter>".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sprint_export.runtimes.stored_tensors import StoredTensor

CODES = ("int4", "uint4", "int8", "uint8", "uint6", "uint3", "uint2", "uint1")
FLOATS = ("float16", "float32", "bfloat16")


def list_package_tensors(package: Path) -> Iterator[StoredTensor]:
    """Every constant of a package's main function that is a number or a code."""
    from sprint_export.runtimes.coreml.mil.program import read_program

    program = read_program(package)
    parts = {
        names[0]: f"{op.outputs[-1].name}.{parameter}"
        for op in program.compressed.values()
        for parameter, names in op.inputs.items()
    }
    for name, constant in program.constants.items():
        value = constant.value
        if value.dtype in (*CODES, *FLOATS):
            yield StoredTensor(parts.get(name, name), value.shape, value.dtype in CODES, constant.load)
