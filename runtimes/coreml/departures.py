"""Where a saved Core ML package leaves PyTorch: the first operation whose result is not that of the graph it was made from.

Every operation is given PyTorch's own inputs, so errors do not pile up and the place is exact. PyTorch computes the captured
graph with weights and inputs rounded as the recipe says; what remains is the converter's doing, or a damaged file's.
All intermediate values of a graph are kept at once, so large pictures are left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from sprint_export.export.bundle import locate
from sprint_export.libraries import hush
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.nouns.report import Measurement
from sprint_export.nouns.student import Component
from sprint_export.quantize.scales import fake_quantize, input_scale, round_weight
from sprint_export.quantize.schemes.scheme import load_scheme
from sprint_export.weights import Handle, LazyHandle

if TYPE_CHECKING:
    from sprint_export.session import Array

WEIGHTED = (torch.ops.aten.linear.default, torch.ops.aten.conv2d.default)


def find_departures(bundle: Bundle, dtype: str, rounded: Iterable[tuple[Component, Mapping[str, Array]]]) -> list[Measurement]:
    """A row per component: 0, or 1 with the operation's name and its error.

    Args:
        bundle: the files.
        dtype: what the graphs compute in.
        rounded: by component, with the layers and edits of the manifest, what went into it.
    """
    rows = []
    for component, feeds in rounded:
        with hush():
            departure = search_component(bundle, component, dtype, feeds)
        note = departure or "every operation gives what PyTorch gives"
        rows.append(Measurement("departures", float(departure is not None), "", component.role, note=note))
    return rows


def search_component(bundle: Bundle, component: Component, dtype: str, feeds: Mapping[str, Array]) -> str | None:
    """The first operation of a component's packages that departs from PyTorch, in words, or None."""
    from sprint_export.export.to_coreml.writer import fill_weights, make_parts
    from sprint_export.runtimes.coreml.mil.departure import find_departure
    from sprint_export.runtimes.coreml.mil.evaluate import Evaluator
    from sprint_export.runtimes.coreml.mil.record import record_values
    from sprint_export.runtimes.coreml.mil.sources import read_sources
    from sprint_export.runtimes.coreml.package import package_of

    record = next(record for record in bundle.components if record.role == component.role)
    graphs = make_parts(dataclasses.replace(component, layers=record.layers), dtype, bundle.options)
    for graph, part in zip(graphs, record.parts, strict=True):
        program = fill_weights(graph.program, round_weights(component))
        round_inputs(program, component)
        arguments = [torch.from_numpy(np.ascontiguousarray(feeds[spec.name])) for spec in graph.inputs]
        reference = record_values(program, arguments, [spec.name for spec in graph.outputs])
        package = package_of(locate(bundle, f"{record.role}/{part.graph}"))
        given = {spec.name: feeds[spec.name] for spec in part.inputs}  # both sides unrounded, also from part to part
        found = find_departure(Evaluator(package), reference, given, read_sources(program, reference))
        if found is not None:
            return f"{package.name}: {found}"
        feeds = {**feeds} | {spec.name: reference[spec.name].numpy() for spec in graph.outputs}
    return None


def round_weights(component: Component) -> dict[str, Handle]:
    """The component's weights as its quantized layers compute with them."""

    def rounded(handle: Handle, layer: QuantizedLayer) -> Handle:
        return LazyHandle(handle.shape, torch.float32, lambda: round_weight(handle.load().float(), layer))

    layers = {f"{name}.weight": rounded(component.weights[f"{name}.weight"], layer) for name, layer in component.layers.items()}
    return {**component.weights, **layers}


def round_inputs(program: torch.export.ExportedProgram, component: Component) -> None:
    """Fake-quantize what goes into layers with an input range, in place; other nodes keep their names."""
    names = program.graph_signature.inputs_to_parameters
    for node in list(program.graph.nodes):
        if node.target not in WEIGHTED or node.args[1].name not in names:
            continue
        layer = component.layers.get(names[node.args[1].name].removesuffix(".weight"))
        if layer is None or layer.input_amax is None:
            continue
        with program.graph.inserting_before(node):
            given = (node.args[0], float(input_scale(layer)), layer.scheme)
            rounded = program.graph.call_function(_round_input, given)
        node.args = (rounded, *node.args[1:])


def _round_input(value: torch.Tensor, scale: float, scheme: str) -> torch.Tensor:
    inputs = load_scheme(scheme).inputs
    return value if inputs is None else fake_quantize(value, torch.tensor(scale), inputs.format)
