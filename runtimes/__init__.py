"""Stage 5, build and open: what a target needs beside its graphs, and a pipeline over whatever can run here.

One file is one target (TARGET, build, can_run, open_session), or a runtime that only runs what others build (RUNTIME,
can_run, open_session).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ != "sprint_export.runtimes":
    raise ImportError("import sprint_export.runtimes, not the bare folder 'runtimes'")

from sprint_export.devices import find_device
from sprint_export.errors import BundleError, MachineError, RefusedError, unknown_choice
from sprint_export.export.bundle import (
    add_artifacts,
    find_artifact,
    find_file,
    find_odd_entry,
    locate,
    locate_kind,
    make_artifact,
    read_bundle,
    write_bundle,
)
from sprint_export.nouns.bundle import Artifact, Bundle, Part
from sprint_export.nouns.student import ROLES
from sprint_export.nouns.target import Device, Target
from sprint_export.progress import Progress, Step, quiet
from sprint_export.prompt_reader import PromptReader
from sprint_export.registry import load_member
from sprint_export.session import Chain, OneAtATime, Pipeline
from sprint_export.sizes import find_sizes
from sprint_export.work_folder import claim_bundle

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from sprint_export.session import Session

__all__ = ["build_bundle", "open_bundle"]

DEFAULT_BUILDER = "tensorrt-rtx"
TOKENIZER = "tokenizer/tokenizer.json"
PACKAGES = (".mlpackage", ".aimodel")  # folders that a library reads as one file
WRITE_ADVICE = "engines are built into the bundle; copy it to where you can write"


def build_bundle(
    bundle: Bundle | str | Path, device: str | None = None, builder: str = DEFAULT_BUILDER, progress: Progress = quiet
) -> Bundle:
    """Build what the target needs for a device (TensorRT engines), beside the graphs.

    Args:
        bundle: a bundle or its folder.
        device: a name from `devices`; default: the one the bundle was made for.
        builder: "tensorrt-rtx" builds without a GPU; "tensorrt" builds on the GPU it is for.
        progress: is told (step, done, total).

    Returns:
        The bundle with its new files; engines that are there already and whole are not built again.

    Raises:
        RefusedError: the target refuses the device. MachineError: a library or the GPU is missing, or another run works on the
            bundle.
    """
    folder = bundle.folder if isinstance(bundle, Bundle) else Path(bundle)
    with claim_bundle(folder, WRITE_ADVICE):
        return _build_claimed(bundle if isinstance(bundle, Bundle) else read_bundle(folder), device, builder, progress)


def _build_claimed(bundle: Bundle, device: str | None, builder: str, progress: Progress) -> Bundle:
    member = load_member("target", bundle.target)
    chosen = find_device(device or bundle.device)
    if (reason := member.TARGET.refuses(bundle.precision, chosen)) is not None:
        raise RefusedError(reason)
    if not member.TARGET.needs_build:
        return bundle
    for i, record in enumerate(bundle.components):
        graph = find_artifact(bundle, record.role, "graph")
        assert graph is not None
        progress(Step("building", f"{record.role} for {chosen.name}"), i, len(bundle.components))
        present = find_artifact(bundle, record.role, f"engine:{chosen.name}")
        if present is not None and present.format == builder:
            continue
        made = _find_alike(bundle, record.role, chosen, builder)
        if not made:
            bundle = _note_builder(bundle, builder, member.find_version(builder))
            files = member.build(locate(bundle, graph.path), chosen, builder, lambda message: None)
            made = [
                make_artifact(bundle.folder, path, record.role, f"{kind}:{chosen.name}", builder)
                for path, kind in zip(files, ("engine", "kernels"), strict=True)
            ]
        bundle = add_artifacts(bundle, made)
        write_bundle(bundle)  # after each: a killed run keeps what it built
    progress(Step("building", f"for {chosen.name}"), len(bundle.components), len(bundle.components))
    return replace(bundle, device=chosen.name)


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


def open_bundle(
    folder: str | Path,
    runtime: str | None = None,
    verify: bool = True,
    one_at_a_time: bool = False,
    steps: int | None = None,
) -> Pipeline:
    """A text-to-image pipeline over a bundle's files, on a runtime that can run here.

    Args:
        folder: the bundle.
        runtime: one that runs the bundle's target, e.g. "trt" or "onnx"; default: the first that can run here, with the
            target's own before those that check it elsewhere. `pipe.description` says which was taken.
        verify: compare all files with their sha256 first.
        one_at_a_time: keep one component in memory and load the next when it is needed: for students larger than memory.
        steps: one of the step counts the bundle was made for; default: its first.

    Raises:
        InputError, BundleError: no bundle there, or its files do not fit its manifest.
        MachineError: the runtime that was asked for cannot run here, or a component is missing.
    """
    bundle = read_bundle(Path(folder), verify)
    bundle.plan.rows(steps)  # a step count it was not made for is said before anything is loaded
    return replace(open_pipeline(bundle, choose_runtime(bundle, runtime), one_at_a_time), steps=steps)


def choose_runtime(bundle: Bundle, runtime: str | None) -> str:
    """The runtime that was asked for, or the first of the target's that can run here.

    Raises:
        InputError: the target has no such runtime. MachineError: it, or none of them, can run here.
    """
    names = load_member("target", bundle.target).TARGET.runtimes
    if runtime is not None and runtime not in names:
        raise unknown_choice(f"runtime for a {bundle.target} bundle:", runtime, names)
    reasons = {name: _refuse(bundle, name) for name in ((runtime,) if runtime else names)}
    chosen = next((name for name, reason in reasons.items() if reason is None), None)
    if chosen is None:
        raise MachineError("; ".join(f"{name} cannot run here: {reason}" for name, reason in reasons.items()))
    return chosen


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
    return chain_sessions(bundle, lazy if one_at_a_time else {role: open_session(bundle, runtime, role) for role in ROLES})


def chain_sessions(bundle: Bundle, sessions: Mapping[str, Session]) -> Pipeline:
    """The text-to-image chain a bundle describes, over sessions of any kind."""
    reader = PromptReader(bundle.prompt, locate(bundle, TOKENIZER), BundleError)
    return Pipeline(sessions, reader, bundle.plan, bundle.latent_shape, sizes=find_sizes(bundle))


def open_session(bundle: Bundle, runtime: str, role: str) -> Session:
    """One component on one runtime: its engine, its graph, or the shadow of a graph that was made for another target.

    A component in several parts becomes one session that runs them in turn.

    Raises:
        BundleError: the bundle has no such file.
    """
    member = load_member("runtime", runtime)
    record = next(record for record in bundle.components if record.role == role)
    if len(record.parts) > 1:
        return Chain([_open_part(bundle, member, role, part) for part in record.parts])
    return _open_part(bundle, member, role, record.parts[0])


def _open_part(bundle: Bundle, member: ModuleType, role: str, part: Part) -> Session:
    engine = f"engine:{bundle.device}"
    if runs_engines(member):
        path = locate_kind(bundle, role, engine)
    else:
        path = locate_kind(bundle, role, "shadow") or locate(bundle, f"{role}/{part.graph}")
    if path is None:
        raise BundleError(f"{bundle.folder} has no {engine} for {role}; build it with: sprint-export build {bundle.folder}")
    _check_beside(bundle, path)
    session: Session = member.open_session(path, part.inputs, part.outputs)
    return session


def _check_beside(bundle: Bundle, graph: Path) -> None:
    """Refuse what a library would open by itself beside a graph and the manifest does not name: weights, links, devices."""
    role = graph.relative_to(bundle.folder).parts[0]
    odd = find_odd_entry(bundle.folder / role)
    if odd is not None:
        raise BundleError(
            f"{bundle.folder} holds {role + '/' + odd!r}, which is no regular file; copy the bundle with its files in it"
        )
    package = next((parent for parent in graph.parents if parent.suffix in PACKAGES), None)
    inside = [path for path in package.rglob("*") if path.is_file()] if package else []
    for path in (*inside, graph.with_name(graph.name + ".data"), graph.with_suffix(".bin")):
        name = path.relative_to(bundle.folder).as_posix()
        if path.exists() and find_file(bundle, name) is None:
            raise BundleError(f"{path} lies beside {graph.name} and the manifest does not name it; do not use this bundle")


def runs_engines(member: ModuleType) -> bool:
    """Whether a runtime opens what `build` made and not the graph itself."""
    target = getattr(member, "TARGET", None)
    return target is not None and target.needs_build


def _refuse(bundle: Bundle, runtime: str) -> str | None:
    member = load_member("runtime", runtime)
    if runs_engines(member) and find_artifact(bundle, bundle.components[0].role, f"engine:{bundle.device}") is None:
        return f"the bundle has no engine; build it with: sprint-export build {bundle.folder}"
    reason: str | None = member.can_run()
    return reason or _refuse_version(bundle, member)


def _refuse_version(bundle: Bundle, member: ModuleType) -> str | None:
    """Why the version that is installed cannot open the bundle, said before the library's own message; None where it can."""
    if not hasattr(member, "refuse_version"):
        return None
    names = dict(bundle.runtimes)
    if runs_engines(member):
        engine = find_artifact(bundle, bundle.components[0].role, f"engine:{bundle.device}")
        names = {name: version for name, version in names.items() if engine is not None and name == engine.format}
    reason: str | None = member.refuse_version(names)
    return reason
