"""What the networks of a student or a bundle ask of a device: kernels and memory, and how often each runs for a picture."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sprint_export.batches import find_batch
from sprint_export.libraries import is_installed
from sprint_export.nouns.chain import EACH_STEP, Chain
from sprint_export.nouns.order import Deployment
from sprint_export.nouns.recipe import FLOAT, QuantizedLayer, Recipe
from sprint_export.nouns.work import Work

if TYPE_CHECKING:
    from sprint_export.nouns.bundle import Bundle
    from sprint_export.nouns.student import Student
    from sprint_export.planning.operators import Trace

COUNTED = "counted operators, fused as a compiler would; a builder's own table came out 4 to 18 % dearer"
TABLE = "the builder's kernel table"
Counted = tuple[tuple[Work, ...] | None, int | None, str]  # kernels, the most bytes between them, and where that is read
GRAPH = "counted in the ONNX graph, fused as a compiler would"


@dataclass(frozen=True)
class NetworkWork:
    """One network: how often it runs for a picture, the kernels of one run (None, with `origin` why, where they are not known).

    `weights` and `activations` in bytes; activations of None are not known. A run makes `pictures` at once.
    """

    role: str
    times: int
    kernels: tuple[Work, ...] | None
    weights: int
    activations: int | None
    origin: str
    pictures: int = 1


class Subject(Protocol):
    """What is planned for: a student, which goes to any target, or a bundle, which has one."""

    def list_networks(self, deployment: Deployment, kinds: Collection[str]) -> list[NetworkWork]:
        """Its networks for a target and a device.

        Args:
            deployment: with the options that the target completes.
            kinds: types that the device's unit multiplies in.
        """


def count_times(chain: Chain, steps: int) -> dict[str, int]:
    """How often each network runs for a picture."""
    return {stage.role: steps if stage.when == EACH_STEP else 1 for stage in chain.stages}


class StudentSubject:
    """A student, specialized and counted once for each layout.

    Args:
        student: as `load_student` gives it.
        steps: sampling steps to specialize to.
        prompt_tokens: rows of text; None: the family's.
    """

    def __init__(self, student: Student, steps: int = 1, prompt_tokens: int | None = None) -> None:
        self.student, self.steps, self.prompt_tokens = student, steps, prompt_tokens
        self._specialized: dict[str, Student] = {}
        self._traces: dict[tuple[str, str], Trace] = {}

    def list_networks(self, deployment: Deployment, kinds: Collection[str]) -> list[NetworkWork]:
        """Its networks, by the target's default recipe.

        Raises:
            InputError: the recipe does not fit the student.
        """
        from sprint_export.export.reading import count_stored
        from sprint_export.planning.graph import list_kernels
        from sprint_export.planning.rounding import lay_out
        from sprint_export.quantize.weight_bytes import count_value_bytes

        target = deployment.target
        layout = target.choose_layout(deployment.options)
        student, dtype = self.specialize(deployment), target.graph_dtype[deployment.precision]
        times, layers = count_times(student.chain, self.steps), decide_rounding(student, deployment)
        found = []
        for role, component in student.components.items():
            kernels, live = list_kernels(lay_out(self._trace(layout, role), layers[role], dtype, kinds))
            stored = count_stored(component, layers[role], count_value_bytes(dtype))
            found.append(NetworkWork(role, times.get(role, 1), kernels, stored, live, COUNTED))
        return found

    def specialize(self, deployment: Deployment) -> Student:
        """The student as its networks are laid out for a target."""
        return self._specialize(deployment.target.choose_layout(deployment.options))

    def _specialize(self, layout: str) -> Student:
        from sprint_export.specialize import specialize_student

        if layout not in self._specialized:
            self._specialized[layout] = specialize_student(
                self.student, self.steps, layout=layout, prompt_tokens=self.prompt_tokens
            )
        return self._specialized[layout]

    def _trace(self, layout: str, role: str) -> Trace:
        from sprint_export.planning.operators import trace_network

        if (layout, role) not in self._traces:
            self._traces[layout, role] = trace_network(self._specialize(layout).components[role])
        return self._traces[layout, role]


def decide_rounding(
    student: Student, deployment: Deployment, recipe: Recipe | None = None
) -> dict[str, dict[str, QuantizedLayer]]:
    """How every network's layers are rounded, by a recipe or the default one; ranges are not known and not needed."""
    from sprint_export.estimates.memory import plan_layer
    from sprint_export.quantize.student import decide_layers

    found: dict[str, dict[str, QuantizedLayer]] = {role: {} for role in student.components}
    if deployment.offer.is_quantized:
        for decision in decide_layers(student, deployment.precision, deployment.target, recipe)[1]:
            role, _, name = decision.layer.partition(".")
            if decision.precision != FLOAT:
                found[role][name] = plan_layer(student.components[role], name, decision.precision, deployment.target)
    return found


class BundleSubject:
    """A bundle: engines' kernel tables, else its ONNX graphs, and no torch; of other files the student that it was made from.

    Args:
        bundle: the bundle.
        load: gives its student, specialized as it was for the bundle; None: torch or the student is not here.
    """

    def __init__(self, bundle: Bundle, load: Callable[[], Student] | None = None) -> None:
        self.bundle, self._load = bundle, load
        self._student: Student | None = None

    def list_networks(self, deployment: Deployment, kinds: Collection[str]) -> list[NetworkWork]:
        """Its networks; what neither its files nor its student tell is not known."""
        from sprint_export.estimates.memory import read_memory

        times, memory = count_times(self.bundle.chain, self.bundle.plan.steps), read_memory(self.bundle)
        batch = find_batch(self.bundle)
        found = []
        for each in memory:
            kernels, live, origin = self._count(each.role, deployment, kinds)
            activations = each.activations if live is None else live
            found.append(NetworkWork(each.role, times.get(each.role, 1), kernels, each.weights, activations, origin, batch))
        return found

    def _count(self, role: str, deployment: Deployment, kinds: Collection[str]) -> Counted:
        table = deployment.target.list_kernels(self.bundle, role, deployment.device)
        if table is not None:
            return table, None, TABLE
        graphs = self._list_graphs(role)
        if graphs and is_installed("onnx"):
            return _count_graphs(graphs)
        if self._load is not None:
            return self._count_student(self._load, role, deployment, kinds)
        if graphs:
            return None, None, "reading its graph takes the package onnx: run: pip install onnx"
        return None, None, f"its files are in no format that is counted: plan its student, {self.bundle.source}"

    def _count_student(self, load: Callable[[], Student], role: str, deployment: Deployment, kinds: Collection[str]) -> Counted:
        """The student's operators, rounded as the bundle's manifest says of every layer."""
        from sprint_export.planning.graph import list_kernels
        from sprint_export.planning.operators import trace_network
        from sprint_export.planning.rounding import lay_out

        self._student = self._student or load()
        record = next(each for each in self.bundle.components if each.role == role)
        dtype = deployment.target.graph_dtype[deployment.precision]
        kernels, live = list_kernels(lay_out(trace_network(self._student.components[role]), record.layers, dtype, kinds))
        return kernels, live, f"{COUNTED}; of its student, {self.bundle.source}"

    def _list_graphs(self, role: str) -> list[Path]:
        from sprint_export.export.bundle import locate

        mine = [a for a in self.bundle.artifacts if (a.role, a.kind) == (role, "graph") and Path(a.path).suffix == ".onnx"]
        return [locate(self.bundle, artifact.path) for artifact in mine]


def _count_graphs(paths: Sequence[Path]) -> Counted:
    """A network's graphs, which run one after the other."""
    from sprint_export.planning.graph import list_kernels
    from sprint_export.planning.onnx_graph import read_graph

    counted = [list_kernels(read_graph(path)) for path in paths]
    return tuple(work for works, _ in counted for work in works), max(live for _, live in counted), GRAPH
