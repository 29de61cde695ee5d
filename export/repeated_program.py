"""An exported program with the blocks that were left out of it put back (repeats.py), to the names a whole capture gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ExportGraphSignature, InputKind, InputSpec, TensorArgument

from sprint_export.export.repeats import IrregularError, Record, Ref, Repeat, list_weights, put_back, shorten

PREFIXES = {InputKind.PARAMETER: "p_", InputKind.BUFFER: "b_"}  # of a weight's name in a graph, with its dots as underscores


def export_program(
    module: torch.nn.Module, example: tuple[torch.Tensor, ...], decompositions: dict[Any, Any] | None = None
) -> ExportedProgram:
    """torch.export and decompositions, with equal blocks captured once where the program repeats them as the module does.

    Args:
        module: any weights will do.
        example: inputs, likewise.
        decompositions: by operator; default: none, which leaves core ATen operators.
    """

    def capture(captured: torch.nn.Module) -> ExportedProgram:
        program = torch.export.export(captured, example, strict=False)
        decomposed: ExportedProgram = program.run_decompositions(decompositions or {})
        return decomposed

    short, repeats = shorten(module, example)
    try:
        return repeat_program(capture(short), module, repeats)
    except IrregularError:
        return capture(module)


def repeat_program(program: ExportedProgram, module: torch.nn.Module, repeats: Sequence[Repeat]) -> ExportedProgram:
    """The program of the whole module.

    Args:
        program: of the shortened module, after its decompositions.
        module: whole.
        repeats: what was left out.

    Raises:
        IrregularError: the program's blocks are not a repetition.
    """
    if not repeats:
        return program
    nodes = [node for node in program.graph.nodes if node.op != "placeholder"]
    graph, values = torch.fx.Graph(), dict[str, torch.fx.Node]()
    placeholders = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    specs = _list_inputs(program.graph_signature.input_specs, list_weights(module), repeats)
    for spec, like in specs:
        values[spec.arg.name] = _copy_node(graph, placeholders[like.arg.name], spec.arg.name, (), {})
    for node, record in put_back(nodes, [_describe(node) for node in nodes], _scopes_of, repeats):
        (name,), _, args, kwargs, _ = record
        values[name] = _copy_node(graph, node, name, _fill(node.args, args, values), _fill(node.kwargs, kwargs, values))
    made: Any = values[nodes[-1].name].args[0]
    results = zip(program.graph_signature.output_specs, made, strict=True)
    outputs = [replace(spec, arg=TensorArgument(result.name)) for spec, result in results]
    tensors = list_weights(module)
    weights = {spec.target: tensors[spec.target] for spec, _ in specs if spec.target in tensors}
    return ExportedProgram(
        root=torch.nn.Module(),
        graph=graph,
        graph_signature=ExportGraphSignature([spec for spec, _ in specs], outputs),
        state_dict={name: value for name, value in weights.items() if name in module.state_dict()},
        range_constraints=program.range_constraints,
        module_call_graph=[entry for entry in program.module_call_graph if not entry.fqn],
        example_inputs=program.example_inputs,
        constants=program.constants | {name: value for name, value in weights.items() if name not in module.state_dict()},
        verifiers=program.verifiers,
    )


def _list_inputs(
    specs: Sequence[InputSpec], weights: Mapping[str, torch.Tensor], repeats: Sequence[Repeat]
) -> list[tuple[InputSpec, InputSpec]]:
    """Inputs of the whole program in its order, each with the one of the shortened program that it is like."""
    stored = {spec.target: spec for spec in specs if spec.kind in PREFIXES}
    for spec in stored.values():
        if spec.arg.name != _name_input(spec.kind, str(spec.target)):
            raise IrregularError(f"weight {spec.target} is called {spec.arg.name}")
    waiting: list[tuple[InputSpec, InputSpec]] = []
    for name in weights:
        like = name
        for repeat in repeats:
            like = like if like in stored else repeat.find_like(like)
        if like in stored:
            kind, persistent = stored[like].kind, stored[like].persistent
            waiting.append((InputSpec(kind, TensorArgument(_name_input(kind, name)), name, persistent), stored[like]))
    found: list[tuple[InputSpec, InputSpec]] = []
    for spec in specs:  # constants stand anywhere between the weights
        if spec.kind in PREFIXES:
            count = 1 + next(i for i, (whole, _) in enumerate(waiting) if whole.target == spec.target)
        else:
            count = len(waiting) if spec.kind == InputKind.USER_INPUT else 0
        found, waiting = found + waiting[:count], waiting[count:]
        found += [] if spec.kind in PREFIXES else [(spec, spec)]
    return found


def _name_input(kind: InputKind, weight: str) -> str:
    return PREFIXES[kind] + weight.replace(".", "_")


def _scopes_of(node: torch.fx.Node) -> list[str]:
    """Paths of the modules that a node was written in."""
    return [path for path, _ in node.meta.get("nn_module_stack", {}).values()]


def _describe(node: torch.fx.Node) -> Record:
    value = node.meta.get("val")
    return (Ref(node.name),), str(node.target), _refer(node.args), _refer(node.kwargs), str(value)


def _refer(value: Any) -> Any:
    """Arguments with the names of nodes in their place."""
    if isinstance(value, torch.fx.Node):
        return Ref(value.name)
    if isinstance(value, dict):
        return tuple((key, _refer(each)) for key, each in value.items())
    return tuple(map(_refer, value)) if isinstance(value, list | tuple) else value


def _fill(like: Any, described: Any, values: Mapping[str, torch.fx.Node]) -> Any:
    """Arguments again, in the containers they were in."""
    if isinstance(like, torch.fx.Node):
        if described not in values:
            raise IrregularError(f"nothing makes {described}")
        return values[described]
    if isinstance(like, dict):
        return {key: _fill(old, new, values) for (key, old), (_, new) in zip(like.items(), described, strict=True)}
    if isinstance(like, list | tuple):
        made = [_fill(old, new, values) for old, new in zip(like, described, strict=True)]
        return tuple(made) if isinstance(like, tuple) else made
    return described


def _copy_node(graph: torch.fx.Graph, like: torch.fx.Node, name: str, args: Any, kwargs: Any) -> torch.fx.Node:
    target = name if like.op == "placeholder" else like.target
    node = graph.create_node(like.op, target, args, kwargs, name=name)
    if node.name != name:
        raise IrregularError(f"{name} is there twice")
    node.meta = dict(like.meta)
    return node
