"""Versions of runtimes: the oldest that opens a bundle, said before the runtime's own message would.

    library, system      the oldest version that was shown to open the files
    engine builder       the one version that opens its engines, neither an older nor a newer one
Which versions were tried: benchmarks/results/runtime_versions.md. Standard library only.
"""

from __future__ import annotations

import re

OLDEST_ONNXRUNTIME = "1.21.0"  # the first that reads opset 22 (to_onnx.OPSET); 1.20.1 refuses every graph


def refuse_older(library: str, found: str, oldest: str) -> str | None:
    """Why an installed library cannot open files for which `oldest` is the oldest version that does, or None."""
    if not is_older(found, oldest):
        return None
    version = _leading_numbers(found)
    return (
        f"{library} {version} is installed and {oldest} is the oldest that opens this bundle; "
        f"run: pip install '{library}>={oldest}'"
    )


def refuse_other(library: str, found: str, wanted: str) -> str | None:
    """Why an installed library cannot open engines that version `wanted` of it built, or None."""
    if not is_older(found, wanted) and not is_older(wanted, found):
        return None
    return (
        f"{library} {found} is installed and an engine opens in the version that built it, {wanted}; "
        f"run: pip install '{library}=={wanted}', or build it again: sprint-export build"
    )


def is_older(version: str, other: str) -> bool:
    """Compare the numbers that two versions begin with: 1.9 is older than 1.21, `2026.4.1-22051-releases` is 2026.4.1."""
    return _numbers(version) < _numbers(other)


def _leading_numbers(version: str) -> str:
    found = re.match(r"\d{1,9}(\.\d{1,9})*", version)
    return "" if found is None else found[0]


def _numbers(version: str) -> tuple[int, ...]:
    parts = [int(part) for part in _leading_numbers(version).split(".") if part]
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)
