"""A student's engines, built network by network for their kernel tables and removed again: what the builder fuses is then known.

Ranges of inputs are made up and weights are rounded plainly: kernels and bytes do not depend on them, pictures would.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from sprint_export.errors import InputError
from sprint_export.nouns.order import Deployment
from sprint_export.nouns.recipe import QuantizedLayer, Recipe
from sprint_export.nouns.target import BuiltTarget
from sprint_export.nouns.work import Work
from sprint_export.planning.networks import TABLE, NetworkWork, StudentSubject, decide_rounding
from sprint_export.progress import Progress, quiet
from sprint_export.registry import list_members, load_target

if TYPE_CHECKING:
    from sprint_export.nouns.student import Student

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
        kernels, engine = build_network(student, counted.role, deployment, self.progress)
        return replace(counted, kernels=kernels, weights=engine, origin=TABLE)


def build_network(
    student: Student, role: str, deployment: Deployment, progress: Progress = quiet
) -> tuple[tuple[Work, ...] | None, int]:
    """The kernels of one network's engine and its bytes; it is exported, built and removed again.

    Raises:
        MachineError: the builder is missing, or the disk is full.
    """
    from sprint_export.conversion import keep_components
    from sprint_export.export.student import export_student
    from sprint_export.files import temporary_folder
    from sprint_export.runtimes import build_bundle

    with temporary_folder() as folder:
        bundle = export_student(keep_components(student, (role,)), deployment, folder / "bundle", progress)
        bundle = build_bundle(bundle, deployment.device.name, progress=progress)
        kernels = deployment.target.list_kernels(bundle, role, deployment.device)
        return kernels, sum(each.bytes for each in bundle.artifacts if (each.role, each.kind) == (role, "engine"))


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
