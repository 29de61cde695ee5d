"""What a manifest says of tensors: names, types and shapes within bounds, and parts of a network that fit each other."""

from __future__ import annotations

import math

from sprint_export.export.manifest_faults import ManifestError, demand, demand_range
from sprint_export.export.safe_files import find_path_fault
from sprint_export.nouns.bundle import Bundle, ComponentRecord
from sprint_export.nouns.student import TensorSpec
from sprint_export.sizes import SIDES, read_axis

MOST_PARTS = 512
MOST_TENSORS = 64  # of one side of a graph
MOST_AXES = 8
MOST_VALUES = 1 << 32  # of a tensor between parts
INTEGERS = ("int32", "int64")
FLOATS = ("float32", "float16", "bfloat16")
DTYPES = (*FLOATS, *INTEGERS, "int8", "uint8", "bool")


def check_specs(where: str, specs: tuple[TensorSpec, ...]) -> None:
    """Names once, types known, shapes positive and bounded."""
    names = [spec.name for spec in specs]
    demand(0 < len(names) <= MOST_TENSORS, f"{where}: tensors", len(names), f"1 to {MOST_TENSORS}")
    demand(len(set(names)) == len(names) and all(names), f"{where}: tensors", names, "names, each once")
    for spec in specs:
        what = f"{where}: {spec.name}"
        demand(spec.dtype in DTYPES, what, repr(spec.dtype), f"one of {', '.join(DTYPES)}")
        demand(len(spec.shape) <= MOST_AXES, what, f"{len(spec.shape)} axes", f"at most {MOST_AXES}")
        sizes = [size if isinstance(size, int) else _read_size(what, size) for size in spec.shape]
        for size in sizes:
            demand_range(f"{what}: a size", size, 1, MOST_VALUES)
        demand_range(f"{what}: values", math.prod(sizes), 1, MOST_VALUES)


def _read_size(what: str, size: str) -> int:
    """What an axis of free size is a multiple of."""
    try:
        multiple, name = read_axis(size)
    except ValueError as error:
        raise ManifestError(f"{what}: {error}") from error
    demand(name in SIDES, f"{what}: a free axis", repr(size), f"a multiple of {' or '.join(SIDES)}")
    return multiple


def demand_spec(role: str, spec: TensorSpec, dtypes: tuple[str, ...], shape: tuple[int | str, ...]) -> None:
    """One of these types, exactly this shape."""
    what = f"{role}: {spec.name}"
    demand(
        spec.dtype in dtypes and spec.shape == shape,
        what,
        f"{spec.dtype} {list(spec.shape)}",
        f"{'/'.join(dtypes)} {list(shape)}",
    )


def check_parts(bundle: Bundle) -> None:
    """Parts are named graphs, each once; each reads what was given or made before; the last makes what the component gives."""
    graphs = {artifact.path for artifact in bundle.artifacts if artifact.kind == "graph"}
    for record in bundle.components:
        demand_range(f"{record.role}: parts", len(record.parts), 1, MOST_PARTS)
        names = [part.graph for part in record.parts]
        demand(len(set(names)) == len(names), f"{record.role}: parts", names, "each graph once")
        for name in names:
            fault = find_path_fault(name)
            demand(fault is None, f"{record.role}: the part {name!r}", fault, "the path of a graph")
            demand(
                f"{record.role}/{name}" in graphs,
                f"{record.role}: the part {name!r}",
                "no such artifact",
                "a graph among artifacts",
            )
        _check_chain(record)


def _check_chain(record: ComponentRecord) -> None:
    known = dict(_named(record.inputs))
    for part in record.parts:
        where = f"{record.role}/{part.graph}"
        for side in (part.inputs, part.outputs):
            check_specs(where, side)
        for spec in part.inputs:
            demand(
                spec.name in known, f"{where}: the input {spec.name}", "nothing that gives it", "an input or an earlier output"
            )
            demand_spec(where, spec, (known[spec.name].dtype,), known[spec.name].shape)
        taken = [spec.name for spec in part.outputs if spec.name in known]
        demand(not taken, f"{where}: outputs", f"{taken} again", "new names")
        known |= _named(part.outputs)
    last = {(spec.name, spec.dtype, spec.shape) for spec in record.parts[-1].outputs}
    wanted = {(spec.name, spec.dtype, spec.shape) for spec in record.outputs}
    demand(last == wanted, f"{record.role}: outputs of the last part", sorted(s[0] for s in last), "the component's")


def _named(specs: tuple[TensorSpec, ...]) -> dict[str, TensorSpec]:
    return {spec.name: spec for spec in specs}
