"""Build what a target needs beside its graphs, for a device: TensorRT's engines."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
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
from sprint_export.process_memory import find_free_memory
from sprint_export.progress import Progress, Step, quiet
from sprint_export.registry import load_target
from sprint_export.runtimes.hub import find_bundle
from sprint_export.work_folder import claim_bundle

WRITE_ADVICE = "engines are built into the bundle; copy it to where you can write"
HELD, BESIDE = 1.6, 500_000_000  # a builder's memory: times the weights (5.1 GB of 3.2), and bytes of its own
NONE: Options = MappingProxyType({})


def build_bundle(
    bundle: Bundle | str | Path, device: str | None = None, options: Options = NONE, progress: Progress = quiet
) -> Bundle:
    """Build what the target needs for a device (TensorRT engines), beside the graphs.

    Args:
        bundle: a bundle, its folder, or its hub id.
        device: a name from `devices`; default: the one the bundle was made for.
        options: those of the target's that shape what is built, e.g. {"builder": "tensorrt"}; default: the bundle's own.
        progress: is told (step, done, total).

    Returns:
        The bundle with its new files; engines that are there already and whole are not built again.

    Raises:
        InputError: the target has no such option, or it shapes the graphs too. RefusedError: the target refuses the device.
        MachineError: a library or the GPU is missing, or another run works on the bundle.
    """
    folder = bundle.folder if isinstance(bundle, Bundle) else find_bundle(bundle, progress)
    with claim_bundle(folder, WRITE_ADVICE):
        return _build_claimed(bundle if isinstance(bundle, Bundle) else read_bundle(folder), device, options, progress)


def _build_claimed(bundle: Bundle, device_name: str | None, options: Options, progress: Progress) -> Bundle:
    target, device = load_target(bundle.target), find_device(device_name or bundle.device)
    if (reason := target.refuses(bundle.precision, device)) is not None:
        raise RefusedError(reason)
    builder = choose_builder(bundle, device, options)
    if not isinstance(target, BuiltTarget):
        return write_app(bundle)
    missing = []
    for record in bundle.components:
        present = find_artifact(bundle, record.role, "engine", device.name)
        if present is not None and present.format == builder:
            continue
        files = _find_alike(bundle, record.role, device, builder)
        bundle = _add_files(bundle, files)
        missing += [] if files else [record.role]
    if missing:
        bundle = _build_missing(_note_builder(bundle, builder, target.find_version(builder)), missing, device, progress, builder)
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


def _build_missing(bundle: Bundle, roles: list[str], device: Device, progress: Progress, builder: str) -> Bundle:
    """The bundle with these networks' engines, side by side where processors and memory allow.

    Each is written down when it is there: a killed run keeps what it built.
    """
    target, total = load_target(bundle.target), len(bundle.components)
    assert isinstance(target, BuiltTarget)

    def build(role: str) -> list[Artifact]:
        graph = find_artifact(bundle, role, "graph")
        assert graph is not None
        built = target.build(locate(bundle, graph.path), device, builder, lambda message: None)
        files = [make_artifact(bundle.folder, path, role, kind, builder) for kind, path in built.items()]
        return [replace(each, device=device.name) for each in files]

    sizes = [_weigh(bundle, role) for role in roles]
    found, waiting = bundle, list(roles)
    with ThreadPoolExecutor(count_at_once(sizes, os.cpu_count() or 1, find_free_memory())) as threads:
        builds = {threads.submit(build, role): role for role in roles}
        progress(Step("building", f"{', '.join(waiting)} for {device.name}"), total - len(waiting), total)
        try:
            for done in as_completed(builds):
                waiting.remove(builds[done])
                found = _add_files(found, done.result())
                if waiting:
                    progress(Step("building", f"{', '.join(waiting)} for {device.name}"), total - len(waiting), total)
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    return found


def count_at_once(sizes: Sequence[int], processors: int, available: int | None) -> int:
    """How many engines are built side by side.

    Args:
        sizes: bytes of each network's weights.
        processors: of the machine; a builder keeps one busy and, where it copies weights, a second.
        available: bytes of memory; None: not known, so one.
    """
    if available is None:
        return 1
    largest = sorted(sizes, reverse=True)
    fitting = [n for n in range(2, len(sizes) + 1) if sum(size * HELD + BESIDE for size in largest[:n]) <= available]
    return max(1, min(processors // 2, max(fitting, default=1)))


def _weigh(bundle: Bundle, role: str) -> int:
    return sum(each.bytes for each in bundle.artifacts if each.role == role and each.kind in ("graph", "weights"))


def _add_files(bundle: Bundle, files: list[Artifact]) -> Bundle:
    """The bundle with these files, in its manifest too."""
    if not files:
        return bundle
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
