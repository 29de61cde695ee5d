"""Stage 5, build and open: what a target needs beside its graphs, and a pipeline over whatever can run here.

One file is one target: TARGET, build, can_run, open_session.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ != "sprint_export.runtimes":
    raise ImportError("import sprint_export.runtimes, not the bare folder 'runtimes'")

from sprint_export.devices import find_device
from sprint_export.errors import BundleError, MachineError, RefusedError, unknown_choice
from sprint_export.export.bundle import add_artifacts, find_artifact, make_artifact, read_bundle, write_bundle
from sprint_export.progress import Progress, quiet
from sprint_export.registry import load_member
from sprint_export.schema import ROLES, Artifact, Bundle, Device, Target
from sprint_export.session import OneAtATime, Pipeline, PromptReader

if TYPE_CHECKING:
    from sprint_export.session import Session

__all__ = ["build_bundle", "open_bundle"]

DEFAULT_BUILDER = "tensorrt-rtx"


def build_bundle(
    bundle: Bundle | str | Path, device: str | None = None, builder: str = DEFAULT_BUILDER, progress: Progress = quiet
) -> Bundle:
    """Build what the target needs for a device (TensorRT engines), beside the graphs.

    Args:
        bundle: a bundle or its folder.
        device: a name from `devices`; default: the one the bundle was made for.
        builder: "tensorrt-rtx" builds without a GPU; "tensorrt" builds on the GPU it is for.
        progress: is told (stage, done, total).

    Returns:
        The bundle with its new files; engines that are there already and whole are not built again.

    Raises:
        RefusedError: the target refuses the device. MachineError: a library or the GPU is missing.
    """
    bundle = bundle if isinstance(bundle, Bundle) else read_bundle(Path(bundle))
    member = load_member("target", bundle.target)
    chosen = find_device(device or bundle.device)
    if (reason := member.TARGET.refuses(bundle.precision, chosen)) is not None:
        raise RefusedError(reason)
    if not member.TARGET.needs_build:
        return bundle
    for i, record in enumerate(bundle.components):
        graph = find_artifact(bundle, record.role, "graph")
        assert graph is not None
        progress(f"building {record.role} for {chosen.name}", i, len(bundle.components))
        present = find_artifact(bundle, record.role, f"engine:{chosen.name}")
        if present is not None and present.format == builder:
            continue
        made = _find_alike(bundle, record.role, chosen, builder)
        if not made:
            files = member.build(bundle.folder / graph.path, chosen, builder, lambda message: None)
            made = [
                make_artifact(bundle.folder, path, record.role, f"{kind}:{chosen.name}", builder)
                for path, kind in zip(files, ("engine", "kernels"), strict=True)
            ]
        bundle = add_artifacts(bundle, made)
        write_bundle(bundle)  # after each: a killed run keeps what it built
    progress(f"building for {chosen.name}", len(bundle.components), len(bundle.components))
    return replace(bundle, device=chosen.name)


def _find_alike(bundle: Bundle, role: str, device: Device, builder: str) -> list[Artifact]:
    """Files the builder made for another device of the same compute capability, under this device's name: they are the same."""
    alike = {}
    for artifact in bundle.artifacts:
        kind, _, name = artifact.kind.partition(":")
        is_built = artifact.role == role and artifact.format == builder and name != ""
        if is_built and find_device(name).compute_capability == device.compute_capability:
            alike[artifact.path] = replace(artifact, kind=f"{kind}:{device.name}")
    return list(alike.values())


def check_builder(target: Target, device: Device, builder: str) -> None:
    """Refuse a builder that cannot build for the device here, before there is anything to build.

    Raises:
        InputError: no such builder. MachineError: it needs a GPU that is not here.
    """
    if target.needs_build:
        load_member("target", target.name).check_builder(device, builder)


def open_bundle(folder: str | Path, runtime: str | None = None, verify: bool = True, one_at_a_time: bool = False) -> Pipeline:
    """A text-to-image pipeline over a bundle's files, on a runtime that can run here.

    Args:
        folder: the bundle.
        runtime: a target's name, "trt" or "onnx"; default: the bundle's own where this machine can run it, else "onnx" on the
            CPU. `pipe.description` says which was taken.
        verify: compare all files with their sha256 first.
        one_at_a_time: keep one component in memory and load the next when it is needed: for students larger than memory.

    Raises:
        InputError, BundleError: no bundle there, or its files do not fit its manifest.
        MachineError: the runtime that was asked for cannot run here, or a component is missing.
    """
    bundle = read_bundle(Path(folder), verify)
    names = tuple(dict.fromkeys((bundle.target, "onnx")))
    if runtime is not None and runtime not in names:
        raise unknown_choice(f"runtime for a {bundle.target} bundle:", runtime, names)
    chosen = runtime or next(name for name in names if _refuse(bundle, name) is None)
    if (reason := _refuse(bundle, chosen)) is not None:
        raise MachineError(f"{chosen} cannot run here: {reason}")
    return open_pipeline(bundle, chosen, one_at_a_time)


def open_pipeline(bundle: Bundle, runtime: str, one_at_a_time: bool = False) -> Pipeline:
    """A bundle's sessions on one runtime, chained.

    Raises:
        BundleError: the bundle lacks a component of the chain.
    """
    missing = [role for role in ROLES if role not in {record.role for record in bundle.components}]
    if missing:
        raise BundleError(
            f"{bundle.folder} has no {', '.join(missing)}: it was exported with --component and cannot draw pictures"
        )
    lazy = OneAtATime(ROLES, lambda role: open_session(bundle, runtime, role))
    reader = PromptReader(bundle.prompt, bundle.folder / "tokenizer" / "tokenizer.json")
    return Pipeline(
        lazy if one_at_a_time else {role: open_session(bundle, runtime, role) for role in ROLES},
        reader,
        bundle.plan,
        bundle.latent_shape,
    )


def open_session(bundle: Bundle, runtime: str, role: str) -> Session:
    """One component: its engine on `trt`; on `onnx` its graph, or the shadow of a graph that was made for another target.

    Raises:
        BundleError: the bundle has no such file.
    """
    member = load_member("target", runtime)
    record = next(record for record in bundle.components if record.role == role)
    kinds = (f"engine:{bundle.device}",) if member.TARGET.needs_build else ("shadow", "graph")
    files = [a for kind in kinds if (a := find_artifact(bundle, role, kind)) is not None]
    if not files:
        raise BundleError(f"{bundle.folder} has no {kinds[0]} for {role}; build it with: sprint-export build {bundle.folder}")
    session: Session = member.open_session(bundle.folder / files[0].path, record.inputs, record.outputs)
    return session


def _refuse(bundle: Bundle, runtime: str) -> str | None:
    member = load_member("target", runtime)
    if member.TARGET.needs_build and find_artifact(bundle, bundle.components[0].role, f"engine:{bundle.device}") is None:
        return f"the bundle has no engine; build it with: sprint-export build {bundle.folder}"
    reason: str | None = member.can_run()
    return reason
