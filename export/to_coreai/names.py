"""What Core AI's converter draws at random or takes from the clock, made of content instead: same program, same bytes.

    constants    resource_<64 random bits>  ->  the SHA-256 of type and values
    functions    <name>_<8 random letters>  ->  <name>_<count>
    the asset    its creation date          ->  a fixed one
Delete what an upstream release makes reproducible; tests/export/test_same_bytes.py says when it is not.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

CREATION_DATE = "19800101T000000Z"
SMALL_BYTES = 64  # smaller arrays stand in the program itself, without a name
CONSTANTS = "coreai._compiler.dialects.coreai.constant"
BUILDERS = ("coreai.authoring.func", "coreai.authoring.graph_builder")


@contextlib.contextmanager
def names_from_content() -> Iterator[None]:
    """Within, programs built by coreai-torch name constants and functions by what they are."""
    import coreai_torch.converter as converter
    from coreai.authoring import func as _func  # noqa: F401  # in sys.modules from here on

    dialect = vars(converter)["_mlir"].dialects.coreai
    named = _name_constants(dialect.create_elements_attr)
    counts = itertools.count()

    def name_function(name: str) -> str:
        return f"{name}_{next(counts)}"

    with contextlib.ExitStack() as stack:
        for holder in (dialect, sys.modules[CONSTANTS]):
            stack.enter_context(mock.patch.object(holder, "create_elements_attr", named))
        for builder in BUILDERS:
            stack.enter_context(mock.patch.object(sys.modules[builder], "_randomize_fn_name", name_function))
        yield


def _name_constants(create: Callable[..., Any]) -> Callable[..., Any]:
    """`create_elements_attr` with names of our own for what is stored beside the program."""
    from coreai._compiler.ir import DenseResourceElementsAttr

    held: dict[str, Any] = {}

    def create_named(location: Any, kind: Any, array: Any) -> Any:
        is_small = array.nbytes < SMALL_BYTES or array.dtype == bool
        if is_small or (array == array.flat[0]).all():
            return create(location, kind, array)
        whole = np.ascontiguousarray(array).view(np.uint8).data  # bfloat16 and float8 are no types of a buffer
        name = "constant_" + hashlib.sha256(str(kind).encode() + whole).hexdigest()
        if name not in held:
            held[name] = DenseResourceElementsAttr.get_from_buffer(whole, name, kind)
        return held[name]

    return create_named


def fix_date(asset: Path) -> None:
    """Replace the day and second of creation in an asset's metadata, its keys in order."""
    path = asset / "metadata.json"
    metadata = json.loads(path.read_text("utf-8")) | {"creationDate": CREATION_DATE}
    path.write_text(json.dumps(metadata, indent=2, sort_keys=True) + "\n", "utf-8")
