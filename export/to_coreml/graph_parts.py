"""Cut an exported program into parts whose weights stay below a limit, each a program of its own.

A phone loads one model after another, and a Neural Engine takes no weight file beyond a gigabyte or two. The cut runs between
two nodes of the graph, where the fewest values are alive: between blocks that is the residual stream. A part's inputs are the
component's own inputs and values of parts before it; it is captured anew, so no weight is needed yet (all is on `meta`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.export import ExportedProgram

from sprint_export.export.repeated_program import export_program
from sprint_export.nouns.student import TensorSpec

INNER = "passed on to the next part"  # the meaning of a value between parts


@dataclass(frozen=True)
class GraphPart:
    """A program on `meta` whose parameters have the component's names, and its interface."""

    program: ExportedProgram
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def capture_program(module: torch.nn.Module, inputs: Sequence[TensorSpec]) -> ExportedProgram:
    """torch.export on `meta`, in core ATen ops."""
    example = tuple(
        torch.zeros([int(size) for size in spec.shape], dtype=getattr(torch, spec.dtype), device="meta") for spec in inputs
    )
    with torch.no_grad():
        program = export_program(module, example)
    for node in list(program.graph.nodes):
        if node.target is torch.ops.aten._assert_tensor_metadata.default:  # insists on `meta`; the program will get weights
            program.graph.erase_node(node)
    return program


def cut_program(
    program: ExportedProgram,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    weight_bytes: Callable[[str], float],
    limit: float,
) -> list[GraphPart]:
    """Parts in the order they run; one, the program itself, where all weights fit.

    Args:
        program: as `capture_program` returns it.
        inputs: the component's.
        outputs: the component's.
        weight_bytes: the stored size of a parameter or buffer, by name.
        limit: bytes a part's weights may have. A single weight beyond it gets a part of its own.
    """
    graph = _Graph(program)
    ends = _choose_ends(graph, weight_bytes, limit)
    if len(ends) == 1:
        return [GraphPart(program, tuple(inputs), tuple(outputs))]
    known = {node.name: spec for node, spec in zip(graph.inputs, inputs, strict=True)}
    parts, start = [], 0
    for i, end in enumerate(ends):
        nodes, is_last = graph.nodes[start:end], end == len(graph.nodes)
        leaving = graph.results if is_last else [node for node in graph.alive(end) if node in nodes]
        made = outputs if is_last else [_describe(node) for node in leaving]
        known |= {node.name: spec for node, spec in zip(leaving, made, strict=True)}
        parts.append(_make_part(graph, nodes, leaving, known, f"part {i + 1}"))
        start = end
    return parts


class _Graph:
    """An exported graph with what a cut asks of it: computing nodes in order, their weights, and who is alive where."""

    def __init__(self, program: ExportedProgram) -> None:
        signature = program.graph_signature
        self.constants = signature.inputs_to_lifted_tensor_constants  # what tracing computed; small
        self.weights = {**signature.inputs_to_parameters, **signature.inputs_to_buffers, **self.constants}
        self.values: Mapping[str, torch.Tensor] = {**program.state_dict, **program.constants}
        every = list(program.graph.nodes)
        self.inputs = [node for node in every if node.op == "placeholder" and node.name not in self.weights]
        self.nodes = [node for node in every if node.op == "call_function"]
        self.results = list(every[-1].args[0])
        order = {node: i for i, node in enumerate(self.nodes)}
        self._last = {node: max((order.get(user, len(order)) for user in node.users), default=-1) for node in self.nodes}

    def alive(self, end: int) -> list[torch.fx.Node]:
        """Values made by nodes before `end` that later nodes read."""
        return [node for node in self.nodes[:end] if self._last[node] >= end]

    def weights_of(self, node: torch.fx.Node) -> list[str]:
        """Names of the parameters and buffers a node reads."""
        names = [source.name for source in node.all_input_nodes]
        return [self.weights[name] for name in names if name in self.weights and name not in self.constants]


def _choose_ends(graph: _Graph, weight_bytes: Callable[[str], float], limit: float) -> list[int]:
    """Exclusive ends of the parts: each as late as the limit allows, but where few values are alive."""
    ends, start = [], 0
    while start < len(graph.nodes):
        seen: set[str] = set()
        total, end = 0.0, start
        while end < len(graph.nodes):
            new = [name for name in graph.weights_of(graph.nodes[end]) if name not in seen]
            total += sum(weight_bytes(name) for name in new)
            if total > limit and seen:
                break
            seen.update(new)
            end += 1
        ends.append(end if end == len(graph.nodes) else _step_back(graph, start, end))
        start = ends[-1]
    return ends


def _step_back(graph: _Graph, start: int, end: int) -> int:
    """The best place to cut in the second half of [start, end]: fewest values alive, the latest of those."""
    places = range(max(start + 1, (start + end) // 2), end + 1)
    return min(places, key=lambda place: (len(graph.alive(place)), -place))


def _describe(node: torch.fx.Node) -> TensorSpec:
    value = node.meta["val"]
    return TensorSpec(node.name, str(value.dtype).removeprefix("torch."), tuple(value.shape), INNER)


def _make_part(
    graph: _Graph, nodes: list[torch.fx.Node], leaving: list[torch.fx.Node], known: Mapping[str, TensorSpec], name: str
) -> GraphPart:
    inside = set(nodes)
    sources = dict.fromkeys(source for node in nodes for source in node.all_input_nodes if source not in inside)
    entering = [source for source in sources if source.name not in graph.weights]
    part, made, root = torch.fx.Graph(), {}, torch.nn.Module()
    for source in entering:
        made[source] = part.placeholder(source.name)
    for source in sources:
        if source.name in graph.weights:
            path = graph.weights[source.name]
            _place_weight(root, path, graph.values[path])
            made[source] = part.get_attr(path)
    for node in nodes:
        made[node] = part.node_copy(node, lambda old: made[old])
    part.output(tuple(made[node] for node in leaving))
    inputs = tuple(known[source.name] for source in entering)
    module = torch.fx.GraphModule(root, part, name)
    return GraphPart(capture_program(module, inputs), inputs, tuple(known[node.name] for node in leaving))


def _place_weight(root: torch.nn.Module, path: str, value: torch.Tensor) -> None:
    *owners, leaf = path.split(".")
    module = root
    for owner in owners:
        if owner not in module._modules:
            module.add_module(owner, torch.nn.Module())
        module = module._modules[owner]  # type: ignore[assignment]  # just added where it was missing
    if isinstance(value, torch.nn.Parameter):
        module.register_parameter(leaf, value)
    else:
        module.register_buffer(leaf, value)
