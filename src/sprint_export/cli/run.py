"""`run`: pictures of prompts, as files that say what they were drawn from."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sprint_export.cli import options as o
from sprint_export.cli.bars import progress_bars
from sprint_export.cli.drawing_needs import check_drawing
from sprint_export.cli.screen import note, show, stderr, stdout, verbosity
from sprint_export.cli.signature import takes_options
from sprint_export.cli.source import find_source
from sprint_export.errors import InputError
from sprint_export.options import keep_asked
from sprint_export.picture_files import Making, check_output, join_pictures, name_pictures, save_picture
from sprint_export.pictures import read_picture
from sprint_export.progress import Step

if TYPE_CHECKING:
    from sprint_export.picture_files import Pictures
    from sprint_export.session import Pipeline

PICTURES = ("control", "image")  # options that name a file


@dataclass(frozen=True)
class Drawn:
    """What a run drew: uint8 [B, H, W, 3], what each was drawn from, and how long it took."""

    pictures: Pictures
    makings: Sequence[Making]
    milliseconds: Mapping[str, Sequence[float]]  # of each call of a network, by role
    total_milliseconds: float


@takes_options(*o.RUN_OPTIONS, o.PROVIDER, *o.REQUEST_OPTIONS)
def run(
    bundle: o.Source,
    texts: Annotated[list[str] | None, typer.Argument(metavar="PROMPTS", help="One or more prompts.")] = None,
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="A picture's file, or a folder that is there; {index}, {seed} and {prompt} may stand in the name, else several "
            "are numbered. A file that is there is replaced.",
        ),
    ] = Path("out.png"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first picture's noise; picture i has this plus i.")] = 0,
    steps: Annotated[
        int | None, typer.Option(help="Sampling steps, one of the counts the bundle was made for; default: its first.")
    ] = None,
    runtime: o.Runtime = None,
    as_json: o.Json = False,
    **given: Any,
) -> None:
    """Draw pictures of prompts.

    Example: sprint-export run my-bundle "a red circle above a blue square" -o picture.png
    """
    check_drawing("PIL")
    asked: dict[str, Any] = dict(keep_asked(given))
    prompts, is_grid = _list_prompts(texts, asked.pop("prompts", None)), asked.pop("grid", False)
    provider = asked.pop("provider", None)
    check_output(output)
    seeds = [seed + i for i in range(len(prompts) * asked.get("count", 1))]
    repeated = [prompt for prompt in prompts for _ in range(asked.get("count", 1))]
    files = [] if is_grid else name_pictures(output, repeated, seeds)
    for name in set(PICTURES) & set(asked):
        asked[name] = read_picture(f"--{name}", asked[name])
    folder = find_source(bundle)
    with progress_bars(stderr, verbosity.is_quiet, verbosity.is_verbose) as progress:
        if asked:
            _check_request(folder, steps, len(prompts), asked)  # a mistake is said before networks are loaded
        progress(Step("loading", "networks"), 0, 1)
        from sprint_export.runtimes import open_bundle

        pipeline = open_bundle(folder, runtime, steps=steps, provider=provider)
        progress(Step("loading", "networks"), 1, 1)
        before = pipeline.description
        note(f"runs on {before}")
        if unknown := pipeline.reader.list_unknown(prompts):
            note(f"this student does not know: {', '.join(unknown)}; it draws as if other words stood there")
        drawn = _draw(pipeline, folder, prompts, seed, asked)
        if pipeline.description != before:  # a provider's share is known once it ran
            note(f"ran on {pipeline.description}")
    saved = [_save_grid(drawn, output, asked.get("count", 1), len(prompts))] if is_grid else _save_each(drawn, files)
    if as_json:
        stdout.print_json(json.dumps(_describe(drawn, saved)))
        return
    for path in saved:
        show(str(path))


def _list_prompts(texts: Sequence[str] | None, file: Path | None) -> list[str]:
    """Those that were typed, then those of a file."""
    prompts = [*(texts or ()), *(o.read_prompts(file) or ())]
    if not prompts:
        raise InputError('no prompt; expected one or more, e.g. "a red circle above a blue square", or --prompts FILE')
    return prompts


def _check_request(bundle: Path, steps: int | None, prompts: int, asked: dict[str, Any]) -> None:
    """Refuse what the bundle cannot draw, and say where a picture to start from has no part in it."""
    from sprint_export.export.bundle import read_bundle
    from sprint_export.runtimes.open import chain_sessions

    for option, needed in (("control_scale", "control"), ("strength", "image")):
        if option in asked and needed not in asked:
            raise InputError(f"--{option.replace('_', '-')} {asked[option]}: says how a picture is used; give --{needed} too")
    pipeline = replace(chain_sessions(read_bundle(bundle, verify=False), {}), steps=steps)
    first = pipeline.check(prompts, **asked)
    if "image" in asked and first >= 1:
        note("at this strength the steps start from noise alone, and the picture has no part; take more steps or less strength")


def _draw(pipeline: Pipeline, folder: Path, prompts: list[str], seed: int, asked: Mapping[str, Any]) -> Drawn:
    from sprint_export.runtimes.makings import describe_making

    start = time.perf_counter()
    pictures = pipeline(prompts, seed=seed, **asked)
    total = 1000 * (time.perf_counter() - start)
    _, height, width, _ = pictures.shape
    making = describe_making(pipeline, folder, (width, height))
    count = len(pictures) // len(prompts)
    makings = [replace(making, prompt=prompts[i // count], seed=seed + i) for i in range(len(pictures))]
    milliseconds = {role: [round(1000 * each, 3) for each in calls] for role, calls in pipeline.seconds.items()}
    return Drawn(pictures, makings, milliseconds, round(total, 3))


def _save_each(drawn: Drawn, files: Sequence[Path]) -> Sequence[Path]:
    for picture, path, making in zip(drawn.pictures, files, drawn.makings, strict=True):
        if save_picture(picture, path, making):
            note(f"replaced {path}")
    return files


def _save_grid(drawn: Drawn, output: Path, count: int, prompts: int) -> Path:
    """One picture of all: a row for each prompt, where each has several."""
    grid = join_pictures(drawn.pictures, count if count > 1 and prompts > 1 else None)
    names = " | ".join(dict.fromkeys(making.prompt for making in drawn.makings))
    making = replace(drawn.makings[0], prompt=names)
    [path] = name_pictures(output, [names], [making.seed])
    if save_picture(grid, path, making):
        note(f"replaced {path}")
    return path


def _describe(drawn: Drawn, saved: Sequence[Path]) -> dict[str, Any]:
    """For a program: each picture with its file and seed, then what is the same of all."""
    first = drawn.makings[0]
    files = [str(path) for path in saved] if len(saved) == len(drawn.makings) else [str(saved[0])] * len(drawn.makings)
    pairs = zip(files, drawn.makings, strict=True)
    return {
        "pictures": [{"file": file, "prompt": making.prompt, "seed": making.seed} for file, making in pairs],
        "steps": first.steps,
        "size": list(first.size),
        "student": first.student,
        "target": first.target,
        "bundle_sha256": first.bundle_sha256,
        "runs_on": first.runs_on,
        "milliseconds": {"total": drawn.total_milliseconds, **drawn.milliseconds},
    }
