"""Build what a target needs beside its graphs, for a device: TensorRT's engines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from sprint_export.devices import find_device
from sprint_export.errors import InputError, MachineError, RefusedError
from sprint_export.export.bundle import (
    add_artifacts,
    find_artifact,
    locate,
    make_artifact,
    read_bundle,
    write_app,
    write_bundle,
)
from sprint_export.nouns.bundle import Artifact, Bundle
from sprint_export.nouns.target import BuiltTarget, Device, Options
from sprint_export.options import complete_options
from sprint_export.progress import Progress, Step, quiet
from sprint_export.registry import load_target
from sprint_export.work_folder import claim_bundle

WRITE_ADVICE = "engines are built into the bundle; copy it to where you can write"
NONE: Options = MappingProxyType({})


def build_bundle(
    bundle: Bundle | str | Path, device: str | None = None, options: Options = NONE, progress: Progress = quiet
) -> Bundle:
    """Build what the target needs for a device (TensorRT engines), beside the graphs.

    Args:
        bundle: a bundle or its folder.
        device: a name from `devices`; default: the one the bundle was made for.
        options: those of the target's that shape what is built, e.g. {"builder": "tensorrt"}; default: the bundle's own.
        progress: is told (step, done, total).

    Returns:
        The bundle with its new files; engines that are there already and whole are not built again.

    Raises:
        InputError: the target has no such option, or it shapes the graphs too. RefusedError: the target refuses the device.
        MachineError: a library or the GPU is missing, or another run works on the bundle.
    """
    folder = bundle.folder if isinstance(bundle, Bundle) else Path(bundle)
    with claim_bundle(folder, WRITE_ADVICE):
        return _build_claimed(bundle if isinstance(bundle, Bundle) else read_bundle(folder), device, options, progress)


def _build_claimed(bundle: Bundle, device_name: str | None, options: Options, progress: Progress) -> Bundle:
    target, device = load_target(bundle.target), find_device(device_name or bundle.device)
    if (reason := target.refuses(bundle.precision, device)) is not None:
        raise RefusedError(reason)
    builder = choose_builder(bundle, device, options)
    if not isinstance(target, BuiltTarget):
        return write_app(bundle)
    for i, record in enumerate(bundle.components):
        progress(Step("building", f"{record.role} for {device.name}"), i, len(bundle.components))
        bundle = _build_component(bundle, target, record.role, device, builder)
    progress(Step("building", f"for {device.name}"), len(bundle.components), len(bundle.components))
    return replace(write_app(bundle), device=device.name)


def choose_builder(bundle: Bundle, device: Device, options: Options) -> str:
    """The builder that is asked for, or the bundle's own; "" where the target builds nothing.

    Raises:
        InputError: no such option or builder, or one that shapes the graphs.
    """
    target = load_target(bundle.target)
    for option in target.options:
        value = options.get(option.name, bundle.options.get(option.name))
        if not option.is_for_building and value != bundle.options.get(option.name):
            raise InputError(f"{option.name}={value}: the graphs of {bundle.folder} were made without it; export it again")
    return str(complete_options(target, bundle.precision, device, {**bundle.options, **options}).get("builder", ""))


def _build_component(bundle: Bundle, target: BuiltTarget, role: str, device: Device, builder: str) -> Bundle:
    """The bundle with the component's engine, its manifest written: a killed run keeps what it built."""
    present = find_artifact(bundle, role, "engine", device.name)
    if present is not None and present.format == builder:
        return bundle
    files = _find_alike(bundle, role, device, builder)
    if not files:
        graph = find_artifact(bundle, role, "graph")
        assert graph is not None
        bundle = _note_builder(bundle, builder, target.find_version(builder))
        built = target.build(locate(bundle, graph.path), device, builder, lambda message: None)
        files = [
            replace(make_artifact(bundle.folder, path, role, kind, builder), device=device.name) for kind, path in built.items()
        ]
    bundle = add_artifacts(bundle, files)
    write_bundle(bundle)
    return bundle


def _note_builder(bundle: Bundle, builder: str, version: str) -> Bundle:
    """Write down what builds the engines: all of one builder are of one version, the only one that opens them.

    Raises:
        MachineError: the bundle has engines of another version.
    """
    before = bundle.runtimes.get(builder, version)
    if before != version:
        raise MachineError(
            f"{bundle.folder} has engines by {builder} {before}, and {version} is installed; all engines of a bundle are by one "
            f"version: run: pip install '{builder}=={before}', or export the student again"
        )
    return replace(bundle, runtimes={**bundle.runtimes, builder: version})


def _find_alike(bundle: Bundle, role: str, device: Device, builder: str) -> list[Artifact]:
    """Files the builder made for another device of the same compute capability, under this device's name: they are the same."""
    return [
        replace(artifact, device=device.name)
        for artifact in {a.path: a for a in bundle.artifacts if a.role == role and a.format == builder}.values()
        if artifact.device is not None and find_device(artifact.device).compute_capability == device.compute_capability
    ]
