"""export_student: every component to a graph, in a work folder that an interrupted run goes on in."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from sprint_export.errors import InputError, RefusedError, SprintExportError
from sprint_export.export.bundle import (
    find_artifact,
    make_artifact,
    open_work_folder,
    read_bundle,
    read_record,
    write_bundle,
    write_record,
)
from sprint_export.json_forms import to_json
from sprint_export.progress import Progress, quiet
from sprint_export.quantize.edits import EDITS_FILE, hash_edits, write_edits
from sprint_export.registry import load_member
from sprint_export.schema import ROLES, Artifact, Bundle, Component, ComponentRecord, Device, Options, Student, Target

TOOLS = ("sprint-export", "torch", "diffusers", "transformers")


def bundle_key(student: Student, target: Target, precision: str, device: Device, options: Options) -> str:
    """A hash of all that decides a bundle's bytes: two runs with one key make the same files."""
    layers = {role: {name: asdict(layer) for name, layer in c.layers.items()} for role, c in student.components.items()}
    parts = [
        student.fingerprint,
        to_json(student.plan),
        to_json(student.prompt),
        to_json(student.recipe),
        layers,
        target.name,
        precision,
        device.name,
        to_json(options),
        student.layout,
        tool_versions(target),
        sorted(student.components),
        {role: hash_edits(component.edits) for role, component in student.components.items()},
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def tool_versions(target: Target) -> dict[str, str]:
    """Installed versions of what shapes the target's files."""
    found = {}
    for name in (*TOOLS, *_exporter(target).TOOLS):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def _exporter(target: Target) -> ModuleType:
    """The module of this folder that writes the target's format."""
    return importlib.import_module(f"sprint_export.export.{target.exporter}")


def export_student(
    student: Student,
    target: Target,
    precision: str,
    device: Device,
    out: Path,
    progress: Progress = quiet,
    options: Options | None = None,
) -> Bundle:
    """Write graphs, tokenizer, configs and manifest into the work folder beside `out`; a later stage renames it.

    Args:
        student: specialized, and quantized where the precision asks for it.
        target: says the graph's type.
        precision: one of the target's.
        device: recorded, and asked whether it can.
        out: the final folder; nothing is written there yet.
        progress: is told (stage, done, total).
        options: what the target offers beside the precision; what is left open is the target's or the device's choice.

    Returns:
        The bundle in the work folder. Components that an interrupted run finished are taken over.

    Raises:
        InputError: the student is not specialized, or not quantized for this pair. RefusedError: the target refuses the pair.
    """
    if student.plan is None:
        raise InputError("the student is not specialized; call specialize_student(student) before export_student")
    if (reason := target.refuses(precision, device)) is not None:
        raise RefusedError(reason)
    options = complete_options(target, precision, device, options or Options())
    _check_quantized(student, target, precision)
    components = load_member("student", student.family).free_sizes(student).components if options.dynamic else student.components
    key = bundle_key(student, target, precision, device, options)
    work = open_work_folder(out, key)
    records, artifacts = [], []
    for i, (role, component) in enumerate(components.items()):
        progress("exporting " + role, i, len(components))
        records.append(_export_component(component, target, precision, options, work / role, student.configs[role]))
        artifacts += _describe_files(work, role, _exporter(target))
    progress("exporting", len(components), len(components))
    artifacts += [*_copy_surroundings(student, work, _exporter(target).FORMAT), *_find_built(work)]
    bundle = Bundle(
        folder=work,
        family=student.family,
        source=student.source,
        revision=student.revision,
        licence=student.licence,
        target=target.name,
        precision=precision,
        device=device.name,
        options=options,
        layout=student.layout,
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
    return bundle


def complete_options(target: Target, precision: str, device: Device, options: Options) -> Options:
    """The options with the target's or the device's choice where they were left open.

    Raises:
        InputError: the target has no such option, or the option no such value. RefusedError: one cannot work with the pair.
    """
    if options.dynamic and target.one_size is not None:
        raise RefusedError(f"{target.name}-{precision} --dynamic: {target.one_size}; the nearest that can is onnx-int8")
    if target.complete is not None:
        return target.complete(precision, device, options)
    for name, value in asdict(replace(options, dynamic=False)).items():
        if value not in (None, False):
            raise InputError(f"{name}={value}: {target.name} targets have no such option; it is for coreml and coreai targets")
    return options


def _describe_files(work: Path, role: str, exporter: ModuleType) -> list[Artifact]:
    files = [path for path in sorted((work / role).rglob("*")) if path.is_file()]
    kinds = {path: exporter.kind_of(path.relative_to(work / role)) for path in files}
    edits = [make_artifact(work, path, role, "edits", "safetensors") for path in files if path == work / role / EDITS_FILE]
    return [make_artifact(work, path, role, kind, exporter.FORMAT) for path, kind in kinds.items() if kind is not None] + edits


def _check_quantized(student: Student, target: Target, precision: str) -> None:
    """Refuse a float student under a quantized name, and scales rounded for a graph of another type."""
    if load_member("precision", precision).PRECISION.is_quantized and student.recipe is None:
        raise InputError(
            f"the student is not quantized; call quantize_student(student, {precision!r}, target) before export_student"
        )
    dtype = target.graph_dtype[precision]
    found = {layer.scale_dtype for component in student.components.values() for layer in component.layers.values()} - {dtype}
    if found:
        raise InputError(
            f"the student is quantized for a {found.pop()} graph, {target.name}-{precision} computes in {dtype}; "
            "quantize it for this target"
        )


def _export_component(
    component: Component, target: Target, precision: str, options: Options, folder: Path, config: object
) -> ComponentRecord:
    """Write one component's folder, under another name until it is whole."""
    finished = read_record(folder)
    if finished is not None and all((folder / name).exists() for name in finished[1]):
        return finished[0]
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    part.mkdir(parents=True)
    record: ComponentRecord = _exporter(target).write_component(component, target, precision, options, part)
    record = replace(record, decisions=component.decisions)
    write_edits(component.edits, part)
    (part / "config.json").write_text(json.dumps(to_json(config), indent=1) + "\n")
    write_record(part, record)
    part.rename(folder)
    return record


def _find_built(work: Path) -> list[Artifact]:
    """Engines and kernel tables that an interrupted run built from these very graphs."""
    try:
        before = read_bundle(work)
    except SprintExportError:  # no manifest yet, or files that do not fit it: they are made again
        return []
    return [artifact for artifact in before.artifacts if artifact.kind.startswith(("engine:", "kernels:"))]


def name_format(index: Mapping[str, Any], format: str) -> dict[str, Any]:
    """A diffusers model index whose networks are files of this format: ["onnx", "model"] and the like."""
    return {role: [format, value[1]] if role in ROLES else value for role, value in index.items()}


def _copy_surroundings(student: Student, work: Path, format: str) -> list[Artifact]:
    """Tokenizer, scheduler and model index, laid out as diffusers lays out a pipeline."""
    target = work / "tokenizer"
    target.mkdir(exist_ok=True)
    files = []
    for path in sorted(student.tokenizer.iterdir()):
        if path.is_file():
            shutil.copyfile(path, target / path.name)
            files.append(target / path.name)
    (work / "scheduler").mkdir(exist_ok=True)
    for name, content in (
        ("model_index.json", name_format(student.configs["model_index"], format)),
        ("scheduler/scheduler_config.json", student.configs["scheduler"]),
    ):
        (work / name).write_text(json.dumps(to_json(content), indent=1) + "\n")
    return [make_artifact(work, path, "tokenizer", "tokenizer", "json") for path in files]
