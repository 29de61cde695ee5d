"""convert: the whole road, from a student's name to a validated bundle.

Nothing appears at `out` until the bundle is whole: stages gather their files in `.<out>.partial` beside it, where a killed
run is taken up again. A bundle that is there already and was made from the same inputs is not made again.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sprint_export.errors import BundleError, InputError, MachineError, unknown_choice
from sprint_export.paths import resolve_path
from sprint_export.progress import Progress, quiet
from sprint_export.recipe_choice import Wish, add_frontier, choose_recipe
from sprint_export.registry import load_member
from sprint_export.run_checks import CheckedRun, check_path, check_run, load_libraries
from sprint_export.schema import ROLES, Bundle, Device, Options, Recipe, Student, Target

if TYPE_CHECKING:
    from collections.abc import Iterator


def convert(
    student: str | Path | Student = "sprint-tiny",
    target: str = "trt-fp8",
    out: str | Path | None = None,
    *,
    steps: int | Sequence[int] = 1,
    guidance: float | None = None,
    device: str | None = None,
    recipe: Recipe | str | Path | None = None,
    cost: str | None = None,
    prompts: Sequence[str] | None = None,
    components: Sequence[str] = ROLES,
    builder: str = "tensorrt-rtx",
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
        steps: 1 to 4, or several of them, e.g. (1, 2, 4), that share the weights.
        guidance: the guidance scale to fix; default: the pipeline's own.
        device: what it is built for; default: the target's.
        recipe: which layers are quantized: a recipe, a preset ("fast", "balanced", "faithful"), a TOML file, or "auto" for the
            cheapest mix whose measured pictures meet the psnr_db gate; default: "balanced".
        cost: what "auto" makes small, "time" (priced for the device) or "bytes"; default: time where the device has peaks.
        prompts: calibrate and validate with these instead of the student's own.
        components: which networks to export; a bundle without all three cannot draw or be validated.
        builder: "tensorrt-rtx" or "tensorrt".
        options: what a target offers beside the precision, e.g. Options(deployment_target="iOS17").
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
        steps=steps,
        guidance=guidance,
        device=device,
        recipe=recipe,
        cost=cost,
        components=components,
        builder=builder,
        options=options,
        max_mb=max_mb,
        prompt_tokens=prompt_tokens,
        gates=gates,
        count=count,
        validate=validate,
    )
    load_libraries(progress)
    from sprint_export.students import load_student

    loaded = student if isinstance(student, Student) else load_student(student)
    if run.options.dynamic:
        load_member("student", loaded.family).check_free_sizes(loaded)
    if prompts is not None:
        loaded = dataclasses.replace(loaded, calibration_prompts=tuple(prompts), validation_prompts=tuple(prompts))
    folder = Path(out) if out is not None else Path(f"{Path(loaded.source).name.replace(':', '-')}-{target}")
    if run.is_validated:
        from sprint_export.validate.bundle import check_demands

        check_demands(loaded, gates, count)
    with clear_disk_errors(folder):
        folder = check_out(folder)
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
            builder,
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


def check_convert(student: str | Path | Student, target: str, out: str | Path | None, **asked: Any) -> CheckedRun:
    """Check everything that can be known before the student is loaded; `asked` is what `check_run` takes.

    Raises:
        InputError, RefusedError, MachineError: as `convert`.
    """
    run = check_run(student, target, **asked)
    if out is None:
        check_path(Path("bundle"))  # in the working directory, under the student's name
        return run
    resolve_path("--out", Path(out))
    with clear_disk_errors(Path(out)):
        check_out(Path(out))
    check_path(Path(out))
    return run


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
    builder: str,
    prefix_cache: bool,
    prompt_tokens: int | None,
    overwrite: bool,
    progress: Progress,
    say: Callable[[str], None],
) -> Bundle:
    from sprint_export.export import export_student
    from sprint_export.export.bundle import place_bundle
    from sprint_export.export.student import bundle_key
    from sprint_export.quantize import quantize_student
    from sprint_export.runtimes import build_bundle
    from sprint_export.specialize import DEFAULT_GUIDANCE, specialize_student

    guidance = DEFAULT_GUIDANCE if guidance is None else guidance
    specialized = specialize_student(student, steps, guidance, options.layout, prefix_cache, prompt_tokens)
    specialized = keep_components(specialized, components)
    for role, component in specialized.components.items():
        for note in component.notes:
            say(f"{role}: {note}")
    recipe, frontier = choose_recipe(specialized, target, precision, device, wish, progress, say)
    quantized = quantize_student(specialized, precision, target, recipe, progress)
    key = bundle_key(quantized, target, precision, device, options)
    if folder.exists() and any(folder.iterdir()):
        found = _read_present(folder, overwrite)
        if found is not None and found.key == key:
            say(f"{folder} was made from the same inputs; nothing to do but validate it")
            return build_bundle(found, device.name, builder, progress)
        if not overwrite:
            raise InputError(f"{folder} holds a bundle made from other inputs; choose another --out, or --overwrite it")
    bundle = export_student(quantized, target, precision, device, folder, progress, options)
    bundle = add_frontier(bundle, frontier)
    bundle = build_bundle(bundle, device.name, builder, progress)
    return place_bundle(bundle, folder)


def _read_present(folder: Path, overwrite: bool) -> Bundle | None:
    """The bundle that is there; None where it is damaged and about to be replaced anyway."""
    from sprint_export.export.bundle import read_bundle

    try:
        return read_bundle(folder)
    except BundleError as error:
        if overwrite:
            return None
        raise BundleError(f"{error}; to replace it, add --overwrite") from error


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


def check_out(folder: Path) -> Path:
    """Refuse an output path that cannot become a bundle, before any work is done; a link is followed.

    Raises:
        InputError: it is a file, the working directory or a folder around it, or holds files that are no bundle; or its
            parent is a file or not writable.
    """
    from sprint_export.export.bundle import MANIFEST

    if folder.is_file():
        raise InputError(f"--out {folder} is a file; expected a folder that is new, empty or holds a bundle")
    if Path.cwd().is_relative_to(folder.resolve()):
        raise InputError(f"--out {folder} is where you are working, or around it; expected a folder of the bundle's own")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise InputError(
            f"--out {folder} holds files but no {MANIFEST}, so it is not a bundle and is left alone; choose another "
            "folder, or empty it yourself"
        )
    parent = folder.absolute().parent
    nearest = next(p for p in (parent, *parent.parents) if p.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise InputError(f"--out {folder}: {nearest} is not a folder that can be written to; choose another")
    return folder.resolve() if folder.is_symlink() else folder


@contextmanager
def clear_disk_errors(folder: Path) -> Iterator[None]:
    """Turn a full disk or a read-only folder into one clear message; finished stages stay for the next run."""
    try:
        yield
    except OSError as error:
        # numpy's tofile says "131072 requested and 25360 written" and gives no number
        cut_short = error.errno is None and "requested and" in str(error)
        if cut_short or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            free = shutil.disk_usage(next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())).free
            raise MachineError(
                f"the disk is full ({free / 1e6:.0f} MB free at {folder.absolute().parent}) while writing {folder}; "
                "free some space and run the same command again: it goes on where it stopped"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR):
            raise InputError(f"cannot write to {error.filename or folder} ({error.strerror}); choose another --out") from error
        raise
