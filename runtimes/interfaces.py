"""Whether a graph takes and gives what the manifest says, asked when it is opened and after it ran."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sprint_export.errors import BundleError
from sprint_export.nouns.student import TensorSpec

if TYPE_CHECKING:
    from sprint_export.session import Array

# A graph's tensor: name -> (numpy's name of its type, its sizes; None for one that is free).
Found = Mapping[str, tuple[str, Sequence[int | None]]]


def check_interface(graph: Path, side: str, found: Found, specs: Iterable[TensorSpec]) -> None:
    """Compare names, types and shapes; `side` is "inputs" or "outputs".

    Raises:
        BundleError: they differ.
    """
    wanted = {spec.name: spec for spec in specs}
    if sorted(found) != sorted(wanted):
        raise BundleError(f"{graph} has {side} {sorted(found)}, the manifest says {sorted(wanted)}; export the student again")
    for name, spec in wanted.items():
        dtype, shape = found[name]
        if dtype != spec.dtype or not _fits(shape, spec.shape):
            raise BundleError(
                f"{graph} has {name!r} as {dtype} {_show(shape)}, the manifest says {spec.dtype} {_show(spec.shape)}; export the "
                "student again"
            )


def check_results(graph: Path, results: Mapping[str, Array], specs: Iterable[TensorSpec]) -> dict[str, Array]:
    """The results, once each has the type and fixed sizes that the manifest says.

    Raises:
        BundleError: one has not.
    """
    for spec in specs:
        result = results[spec.name]
        if result.dtype.name != spec.dtype or not _fits(result.shape, spec.shape, is_made=True):
            raise BundleError(
                f"{graph} gave {spec.name!r} as {result.dtype.name} {_show(result.shape)}, the manifest says {spec.dtype} "
                f"{_show(spec.shape)}; export the student again"
            )
    return dict(results)


def name_first_line(error: Exception) -> str:
    """What a library says of its failure, cut to one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:400] if lines else type(error).__name__


def _fits(found: Sequence[int | None], wanted: Sequence[int | str], is_made: bool = False) -> bool:
    """Fixed sizes are equal; what the manifest leaves free the graph leaves free too, or, once made, gives some size."""
    if len(found) != len(wanted):
        return False
    pairs = zip(found, wanted, strict=True)
    return all(size == said if isinstance(said, int) else (is_made or size is None) for size, said in pairs)


def _show(shape: Iterable[int | str | None]) -> str:
    return f"[{', '.join('free' if size is None else str(size) for size in shape)}]"
