"""What networks will hold where they run: weights in the precision that is asked for, and the most that results hold at once.

    on the card  =  weights of all networks  +  the largest activations of one, since they run one after the other
Of a student both are counted on `meta` (counting.py), of a bundle read off its files: engines or weights, and the shapes in its
ONNX graphs. Attention is counted as it is written: kernels that fuse it hold less. A runtime's own workspace is not in it, and
a CPU's runtime may restore weights that a GPU's kernels unpack.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sprint_export.amounts import show_bytes
from sprint_export.nouns.recipe import FLOAT, Decision, QuantizedLayer

if TYPE_CHECKING:
    from sprint_export.conversion import Loaded
    from sprint_export.nouns.bundle import Bundle
    from sprint_export.nouns.order import CheckedOrder
    from sprint_export.nouns.student import Component
    from sprint_export.nouns.target import Target

COUNTED = 4  # bytes of a value, as counting.py counts results


@dataclass(frozen=True)
class NetworkMemory:
    """Bytes of one network; `activations` of None: its graph does not say."""

    role: str
    weights: int
    activations: int | None


def plan_memory(loaded: Loaded, checked: CheckedOrder) -> list[NetworkMemory]:
    """Of a student's networks, by the recipe of an order; no weight is loaded.

    Raises:
        InputError: the recipe does not fit the student.
    """
    from sprint_export.estimates.counting import count_network
    from sprint_export.export.reading import count_stored
    from sprint_export.quantize.student import decide_layers
    from sprint_export.quantize.weight_bytes import count_value_bytes
    from sprint_export.recipe_choice import find_recipe

    student, deployment = loaded.specialize(checked), checked.deployment
    decisions: list[Decision] = []
    if deployment.offer.is_quantized:
        _, decisions, _ = decide_layers(student, deployment.precision, deployment.target, find_recipe(student, checked))
    size, found = count_value_bytes(deployment.target.graph_dtype[deployment.precision]), []
    for role, component in student.components.items():
        mine = [(each.layer.removeprefix(f"{role}."), each.precision) for each in decisions if each.layer.startswith(f"{role}.")]
        layers = {name: plan_layer(component, name, scheme, deployment.target) for name, scheme in mine if scheme != FLOAT}
        live = count_network(component).live * size // COUNTED
        found.append(NetworkMemory(role, count_stored(component, layers, size), live))
    return found


def plan_layer(component: Component, name: str, scheme: str, target: Target) -> QuantizedLayer:
    """How a layer will be stored; its range is not known yet."""
    from sprint_export.quantize.schemes.scheme import load_scheme

    value, shape = load_scheme(scheme), component.weights[f"{name}.weight"].shape
    return QuantizedLayer(scheme, None, value.weight_axis, "fp32", value.fit_group(shape, target.find_offer(scheme).group))


def read_memory(bundle: Bundle) -> list[NetworkMemory]:
    """Of a bundle's networks."""
    from sprint_export.export.graph_memory import count_live

    found = []
    for record in bundle.components:
        mine = [artifact for artifact in bundle.artifacts if artifact.role == record.role]
        built = [each.bytes for each in mine if (each.kind, each.device) == ("engine", bundle.device)]
        stored = sum(each.bytes for each in mine if each.kind in ("graph", "weights"))
        graphs = [bundle.folder / each.path for each in mine if each.kind == "graph" and Path(each.path).suffix == ".onnx"]
        found.append(NetworkMemory(record.role, built[0] if built else stored, count_live(graphs[0]) if graphs else None))
    return found


def describe_memory(networks: Sequence[NetworkMemory], title: str) -> Iterator[str]:
    """A line for the whole and one for each network."""
    together = sum(each.weights for each in networks) + max((each.activations or 0 for each in networks), default=0)
    apart = max(each.weights + (each.activations or 0) for each in networks)
    sizes = f"{show_bytes(together)} with all networks there, {show_bytes(apart)} one at a time"
    yield f"memory where it runs, planned for {title}: {sizes}"
    for each in networks:
        held = "unknown" if each.activations is None else show_bytes(each.activations)
        yield f"    {each.role}: weights {show_bytes(each.weights)}, activations at most {held}, attention as if not fused"
