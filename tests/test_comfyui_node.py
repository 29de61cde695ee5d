"""The ComfyUI node of examples/, loaded and called as ComfyUI does, without ComfyUI: no package of it is in a registry.

Source: comfyanonymous/ComfyUI nodes.py (load_custom_node) and execution.py (INPUT_TYPES, FUNCTION called by keyword).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sprint_export.errors import InputError
from sprint_export.runtimes import open_bundle
from tests.bundles import shared_bundle
from tests.tree import ROOT

FILE = ROOT / "examples" / "comfyui" / "sprint_export_node.py"
PROMPT = "a red circle above a blue square"
KINDS = {"STRING": str, "INT": int}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_bundle(tmp_path_factory.getbasetemp(), "onnx-int8")


def load_nodes() -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location(f"custom_nodes.{FILE.stem}", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert set(module.NODE_DISPLAY_NAME_MAPPINGS) == set(module.NODE_CLASS_MAPPINGS)
    nodes: dict[str, Any] = module.NODE_CLASS_MAPPINGS
    return nodes


def call_node(node: Any, **given: Any) -> torch.Tensor:
    """With the defaults of what is not given; every value is of the kind that the node declares."""
    declared = node.INPUT_TYPES()["required"]
    inputs = {name: settings["default"] for name, (_, settings) in declared.items()} | given
    assert all(type(inputs[name]) is KINDS[kind] for name, (kind, _) in declared.items())
    node.IS_CHANGED(**inputs)
    (found,) = getattr(node(), node.FUNCTION)(**inputs)
    assert isinstance(found, torch.Tensor)
    return found


def test_the_node_draws_what_the_bundle_draws(bundle: Path) -> None:
    (node,) = load_nodes().values()
    assert node.RETURN_TYPES == ("IMAGE",)
    found = call_node(node, bundle=str(bundle), prompt=PROMPT, seed=3)
    assert (found.dtype, tuple(found.shape)) == (torch.float32, (1, 64, 64, 3))
    wanted = open_bundle(bundle)([PROMPT], seed=3)
    np.testing.assert_array_equal(np.rint(found.numpy() * 255).astype(np.uint8), wanted)
    assert wanted.std() > 5, "a flat picture proves nothing"


def test_a_bundle_is_opened_once(bundle: Path) -> None:
    (node,) = load_nodes().values()
    first = node._open(bundle)
    assert node._open(bundle) is first


def test_a_step_count_the_bundle_is_not_made_for_is_said(bundle: Path) -> None:
    (node,) = load_nodes().values()
    with pytest.raises(InputError, match="steps"):
        call_node(node, bundle=str(bundle), steps=3)
