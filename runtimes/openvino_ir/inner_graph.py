"""Our own network inside an IR that wears another interface (export/to_openvino/pipeline_interface.py).

The operators that hold our inputs and outputs are named `OPERATOR_PREFIX` and the value's name; what stands before and behind
them is cut off.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sprint_export.errors import BundleError
from sprint_export.libraries import require
from sprint_export.nouns.student import TensorSpec
from sprint_export.nouns.target import LAYOUT_KEY, OPERATOR_PREFIX, UNIT_KEY

RUNTIME_OPTIONS = ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"]  # for the plugin, as the exporter wrote them


def has_layout(model: Any) -> bool:
    """Whether an openvino.Model has another interface than ours."""
    return bool(model.has_rt_info(LAYOUT_KEY.split(".")))


def cut_out(graph: Path, model: Any, inputs: Iterable[TensorSpec], outputs: Iterable[TensorSpec]) -> Any:
    """The openvino.Model between our own inputs and outputs; `model` is changed.

    Raises:
        BundleError: an operator that should hold one of them is not there.
    """
    openvino, ops = require("openvino", "openvino"), require("openvino.opset13", "openvino")
    holders = {operation.get_friendly_name(): operation for operation in model.get_ordered_ops()}
    missing = next((spec.name for spec in (*inputs, *outputs) if OPERATOR_PREFIX + spec.name not in holders), None)
    if missing is not None:
        raise BundleError(
            f"{graph} has no operator {OPERATOR_PREFIX + missing!r}, which its layout promises; export the student again"
        )
    results = []
    for spec in outputs:
        value = holders[OPERATOR_PREFIX + spec.name].output(0)
        value.set_names({spec.name})
        results.append(ops.result(value))
    parameters = []
    for spec in inputs:
        value = holders[OPERATOR_PREFIX + spec.name].output(0)
        parameter = ops.parameter(value.get_partial_shape(), value.get_element_type(), name=spec.name)
        parameter.output(0).set_names({spec.name})
        for reader in value.get_target_inputs():
            reader.replace_source_output(parameter.output(0))
        parameters.append(parameter)
    found = openvino.Model(results, parameters)
    for key in (UNIT_KEY.split("."), RUNTIME_OPTIONS):
        if model.has_rt_info(key):
            found.set_rt_info(model.get_rt_info(key), key)
    return found
