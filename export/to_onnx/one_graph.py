"""The networks of a chain as one ONNX graph, ids, mask and noise to a picture, where the sampler takes one step.

    state = s_0 * noise  (noise itself where the student starts from it);  denoised = network(state, ...);  state = denoised
What the executor does with a table of values (executor.py) is done with the values of one graph: a network's inputs are values of
that name, its outputs become such values, the loop leaves x0 under the state's name. Nodes and weights stay as they are, their
names get the network's before them; so the graph computes what the chain does, but for what a runtime fuses across a seam.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from sprint_export.errors import BundleError, RefusedError
from sprint_export.nouns.chain import EACH_STEP, Stage, ValueNames


@dataclass(frozen=True)
class OneStep:
    """The sampler's one step: the time that unit noise is multiplied with (1: it is not), and the row of the times it is."""

    scale: float
    row: int


def join_graphs(stages: Sequence[Stage], models: Mapping[str, ir.Model], names: ValueNames, step: OneStep) -> ir.Model:
    """One model of several, which are taken apart for it.

    Args:
        stages: that run, in order.
        models: by role.
        names: of the chain's values.
        step: the sampler's.

    Raises:
        RefusedError: two of them need different versions of one operator set, or a network has functions of its own.
    """
    first = models[stages[0].role]
    table: dict[str, ir.Value] = {}
    joined = ir.Graph((), (), nodes=(), opset_imports=_merge_opsets(models), name="one_graph")
    for stage in stages:
        graph = models[stage.role].graph
        for given in sorted(graph.inputs, key=lambda value: value.name == names.state):  # the noise comes last
            if given.name not in table:
                table[str(given.name)] = _give_input(joined, given, names, step)
        outputs = _move(graph, stage.role, table, joined)
        table |= outputs
        if stage.when == EACH_STEP and names.denoised in outputs:
            table[names.state] = outputs[names.denoised]
    picture = table[names.picture]
    picture.name = names.picture
    joined.outputs.append(picture)
    model = ir.Model(joined, ir_version=max(each.ir_version for each in models.values()))
    model.producer_name = first.producer_name
    return model


def _merge_opsets(models: Mapping[str, ir.Model]) -> dict[str, int]:
    found: dict[str, int] = {}
    for role, model in models.items():
        if model.functions:
            raise RefusedError(f"{role} has functions of its own, which one graph cannot hold; pack without one graph")
        for domain, version in model.graph.opset_imports.items():
            if found.setdefault(domain, version) != version:
                raise RefusedError(
                    f"{role} is written in version {version} of the operators {domain or 'ai.onnx'!r}, another network in "
                    f"{found[domain]}; pack without one graph"
                )
    return found


def _give_input(joined: ir.Graph, given: ir.Value, names: ValueNames, step: OneStep) -> ir.Value:
    """The joined graph's value for what no network before gives: ids, mask, the state (noise times s_0) or the step's row."""
    if given.name == names.step:
        return _add_constant(joined, names.step, np.array([step.row], np.int64))
    if given.name not in (names.ids, names.mask, names.state):
        raise BundleError(f"no network gives {given.name!r}, which another one reads; export the student again")
    value = ir.Value(name=given.name, shape=given.shape, type=given.type)
    joined.inputs.append(value)
    if given.name != names.state or np.float32(step.scale) == 1:
        return value
    scale = _add_constant(joined, "first_time", np.array(step.scale, np.float32))
    node = ir.node("Mul", [value, scale], name="start")
    node.outputs[0].name = "start"
    node.outputs[0].shape, node.outputs[0].type = given.shape, given.type
    joined.append(node)
    return node.outputs[0]


def _add_constant(joined: ir.Graph, name: str, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> ir.Value:
    tensor = ir.Tensor(array, name=name)
    value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
    joined.register_initializer(value)
    return value


def _move(graph: ir.Graph, role: str, table: Mapping[str, ir.Value], joined: ir.Graph) -> dict[str, ir.Value]:
    """A network's nodes and weights into the joined graph, reading values of the table; its outputs by name."""
    outputs = {str(value.name): value for value in graph.outputs}
    for given in list(graph.inputs):
        ir.convenience.replace_all_uses_with(given, table[str(given.name)])
    graph.outputs.clear()
    nodes = list(graph)
    graph.remove(nodes)
    for name in list(graph.initializers):
        value = graph.initializers.pop(name)
        value.name = f"{role}/{name}"
        if value.const_value is not None:
            value.const_value.name = value.name
        joined.register_initializer(value)
    for node in nodes:
        node.name = f"{role}/{node.name}" if node.name else None
        for value in node.outputs:
            if value.name:
                value.name = f"{role}/{value.name}"
        joined.append(node)
    return outputs
