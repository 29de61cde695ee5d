"""A student's engines, built network by network for their kernel tables and removed again: what the builder fuses is then known.

Ranges of inputs are made up and weights are rounded plainly: kernels and bytes do not depend on them, pictures would.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from sprint_export.disk_errors import clear_disk_errors
from sprint_export.errors import InputError, MachineError
from sprint_export.nouns.order import Deployment
from sprint_export.nouns.recipe import QuantizedLayer, Recipe
from sprint_export.nouns.target import BATCH, BuiltTarget
from sprint_export.planning.networks import TABLE, NetworkWork, StudentSubject, decide_rounding
from sprint_export.progress import Progress, Step, quiet
from sprint_export.registry import list_members, load_target

if TYPE_CHECKING:
    from sprint_export.nouns.student import Student
    from sprint_export.planning.layer_kernels import LayerWork

RANGE = 4.0  # of every input whose range would be measured


class BuiltSubject:
    """A student as engines.

    Args:
        subject: the student.
        progress: is told of exports and builds.
    """

    def __init__(self, subject: StudentSubject, progress: Progress) -> None:
        self.subject, self.progress = subject, progress

    def list_networks(self, deployment: Deployment, kinds: Collection[str]) -> list[NetworkWork]:
        """Its networks, by the kernel tables of their engines.

        Raises:
            MachineError: the builder is missing, or the disk is full.
        """
        counted = self.subject.list_networks(deployment, kinds)
        student = round_plainly(self.subject.specialize(deployment), deployment)
        return [self._build(student, each, deployment) for each in counted]

    def _build(self, student: Student, counted: NetworkWork, deployment: Deployment) -> NetworkWork:
        built, engine = build_network(student, counted.role, deployment, self.progress)
        kernels = None if built is None else tuple(each.work for each in built)
        return replace(counted, kernels=kernels, weights=engine, origin=TABLE)


def build_network(
    student: Student, role: str, deployment: Deployment, progress: Progress = quiet
) -> tuple[tuple[LayerWork, ...] | None, int]:
    """The kernels of one network's engine, each with the layers it computes, and the engine's bytes; all files are removed again.

    Raises:
        MachineError: the builder is missing, or the disk is full. InputError: it cannot read the graph.
    """
    from sprint_export.export.exporter import load_exporter
    from sprint_export.export.student import widen_component
    from sprint_export.files import temporary_folder
    from sprint_export.planning.layer_kernels import label_kernels
    from sprint_export.quantize.patterns import list_layers
    from sprint_export.thread_count import fixed_threads

    target, options = deployment.target, deployment.options
    assert isinstance(target, BuiltTarget)
    component = widen_component(student.components[role], int(options.get(BATCH, 1)), student.chain.names.step)
    exporter = load_exporter(target).suit(student, options)
    with temporary_folder() as folder, clear_disk_errors(folder, "make room there", MachineError):
        progress(Step("exporting", role), 0, 1)
        with fixed_threads():
            record = exporter.write_component(component, target, deployment.precision, options, folder)
        progress(Step("exporting", role), 1, 1)
        [part] = record.parts
        progress(Step("building", role), 0, 1)
        files = target.build(folder / part.graph, deployment.device, str(options["builder"]), lambda _: None)
        progress(Step("building", role), 1, 1)
        kernels = target.read_built(files)
        names = [name.removeprefix(f"{role}.") for name, _ in list_layers(student) if name.startswith(f"{role}.")]
        labelled = None if kernels is None else label_kernels(kernels, folder / part.graph, names)
        return labelled, files["engine"].stat().st_size


def check_build(deployments: Collection[Deployment]) -> None:
    """Refuse what cannot be built here, before anything is loaded.

    Raises:
        InputError: a target builds nothing. RefusedError, MachineError: its builder cannot.
    """
    for each in deployments:
        if not isinstance(each.target, BuiltTarget):
            built = [target.name for target in map(load_target, list_members("target")) if target.needs_build]
            raise InputError(f"--build {each.name}: {each.target.name} builds no engines; those that do: {', '.join(built)}")
        each.target.check_builder(each.device, str(each.options["builder"]))


def round_plainly(student: Student, deployment: Deployment, recipe: Recipe | None = None) -> Student:
    """The student by a recipe, by default the target's, its ranges made up."""
    from sprint_export.quantize.schemes.scheme import load_scheme
    from sprint_export.quantize.student import decide_layers

    target, precision = deployment.target, deployment.precision
    if not deployment.offer.is_quantized:
        return student
    recipe, decisions, _ = decide_layers(student, precision, target, recipe)
    layers, dtype = decide_rounding(student, deployment, recipe), target.scale_dtype or target.graph_dtype[precision]

    def give_range(layer: QuantizedLayer) -> QuantizedLayer:
        inputs = load_scheme(layer.scheme).inputs
        return replace(layer, input_amax=RANGE if inputs is not None and not inputs.is_dynamic else None, scale_dtype=dtype)

    components = {
        role: replace(
            component,
            layers={name: give_range(layer) for name, layer in layers[role].items()},
            decisions=tuple(each for each in decisions if each.layer.startswith(f"{role}.")),
        )
        for role, component in student.components.items()
    }
    return replace(student, recipe=recipe, components=components)
