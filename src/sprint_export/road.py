"""convert: the whole road, from a student's name to a validated bundle.

Nothing appears at `out` until the bundle is whole: stages gather their files in `.<out>.partial` beside it, one run at a time,
and a killed run is taken up again there. A bundle that is there already, whole, and was made from the same inputs is not made
again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sprint_export.disk_errors import clear_disk_errors
from sprint_export.errors import InputError, unknown_choice
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.recipe import Recipe
from sprint_export.nouns.student import ROLES, Student
from sprint_export.nouns.target import DYNAMIC, Device, Options, Target
from sprint_export.out_folder import check_out, holds_anything, read_present
from sprint_export.paths import is_folder, resolve_path
from sprint_export.progress import Progress, quiet
from sprint_export.recipe_choice import Wish, add_frontier, choose_recipe
from sprint_export.registry import load_member
from sprint_export.run_checks import CheckedRun, check_run, load_libraries
from sprint_export.work_folder import claim_bundle, find_work_folder


def convert(
    student: str | Path | Student = "sprint-tiny",
    target: str = "trt-fp8",
    out: str | Path | None = None,
    *,
    variant: str | None = None,
    steps: int | Sequence[int] = 1,
    guidance: float | None = None,
    device: str | None = None,
    recipe: Recipe | str | Path | None = None,
    cost: str | None = None,
    prompts: Sequence[str] | None = None,
    components: Sequence[str] = ROLES,
    options: Options | None = None,
    max_mb: float | None = None,
    prefix_cache: bool = True,
    prompt_tokens: int | None = None,
    overwrite: bool = False,
    gates: Sequence[str] = (),
    count: int | None = None,
    validate: bool = True,
    progress: Progress = quiet,
    say: Callable[[str], None] = lambda text: None,
) -> Bundle:
    """Load, specialize, quantize, export, build, validate.

    Args:
        student: what `load_student` takes, or its result.
        target: `<target>-<precision>`, e.g. "trt-fp8"; see `list_targets`.
        out: the bundle's folder; default `<student>-<target>` in the working directory.
        variant: as in `load_student`.
        steps: 1 to 4, or several of them, e.g. (1, 2, 4), that share the weights.
        guidance: the guidance scale to fix; default: the pipeline's own.
        device: what it is built for; default: the target's.
        recipe: which layers are quantized: a recipe, a preset ("fast", "balanced", "faithful"), a TOML file, or "auto" for the
            cheapest mix whose measured pictures meet the psnr_db gate; default: "balanced".
        cost: what "auto" makes small, "time" (priced for the device) or "bytes"; default: time where the device has peaks.
        prompts: calibrate and validate with these instead of the student's own.
        components: which networks to export; a bundle without all three cannot draw or be validated.
        options: what a target offers beside the precision, by name, e.g. {"deployment_target": "iOS17"}; see --help.
        max_mb: choose every layer's bits by picture error so that all weights fit this many 10^6 bytes (coreml-w4, coreml-w6).
        prefix_cache: as in `specialize_student`.
        prompt_tokens: likewise.
        overwrite: replace a bundle at `out` that was made from other inputs.
        gates: as in `validate_bundle`.
        count: as in `validate_bundle`.
        validate: False skips validation.
        progress: is told (stage, done, total).
        say: is told what was decided, in one line each.

    Returns:
        The finished bundle; its report lies beside `bundle.json`.

    Raises:
        InputError, RefusedError: the input is wrong or the pair cannot work; nothing was written.
        MachineError: a library, a GPU or disk space is missing; what was finished is kept for the next run.
    """
    run = check_convert(
        student,
        target,
        out,
        overwrite,
        steps=steps,
        guidance=guidance,
        device=device,
        recipe=recipe,
        cost=cost,
        components=components,
        options=options,
        max_mb=max_mb,
        prompt_tokens=prompt_tokens,
        gates=gates,
        count=count,
        validate=validate,
    )
    load_libraries(progress)
    from sprint_export.students import load_student

    with ExitStack() as stack:
        place = Path(out) if out is not None else _name_bundle(student, target)
        folder = _claim_out(place, overwrite, stack)  # another run that works there is met before the student is loaded
        loaded = student if isinstance(student, Student) else load_student(student, variant)
        if run.options.get(DYNAMIC):
            load_member("student", loaded.family).check_free_sizes(loaded)
        if prompts is not None:
            loaded = dataclasses.replace(loaded, calibration_prompts=tuple(prompts), validation_prompts=tuple(prompts))
        if run.is_validated:
            from sprint_export.validate.bundle import check_demands

            check_demands(loaded, gates, count)
        bundle = _make_bundle(
            loaded,
            run.target,
            run.precision,
            run.device,
            run.options,
            folder,
            steps,
            guidance,
            run.wish,
            components,
            prefix_cache,
            prompt_tokens,
            overwrite,
            progress,
            say,
        )
        if run.is_validated:
            from sprint_export.validate import validate_bundle

            validate_bundle(bundle, loaded, count=count, gates=gates, progress=progress)
        elif validate:
            say("not validated: without all three networks there is no picture to compare")
    return bundle


def check_convert(
    student: str | Path | Student, target: str, out: str | Path | None, overwrite: bool = False, **asked: Any
) -> CheckedRun:
    """Check everything that can be known before the student is loaded; `asked` is what `check_run` takes.

    Raises:
        InputError, RefusedError, MachineError: as `convert`.
    """
    run = check_run(student, target, **asked)
    folder = Path(out) if out is not None else _name_bundle(student, target)
    resolve_path("--out", folder)
    with clear_disk_errors(folder):
        folder = check_out(folder, overwrite)
    with claim_bundle(folder):  # says now what cannot be written to, and who works there
        return run


def _name_bundle(student: str | Path | Student, target: str) -> Path:
    """Where a bundle goes that was given no place: `<student>-<target>` in the working directory."""
    source = Path(student.source if isinstance(student, Student) else student)
    if is_folder(source):
        source = resolve_path("--student", source)  # "." has a name too
    return Path(f"{source.name.replace(':', '-')}-{target}")


def _claim_out(out: Path, overwrite: bool, stack: ExitStack) -> Path:
    """The bundle's place, checked, and held until `stack` is left."""
    with clear_disk_errors(out):
        out = check_out(out, overwrite)
    stack.enter_context(claim_bundle(out))
    return out


def _make_bundle(
    student: Student,
    target: Target,
    precision: str,
    device: Device,
    options: Options,
    folder: Path,
    steps: int | Sequence[int],
    guidance: float | None,
    wish: Wish,
    components: Sequence[str],
    prefix_cache: bool,
    prompt_tokens: int | None,
    overwrite: bool,
    progress: Progress,
    say: Callable[[str], None],
) -> Bundle:
    from sprint_export.export import export_student
    from sprint_export.export.publishing import discard_work, place_bundle
    from sprint_export.export.student import bundle_key
    from sprint_export.quantize import quantize_student
    from sprint_export.runtimes import build_bundle
    from sprint_export.specialize import DEFAULT_GUIDANCE, specialize_student

    present = read_present(folder, overwrite)
    guidance = DEFAULT_GUIDANCE if guidance is None else guidance
    specialized = specialize_student(student, steps, guidance, target.choose_layout(options), prefix_cache, prompt_tokens)
    specialized = keep_components(specialized, components)
    for role, component in specialized.components.items():
        for note in component.notes:
            say(f"{role}: {note}")
    recipe, frontier = choose_recipe(specialized, target, precision, device, wish, progress, say)
    quantized = quantize_student(specialized, precision, target, recipe, progress)
    key = bundle_key(quantized, target, precision, device, options)
    if present is not None and present.key == key:
        say(f"{folder} was made from the same inputs; nothing to do but validate it")
        discard_work(find_work_folder(folder), key)
        return build_bundle(present, device.name, options, progress)
    if holds_anything(folder) and not overwrite:
        raise InputError(f"{folder} holds a bundle made from other inputs; choose another --out, or --overwrite it")
    bundle = export_student(quantized, target, precision, device, folder, progress, options, say)
    bundle = add_frontier(bundle, frontier)
    bundle = build_bundle(bundle, device.name, progress=progress)
    return place_bundle(bundle, folder)


def keep_components(student: Student, roles: Sequence[str]) -> Student:
    """Only these networks.

    Raises:
        InputError: an unknown role, or none.
    """
    for role in roles:
        if role not in student.components:
            raise unknown_choice("component", role, student.components)
    if not roles:
        raise InputError(f"no component chosen; choose from: {', '.join(student.components)}")
    return dataclasses.replace(student, components={r: c for r, c in student.components.items() if r in roles})
