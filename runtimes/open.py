"""Open a bundle: a pipeline over its files, on a runtime that can run here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sprint_export.batches import find_batch, widen_specs
from sprint_export.bundle_files import TOKENIZER
from sprint_export.errors import BundleError, MachineError, RefusedError, unknown_choice
from sprint_export.executor import make_executor
from sprint_export.export.bundle import find_artifact, find_file, find_odd_entry, locate, locate_kind, read_bundle
from sprint_export.nouns.bundle import Bundle, Part
from sprint_export.prompt_reader import PromptReader
from sprint_export.registry import load_target
from sprint_export.runtimes.batched import Batched
from sprint_export.runtimes.hub import find_bundle
from sprint_export.runtimes.inner_values import JoinedGraph
from sprint_export.runtimes.runtime import Runtime, load_runtime
from sprint_export.session import JoinedSession, OneAtATime, Pipeline
from sprint_export.sizes import find_sizes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sprint_export.nouns.target import Target
    from sprint_export.runtimes.inner_values import InnerGraph
    from sprint_export.runtimes.stored_tensors import StoredTensor
    from sprint_export.session import Session

GRAPH, SHADOW = "graph", "shadow"  # kinds of artifacts


def open_bundle(
    folder: str | Path,
    runtime: str | None = None,
    verify: bool = True,
    one_at_a_time: bool = False,
    steps: int | None = None,
    provider: str | None = None,
    threads: int | None = None,
) -> Pipeline:
    """A text-to-image pipeline over a bundle's files, on a runtime that can run here.

    Args:
        folder: the bundle, or its hub id `owner/name[@revision]`.
        runtime: one that runs the bundle's target, e.g. "trt" or "onnx"; default: the first that can run here, with the
            target's own before those that check it elsewhere. `pipe.description` says which was taken.
        verify: compare all files with their sha256 first.
        one_at_a_time: keep one component in memory and load the next when it is needed: for students larger than memory.
        steps: one of the step counts the bundle was made for; default: its first.
        provider: what the runtime's library runs the graphs on, e.g. "cuda", "webgpu" or "openvino" (docs/providers.md); default:
            its CPU. Nodes that it leaves to the CPU are counted in the first run, and `pipe.description` says how many.
        threads: of the CPU that each network may take; default: as many as the runtime's library chooses.

    Raises:
        InputError, BundleError: no bundle there, or its files do not fit its manifest.
        RefusedError: the bundle's graphs are in no form for the provider, or the runtime cannot be told a number of threads.
        MachineError: the runtime that was asked for cannot run here, or a component is missing.
    """
    bundle = read_bundle(find_bundle(folder), verify)
    bundle.plan.rows(steps)  # a step count it was not made for is said before anything is loaded
    chosen = choose_runtime(bundle, runtime, provider).limit_threads(threads)
    return replace(open_pipeline(bundle, chosen, one_at_a_time), steps=steps)


def choose_runtime(bundle: Bundle, runtime: str | None, provider: str | None = None) -> Runtime:
    """The runtime that was asked for, or the first of the target's that can run here; on the provider that was asked for.

    Raises:
        InputError: the target has no such runtime or provider. RefusedError: the target's graphs are in no form for the provider.
        MachineError: the runtime, or none of them, can run here.
    """
    target = load_target(bundle.target)
    if runtime is not None and runtime not in target.runtimes:
        raise unknown_choice(f"runtime for {bundle.target} bundles:", runtime, target.runtimes)
    runtimes = list_runtimes(target, bundle.precision, provider, runtime)
    reasons = {each: _refuse(bundle, each) for each in runtimes}
    chosen = next((each for each, reason in reasons.items() if reason is None), None)
    if chosen is None:
        raise MachineError("; ".join(f"{each.title} cannot run here: {reason}" for each, reason in reasons.items()))
    return chosen


def list_runtimes(target: Target, precision: str, provider: str | None = None, runtime: str | None = None) -> list[Runtime]:
    """The runtimes of a target, or the one that was asked for; with a provider those that have it, on it.

    Raises:
        InputError: none of them has such a provider. RefusedError: the precision's graphs are in no form for it.
    """
    runtimes = [load_runtime(name) for name in ((runtime,) if runtime else target.runtimes)]
    if provider is None:
        return runtimes
    choices = {name for each in runtimes for name in each.list_providers()}
    if not choices:
        runtimes[0].on(provider)
    if provider not in choices:
        raise unknown_choice(f"provider for {target.name} bundles:", provider, choices)
    reason = target.refuse_provider(precision, provider)
    if reason is not None:
        raise RefusedError(reason)
    return [each.on(provider) for each in runtimes if provider in each.list_providers()]


def open_pipeline(bundle: Bundle, runtime: Runtime, one_at_a_time: bool = False) -> Pipeline:
    """A bundle's sessions on one runtime, chained.

    Raises:
        BundleError: the bundle lacks a component of the chain.
    """
    roles = [record.role for record in bundle.components]
    if missing := bundle.chain.list_missing(roles):
        raise BundleError(
            f"{bundle.folder} has no {', '.join(missing)}: it was exported with --component and cannot draw pictures"
        )
    groups = bundle.chain.group(roles)
    lazy = OneAtATime(groups, lambda role: open_session(bundle, runtime, role))
    return chain_sessions(bundle, lazy if one_at_a_time else {role: open_session(bundle, runtime, role) for role in lazy})


def chain_sessions(bundle: Bundle, sessions: Mapping[str, Session]) -> Pipeline:
    """The text-to-image chain a bundle describes, over sessions of any kind."""
    reader = PromptReader(bundle.prompt, locate(bundle, TOKENIZER), BundleError)
    executor = make_executor(bundle, sessions, is_checked=True)
    batch = find_batch(bundle)
    return Pipeline(executor, reader, bundle.latent_shape, sizes=find_sizes(bundle), batch=batch)


def open_session(bundle: Bundle, runtime: Runtime, role: str) -> Session:
    """One component on one runtime: its engine, its graph, or the shadow of a graph that was made for another target.

    A component in several parts becomes one session that runs them in turn.

    Raises:
        BundleError: the bundle has no such file.
    """
    record = next(record for record in bundle.components if record.role == role)
    batch, step = find_batch(bundle), bundle.chain.names.step
    if batch > 1:
        [part] = record.parts
        inputs, outputs = (widen_specs(specs, batch, step) for specs in (part.inputs, part.outputs))
        wide = replace(part, inputs=inputs, outputs=outputs)
        return Batched(_open_part(bundle, runtime, role, wide), batch, step)
    if len(record.parts) > 1:
        return JoinedSession([_open_part(bundle, runtime, role, part) for part in record.parts])
    return _open_part(bundle, runtime, role, record.parts[0])


def open_inner(bundle: Bundle, runtime: Runtime, role: str) -> InnerGraph:
    """One component on one runtime, its inner values to be read; as `open_session` opens it.

    Raises:
        RefusedError: the runtime shows none, or the component takes several prompts at once. Else as `open_session`.
    """
    record = next(record for record in bundle.components if record.role == role)
    if find_batch(bundle) > 1:
        raise RefusedError("values inside networks that take several prompts at once are not read")
    parts = [runtime.open_inner(_find_graph(bundle, runtime, role, part), part.inputs, part.outputs) for part in record.parts]
    return parts[0] if len(parts) == 1 else JoinedGraph(parts)


def list_stored(bundle: Bundle, role: str) -> dict[str, list[StoredTensor]]:
    """The tensors of a component's files by the kind of graph: what ships, and the shadow that is run in its place here.

    Raises:
        RefusedError: no runtime of the target reads them.
        BundleError: a file is damaged, or one lies beside it that is not named.
    """
    record = next(record for record in bundle.components if record.role == role)
    graphs = {GRAPH: [locate(bundle, f"{role}/{part.graph}") for part in record.parts]}
    shadow = locate_kind(bundle, role, SHADOW)
    if shadow is not None:
        graphs[SHADOW] = [shadow]
    reasons = []
    for runtime in map(load_runtime, load_target(bundle.target).runtimes):
        try:
            return {
                kind: [each for path in paths for each in _list_file(bundle, runtime, path)] for kind, paths in graphs.items()
            }
        except RefusedError as error:
            reasons.append(str(error))
    raise RefusedError("; ".join(reasons))


def _list_file(bundle: Bundle, runtime: Runtime, graph: Path) -> Iterable[StoredTensor]:
    _check_beside(bundle, graph, runtime.package)
    return runtime.list_tensors(graph)


def _open_part(bundle: Bundle, runtime: Runtime, role: str, part: Part) -> Session:
    return runtime.open_session(_find_graph(bundle, runtime, role, part), part.inputs, part.outputs)


def _find_graph(bundle: Bundle, runtime: Runtime, role: str, part: Part) -> Path:
    """The file that a runtime opens of a part: its engine, its graph or a shadow."""
    if runtime.opens_engines:
        path = locate_kind(bundle, role, "engine", bundle.device)
    else:
        shadow = locate_kind(bundle, role, "shadow") if runtime.opens_shadows else None
        path = shadow or locate(bundle, f"{role}/{part.graph}")
    if path is None:
        raise BundleError(
            f"{bundle.folder} has no engine of {role} for {bundle.device}; build it with: sprint-export build {bundle.folder}"
        )
    _check_beside(bundle, path, runtime.package)
    return path


def _check_beside(bundle: Bundle, graph: Path, suffix: str | None) -> None:
    """Refuse what a library would open by itself beside a graph and the manifest does not name: weights, links, devices."""
    role = graph.relative_to(bundle.folder).parts[0]
    odd = find_odd_entry(bundle.folder / role)
    if odd is not None:
        raise BundleError(
            f"{bundle.folder} holds {role + '/' + odd!r}, which is no regular file; copy the bundle with its files in it"
        )
    package = next((parent for parent in graph.parents if parent.suffix == suffix), None)
    inside = [path for path in package.rglob("*") if path.is_file()] if package else []
    weights = sorted(graph.parent.glob(f"{graph.stem}*.data"))
    for path in (*inside, *weights, graph.with_suffix(".bin")):
        name = path.relative_to(bundle.folder).as_posix()
        if path.exists() and find_file(bundle, name) is None:
            raise BundleError(f"{path} lies beside {graph.name} and the manifest does not name it; do not use this bundle")


def _refuse(bundle: Bundle, runtime: Runtime) -> str | None:
    """Why a runtime cannot open the bundle here, or None; an engine opens in the one version of its builder."""
    versions = bundle.runtimes
    if runtime.opens_engines:
        engine = find_artifact(bundle, bundle.components[0].role, "engine", bundle.device)
        if engine is None:
            return f"the bundle has no engine; build it with: sprint-export build {bundle.folder}"
        versions = {builder: version for builder, version in versions.items() if builder == engine.format}
    return runtime.can_run() or runtime.refuse_device(bundle.device) or runtime.refuse_version(versions)
