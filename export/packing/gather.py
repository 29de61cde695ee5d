"""A bundle's shipping files into a work folder, and a manifest that says what is there.

    graphs, weights, engines   as the destination's loader takes them (packer.py)
    tokenizer/tokenizer.json   without the spaces between its values
    reference/                 what a known prompt and seed give
    LICENCES.txt, app.json, bundle.json
The manifest is the bundle's without what only validation reads: layers, decisions, recipe, notes. So a packed folder opens, runs
and can be replaced as a bundle can, and says by itself that it is one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from sprint_export.app_contract import list_running
from sprint_export.bundle_files import APP, LICENCES, MANIFEST, TOKENIZER
from sprint_export.errors import BundleError, RefusedError
from sprint_export.export.app_checks import AppError, read_app, read_beyond
from sprint_export.export.bundle import find_file, hash_file, locate, make_artifact, write_app, write_bundle
from sprint_export.export.packing.licences import describe_licences
from sprint_export.export.packing.packer import SHIPPED, Layout, load_packer
from sprint_export.export.packing.tokenizer_file import shorten_json
from sprint_export.export.publishing import Finished, open_work_folder, read_component, write_component
from sprint_export.files import write_bytes, write_text
from sprint_export.json_forms import to_json
from sprint_export.nouns.bundle import Artifact, Bundle, ComponentRecord, Part
from sprint_export.nouns.chain import Chain, Stage
from sprint_export.nouns.student import StepPlan
from sprint_export.progress import Progress, Step
from sprint_export.registry import load_target

ONE_GRAPH = "one_graph"  # the role of all networks together
GRAPH = "model.onnx"


@dataclass(frozen=True)
class Packing:
    """What a packed folder is made of: a bundle, how its files are wanted, and whether its networks become one graph."""

    bundle: Bundle
    layout: Layout
    is_one_graph: bool = False

    @property
    def key(self) -> str:
        """A hash of all that decides its bytes."""
        parts = [hash_file(self.bundle.folder / MANIFEST), to_json(self.layout), self.is_one_graph]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def check_packing(packing: Packing) -> None:
    """Refuse what cannot be packed, before anything is written.

    Raises:
        RefusedError: the target does not go there, the folder is packed already, or one graph cannot hold what the chain does.
        BundleError: a network of the chain is missing.
    """
    bundle, destination = packing.bundle, packing.layout.destination
    if bundle.is_packed:
        raise RefusedError(f"{bundle.folder} is packed already; give the bundle that it was packed from")
    ships_to = load_target(bundle.target).ships_to
    if destination.name not in ships_to:
        raise RefusedError(
            f"{bundle.target} bundles cannot be packed for {destination.name} ({destination.title}); choose from: "
            f"{', '.join(ships_to) or '(none)'}"
        )
    if (reason := load_target(bundle.target).refuse_app(bundle.options)) is not None:
        raise RefusedError(f"{bundle.folder} does not ship with an app: {reason} when the student is exported")
    if missing := bundle.chain.list_missing([record.role for record in bundle.components]):
        raise BundleError(f"{bundle.folder} has no {', '.join(missing)}: it was exported with --component, and draws no pictures")
    if packing.is_one_graph:
        _check_one_graph(bundle)


def _check_one_graph(bundle: Bundle) -> None:
    if load_target(bundle.target).needs_build:
        raise RefusedError(
            f"engines of {bundle.target} bundles are built network by network, and its graphs cannot be checked as one; pack it "
            "without --one-graph"
        )
    counts = bundle.plan.counts or (len(bundle.plan.times),)
    if 1 not in counts:
        raise RefusedError(
            f"one graph takes one step, and this bundle draws in {' or '.join(map(str, counts))}; pack it without --one-graph, "
            "or export the student with --steps 1"
        )
    running = {record.role for record in list_running(bundle)}
    if optional := [stage.role for stage in bundle.chain.stages if stage.optional and stage.role in running]:
        raise RefusedError(
            f"one graph runs every network, and {', '.join(optional)} of this bundle runs only where it is given a picture; pack "
            "it without --one-graph"
        )


def gather_packed(packing: Packing, work: Path, progress: Progress) -> Bundle:
    """Write all that ships into a work folder; networks that a killed run finished are taken over where they are whole.

    Returns:
        The packed bundle in the work folder, its manifest and `app.json` written.

    Raises:
        BundleError: a file of the bundle is damaged. RefusedError: it cannot be packed so. OSError: the disk is full.
    """
    bundle = packing.bundle
    folder = open_work_folder(work, packing.key)
    networks = _pack_networks(packing, folder, progress)
    artifacts = [each for finished in networks for each in _list_artifacts(bundle, finished)]
    packed = replace(
        bundle,
        folder=folder,
        components=tuple(finished.record for finished in networks),
        artifacts=(*artifacts, *_write_texts(packing, folder)),
        recipe=None,
        key=packing.key,
    )
    if packing.is_one_graph:
        plan = StepPlan((1.0,), bundle.plan.guidance, bundle.plan.dtype, starts_from_noise=True)
        packed = replace(packed, chain=_one_stage(bundle), plan=plan)
    write_bundle(packed)
    return write_app(packed, _read_examples(bundle))


def _read_examples(bundle: Bundle) -> tuple[str, ...]:
    """Prompts that the student draws well, by the bundle's `app.json`, where it has one."""
    try:
        return read_beyond(read_app(bundle.folder)).examples if find_file(bundle, APP) is not None else ()
    except AppError as error:
        raise BundleError(f"{bundle.folder / APP} is damaged ({error}); copy or export it again") from error


def _pack_networks(packing: Packing, folder: Path, progress: Progress) -> list[Finished]:
    bundle, packer = packing.bundle, load_packer(load_target(packing.bundle.target))
    if packing.is_one_graph:
        progress(Step("packing"), 0, 1)
        stages = [stage for group in bundle.chain.group([record.role for record in bundle.components]) for stage in group]
        return [_finish(folder, _describe_one(bundle), partial(packer.join_networks, bundle, stages, packing.layout))]
    records, found = list_running(bundle), []
    for i, record in enumerate(records):
        progress(Step("packing", record.role), i, len(records))
        slim = replace(record, layers={}, decisions=(), notes=(), rewrites={})
        found.append(_finish(folder, slim, partial(packer.pack_network, bundle, record, packing.layout)))
    progress(Step("packing"), len(records), len(records))
    return found


def _finish(folder: Path, record: ComponentRecord, write: Callable[[Path], None]) -> Finished:
    """A network's folder, written now or found whole."""

    def make(making: Path) -> ComponentRecord:
        write(making)
        return record

    with suppress(BundleError):  # damaged since a killed run wrote it: it is written again
        if (found := read_component(folder / record.role)) is not None:
            return found
    return write_component(folder / record.role, make)


def _describe_one(bundle: Bundle) -> ComponentRecord:
    """All networks as one: it reads ids, mask and noise, as far as a network does, and gives the picture."""
    running, names = list_running(bundle), bundle.chain.names
    read = {spec.name: spec for record in reversed(running) for spec in record.inputs}
    inputs = tuple(read[name] for name in (names.ids, names.mask, names.state) if name in read)
    outputs = tuple(spec for record in running for spec in record.outputs if spec.name == names.picture)
    counts: Counter[str] = Counter()
    for record in running:
        counts.update(record.precision_counts)
    return ComponentRecord(ONE_GRAPH, inputs, outputs, (Part(GRAPH, inputs, outputs),), dict(sorted(counts.items())), {})


def _one_stage(bundle: Bundle) -> Chain:
    """One stage that holds the sampler's step."""
    names = replace(bundle.chain.names, denoised="", source="", encoded="", scale="")
    return Chain((Stage(ONE_GRAPH),), names)


def _list_artifacts(bundle: Bundle, finished: Finished) -> Iterator[Artifact]:
    """A packed network's files; those that the bundle has too are what they are there, for the same devices."""
    role = finished.record.role
    own = next(artifact.format for artifact in bundle.artifacts if artifact.kind == "graph")
    for path, (size, sha256) in finished.files.items():
        name = f"{role}/{path}"
        before = [each for each in bundle.artifacts if each.path == name and each.kind in SHIPPED]
        kind = "graph" if path == GRAPH else "weights"
        for each in before or [Artifact(role, kind, name, own, 0, "")]:
            yield replace(each, bytes=size, sha256=sha256)


def _write_texts(packing: Packing, folder: Path) -> list[Artifact]:
    """The tokenizer, the licences and, where the networks are the bundle's, its reference."""
    bundle = packing.bundle
    write_bytes(folder / TOKENIZER, shorten_json(locate(bundle, TOKENIZER).read_bytes()))
    write_text(folder / LICENCES, describe_licences(bundle))
    made = [
        make_artifact(folder, folder / TOKENIZER, "tokenizer", "tokenizer", "json"),
        make_artifact(folder, folder / LICENCES, "licence", "licence", "txt"),
    ]
    if packing.is_one_graph:  # whose stages are others
        return made
    for artifact in bundle.artifacts:
        if artifact.kind == "reference":
            (folder / artifact.path).parent.mkdir(exist_ok=True)
            shutil.copyfile(locate(bundle, artifact.path), folder / artifact.path)
            made.append(artifact)
    return made
