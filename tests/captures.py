"""What torch makes of a module is kept for the next test that translates an equal one: three quarters of an export's time.

Modules are equal where they pickle to the same bytes: classes, attributes, shapes, and the values that are not on `meta`. One
that cannot be pickled is translated every time. Weights are bound afterwards, to a copy; tests/test_captures.py compares files.
"""

from __future__ import annotations

import copy
import hashlib
import io
import os
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

    from sprint_export.nouns.student import TensorSpec

WRITER = "sprint_export.export.to_onnx.writer"
NAME = "translate_module"
MOST = 60  # graphs, without weights

_kept: dict[str, ir.Model] = {}


def keep_captures() -> None:
    """From now on in this process, where the writer is loaded."""
    writer = sys.modules.get(WRITER)
    if writer is None or hasattr(writer, "_" + NAME):
        return
    translate = getattr(writer, NAME)

    def translate_once(module: torch.nn.Module, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> ir.Model:
        key = hash_module(module, inputs, outputs)
        if key is None:
            return translate(module, inputs, outputs)  # type: ignore[no-any-return]
        if key not in _kept:
            if len(_kept) == MOST:
                del _kept[next(iter(_kept))]
            _kept[key] = translate(module, inputs, outputs)
        copied = _kept[key].clone()
        copied.graph._name_authority = copy.deepcopy(_kept[key].graph._name_authority)  # nodes to come get the same numbers
        return copied

    vars(writer).update({"_" + NAME: translate, NAME: translate_once})


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
