"""export_student: every component to a graph, in a work folder that an interrupted run goes on in."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path, PurePosixPath

from sprint_export.batches import widen_specs
from sprint_export.errors import BundleError, InputError, RefusedError, SprintExportError
from sprint_export.export.bundle import find_artifact, make_artifact, read_bundle, write_app, write_bundle
from sprint_export.export.exporter import Exporter, load_exporter
from sprint_export.export.narrow import note_vanished
from sprint_export.export.publishing import Finished, open_work_folder, read_component, write_component
from sprint_export.export.reading import check_room, count_read, tell_reading
from sprint_export.files import remove, write_text
from sprint_export.json_forms import to_json
from sprint_export.nouns.bundle import Artifact, Bundle, ComponentRecord
from sprint_export.nouns.order import Deployment
from sprint_export.nouns.student import Component, Student
from sprint_export.nouns.target import BATCH, DYNAMIC, Target
from sprint_export.options import complete_options
from sprint_export.progress import Progress, Say, Step, quiet, say_nothing
from sprint_export.quantize.mend.edits import EDITS_FILE, write_edits
from sprint_export.quantize.tensor_files import hash_tensors
from sprint_export.students.family import load_family
from sprint_export.thread_count import fixed_threads
from sprint_export.work_folder import claim_bundle

CONFIG = "config.json"  # of each network, as diffusers has it
KINDS = {EDITS_FILE: "edits", CONFIG: "config"}  # what every exporter's component has beside its own files
EXAMPLES, EXAMPLE_LETTERS = 8, 200  # prompts that app.json gives, and how long one may be
TOOLS = ("sprint-export", "torch", "diffusers", "transformers")
TOKENIZER_FILES = (".json", ".model", ".txt", ".jinja")  # a folder may hold code too: it stays behind


def bundle_key(student: Student, deployment: Deployment) -> str:
    """A hash of all that decides a bundle's bytes: two runs with one key make the same files, but for examples in app.json."""
    layers = {role: {name: asdict(layer) for name, layer in c.layers.items()} for role, c in student.components.items()}
    parts = [
        student.fingerprint,
        to_json(student.chain),
        to_json(student.plan),
        to_json(student.prompt),
        to_json(student.recipe),
        layers,
        deployment.target.name,
        deployment.precision,
        deployment.device.name,
        _list_options(deployment),
        to_json(deployment.hashed),
        student.layout,
        tool_versions(deployment.target),
        sorted(student.components),
        {role: hash_tensors(component.edits) for role, component in student.components.items()},
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _list_options(deployment: Deployment) -> dict[str, object]:
    """Those that shape the graphs, by name; a batch where it is more than one."""
    asked = deployment.options
    names = [option.name for option in deployment.target.options if not option.is_for_building]
    return {name: asked.get(name) for name in names if name != BATCH or name in asked}


def tool_versions(target: Target) -> dict[str, str]:
    """Installed versions of what shapes the target's files."""
    found = {}
    for name in (*TOOLS, *load_exporter(target).tools):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


@fixed_threads()
def export_student(
    student: Student,
    deployment: Deployment,
    out: Path,
    progress: Progress = quiet,
    say: Say = say_nothing,
) -> Bundle:
    """Write graphs, tokenizer, configs and manifest into the work folder beside `out`; a later stage publishes it.

    Args:
        student: specialized, and quantized where the precision asks for it.
        deployment: what for: a target, one of its precisions, a device, and options, of which those left open are the
            target's or the device's choice.
        out: the final folder; nothing is written there yet.
        progress: is told (step, done, total), in bytes of weights that were read.
        say: is told which components of an interrupted run are made again, and why.

    Returns:
        The bundle in the work folder. Components that an interrupted run finished are taken over where they are whole.

    Raises:
        InputError: the student is not specialized, or not quantized for this pair. RefusedError: the target refuses the pair.
        MachineError: another run works on `out`, or the disk is full.
    """
    if student.plan is None:
        raise InputError("the student is not specialized; call specialize_student(student) before export_student")
    target, precision, device = deployment.target, deployment.precision, deployment.device
    if (reason := target.refuses(precision, device)) is not None:
        raise RefusedError(reason)
    deployment = replace(deployment, options=complete_options(target, precision, device, deployment.options))
    _check_quantized(student, deployment)
    with claim_bundle(out) as work:
        return _gather_bundle(student, deployment, work, progress, say)


def _gather_bundle(student: Student, deployment: Deployment, work: Path, progress: Progress, say: Say) -> Bundle:
    assert student.plan is not None
    target, options = deployment.target, deployment.options
    exporter, key = load_exporter(target).suit(student, options), bundle_key(student, deployment)
    work = open_work_folder(work, key)
    records, artifacts = _write_networks(student, deployment, exporter, work, progress, say)
    beside = [make_artifact(work, path, "pipeline", "config", path.suffix[1:]) for path in exporter.write_beside(work)]
    artifacts += [*_copy_tokenizer(student, work), *beside, *_find_built(work)]
    bundle = Bundle(
        folder=work,
        family=student.family,
        source=student.source,
        revision=student.revision,
        licence=student.licence,
        target=target.name,
        precision=deployment.precision,
        device=deployment.device.name,
        options=options,
        layout=student.layout,
        chain=student.chain,
        plan=student.plan,
        prompt=student.prompt,
        latent_shape=student.latent_shape,
        components=tuple(records),
        artifacts=tuple(artifacts),
        recipe=student.recipe,
        fingerprint=student.fingerprint,
        key=key,
        tools=tool_versions(target),
        runtimes=target.oldest(options),
    )
    assert all(find_artifact(bundle, record.role, "graph") for record in records)
    write_bundle(bundle)
    return write_app(bundle, [text for text in student.validation_prompts if len(text) <= EXAMPLE_LETTERS][:EXAMPLES])


def _write_networks(
    student: Student, deployment: Deployment, exporter: Exporter, work: Path, progress: Progress, say: Say
) -> tuple[list[ComponentRecord], list[Artifact]]:
    """Each network in a folder of its own in `work`; what an interrupted run finished there is taken over."""
    options, components = deployment.options, student.components
    if options.get(DYNAMIC):
        components = load_family(student.family).free_sizes(student).components
    batch, step = int(options.get(BATCH, 1)), student.chain.names.step
    found = {role: _find_finished(work / role, say) for role in components}
    check_room(work, {role: components[role] for role in components if found[role] is None}, deployment)
    records, artifacts, done, total = list[ComponentRecord](), list[Artifact](), 0, sum(map(count_read, components.values()))
    for role, component in components.items():
        tell = partial(_tell, progress, Step("exporting", role), done, total)
        tell(0)
        read = tell_reading(widen_component(component, batch, step), tell)
        finished = found[role] or _export_component(read, deployment, exporter, work / role, student.configs.get(role, {}))
        records.append(_narrow(finished.record, component) if batch > 1 else finished.record)
        artifacts += _describe_files(finished.files, role, exporter)
        done += count_read(component)
    progress(Step("exporting"), total, total)
    return records, artifacts


def widen_component(component: Component, batch: int, step: str) -> Component:
    """The component with specs of so many prompts."""
    if batch == 1:
        return component
    inputs, outputs = (widen_specs(specs, batch, step) for specs in (component.inputs, component.outputs))
    return replace(component, inputs=inputs, outputs=outputs)


def _narrow(record: ComponentRecord, component: Component) -> ComponentRecord:
    """What a bundle says of a network: the specs of one prompt, whatever its graph takes."""
    [part] = record.parts
    part = replace(part, inputs=component.inputs, outputs=component.outputs)
    return replace(record, inputs=component.inputs, outputs=component.outputs, parts=(part,))


def _tell(progress: Progress, step: Step, before: int, total: int, read: int) -> None:
    """Progress in bytes of weights; the stage's end is told once, behind all networks."""
    progress(step, max(0, min(before + read, total - 1)), total)


def _describe_files(files: Mapping[str, tuple[int, str]], role: str, exporter: Exporter) -> list[Artifact]:
    """A component's files as artifacts; each was hashed when it was written or, in a run taken up again, compared."""
    found = []
    for path, (size, sha256) in files.items():
        kind = KINDS.get(path) or exporter.kind_of(PurePosixPath(path))
        if kind is not None:
            format = exporter.format if path not in KINDS else path.rpartition(".")[2]
            found.append(Artifact(role, kind, f"{role}/{path}", format, size, sha256))
    return found


def _check_quantized(student: Student, deployment: Deployment) -> None:
    """Refuse a float student under a quantized name, and scales rounded for a graph of another type."""
    target, precision = deployment.target, deployment.precision
    if target.offers[precision].is_quantized and student.recipe is None:
        raise InputError(
            f"the student is not quantized; call quantize_student(student, {precision!r}, target) before export_student"
        )
    dtype = target.scale_dtype or target.graph_dtype[precision]
    found = {layer.scale_dtype for component in student.components.values() for layer in component.layers.values()} - {dtype}
    if found:
        raise InputError(
            f"the student is quantized with {found.pop()} scales, {deployment.name} takes {dtype}; quantize it for this target"
        )


def _find_finished(folder: Path, say: Say) -> Finished | None:
    """The component that an interrupted run finished, if it is whole."""
    try:
        return read_component(folder)
    except BundleError as error:
        say(f"{error}; {folder.name} is made again")
        return None


def _export_component(component: Component, deployment: Deployment, exporter: Exporter, folder: Path, config: object) -> Finished:
    target, precision, options = deployment.target, deployment.precision, deployment.options

    def write(making: Path) -> ComponentRecord:
        with note_vanished() as vanished:
            record = exporter.write_component(component, target, precision, options, making)
        write_edits(component.edits, making)
        write_text(making / CONFIG, json.dumps(to_json(config), indent=1) + "\n")
        return replace(record, decisions=component.decisions, notes=(*record.notes, *vanished.values()))

    return write_component(folder, write)


def _find_built(work: Path) -> list[Artifact]:
    """Engines and kernel tables that an interrupted run built from these very graphs."""
    try:
        before = read_bundle(work)
    except SprintExportError:  # no manifest yet, or files that do not fit it: they are made again
        return []
    return [artifact for artifact in before.artifacts if artifact.device is not None]


def _copy_tokenizer(student: Student, work: Path) -> list[Artifact]:
    """The tokenizer's files."""
    remove(work / "tokenizer")
    (work / "tokenizer").mkdir()
    made = []
    for path in sorted(student.tokenizer.iterdir()):
        if path.is_file() and path.suffix in TOKENIZER_FILES:
            shutil.copyfile(path, work / "tokenizer" / path.name)
            made.append(make_artifact(work, work / "tokenizer" / path.name, "tokenizer", "tokenizer", "json"))
    return made
