"""Stage 5, build and open: what a target needs beside its graphs, and a pipeline over whatever can run here.

A folder is a room: `target.py` says where a student can go and what that takes (nouns.target.Target), `runtime.py` runs what lies
there (runtime.Runtime). Listing and reading them imports no library; the verbs are fetched when first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if __name__ != "sprint_export.runtimes":
    raise ImportError("import sprint_export.runtimes, not the bare folder 'runtimes'")

if TYPE_CHECKING:
    from sprint_export.runtimes.checking import check_bundle
    from sprint_export.runtimes.engines import build_bundle
    from sprint_export.runtimes.open import open_bundle

__all__ = ["build_bundle", "check_bundle", "open_bundle"]
_HOMES = {"build_bundle": "engines", "check_bundle": "checking", "open_bundle": "open"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
