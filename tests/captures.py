"""What torch makes of a module is kept for the next test that captures an equal one: three quarters of an export's time.

Modules are equal where they pickle to the same bytes: classes, attributes, shapes, and the values that are not on `meta`. One
that cannot be pickled is captured every time. Weights are bound afterwards, to a copy; tests/test_captures.py compares files.
"""

from __future__ import annotations

import copy
import hashlib
import io
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx_ir as ir

MOST = 60  # graphs, without weights

_kept: dict[str, Any] = {}


def copy_model(model: ir.Model) -> ir.Model:
    """A copy in which nodes to come get the same numbers."""
    copied = model.clone()
    copied.graph._name_authority = copy.deepcopy(model.graph._name_authority)
    return copied


# A function that captures a module, by where it is looked up, and how its result is copied.
CAPTURES: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("sprint_export.export.to_onnx.writer", "translate_module"): copy_model,
    ("sprint_export.export.to_coreml.writer", "capture_program"): copy.deepcopy,
}


def keep_captures() -> None:
    """From now on in this process, where a writer is loaded."""
    for (module, name), copy_result in CAPTURES.items():
        writer = sys.modules.get(module)
        if writer is not None and not hasattr(writer, "_" + name):
            capture = getattr(writer, name)
            vars(writer).update({"_" + name: capture, name: _keep(capture, copy_result)})


def _keep(capture: Callable[..., Any], copy_result: Callable[[Any], Any]) -> Callable[..., Any]:
    def capture_once(*parts: object) -> Any:
        key = hash_module(capture.__name__, *parts)
        if key is None:
            return capture(*parts)
        if key not in _kept:
            if len(_kept) == MOST:
                del _kept[next(iter(_kept))]
            _kept[key] = capture(*parts)
        return copy_result(_kept[key])

    return capture_once


def run_folder(base: Path) -> Path:
    """What all processes of this run of pytest share: xdist gives each worker a folder of its own in it."""
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def hash_module(*parts: object) -> str | None:
    """Of all that decides the graph; None where it cannot be pickled."""
    content = io.BytesIO()
    pickler = pickle.Pickler(content)
    pickler.fast = True  # what is there twice is written twice, whether it is one object or two
    try:
        pickler.dump(parts)
    except (pickle.PicklingError, AttributeError, TypeError, ValueError, NotImplementedError):
        return None
    return hashlib.sha256(content.getvalue()).hexdigest()
