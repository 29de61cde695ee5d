"""Options of the command line: what they are called, what help says, and in which panel; checks that need no stage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sprint_export.cli.screen import verbosity
from sprint_export.errors import InputError
from sprint_export.paths import read_user_text
from sprint_export.registry import list_members

QUANTIZATION = "Quantization"
VALIDATION = "Validation"
SCREEN = "Output"
MOST_RUNS = 100_000


def _set_quiet(value: bool) -> bool:
    verbosity.is_quiet = verbosity.is_quiet or value
    return value


def _set_verbose(value: bool) -> bool:
    verbosity.is_verbose = verbosity.is_verbose or value
    return value


Quiet = Annotated[
    bool,
    typer.Option("-q", "--quiet", callback=_set_quiet, rich_help_panel=SCREEN, help="Results and errors only."),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "-v",
        "--verbose",
        callback=_set_verbose,
        rich_help_panel=SCREEN,
        help="Also seconds by stage and what is behind an error.",
    ),
]
Json = Annotated[bool, typer.Option("--json", rich_help_panel=SCREEN, help="Print JSON on stdout.")]
Folder = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A folder that sprint-export made.")]
Runtime = Annotated[
    str | None,
    typer.Option(help=f"{', '.join(list_members('runtime'))}: one of the target's; default: the first that can run here."),
]

Target = Annotated[str | None, typer.Option(help="Where to, e.g. trt-fp8, onnx-int8, coreml-int8; see: list targets.")]
Student = Annotated[str, typer.Option(help="An embedded name, a diffusers folder, a hub id, or random:PRESET.")]
Variant = Annotated[
    str | None, typer.Option(help="Which of a checkpoint's weights, e.g. fp16; default: the plain ones, or the only ones.")
]
Out = Annotated[Path | None, typer.Option(help="The bundle's folder; default STUDENT-TARGET here.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a bundle made from other inputs.")]
Device = Annotated[str | None, typer.Option(help="What to build for; see: list devices.")]
Steps = Annotated[str, typer.Option(help="Sampling steps to specialize to, 1 to 4; 1,2,4 share one set of weights.")]
Guidance = Annotated[float | None, typer.Option(help="Guidance scale to fix; default 4.5.")]
Components = Annotated[list[str] | None, typer.Option(metavar="ROLE", help="Export only this network; may be repeated.")]
PromptTokens = Annotated[
    int | None, typer.Option(help="Rows of text the networks are fixed to, BOS and the prompt's; default 300.")
]
NoPrefixCache = Annotated[
    bool, typer.Option("--no-prefix-cache", help="Compute the instruction before a prompt too, instead of holding it.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, print what would be made, and stop.")]

Recipe = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=QUANTIZATION,
        help="Which layers are quantized: fast, balanced (default), faithful, auto (searched), or a TOML file.",
    ),
]
Cost = Annotated[
    str | None,
    typer.Option(rich_help_panel=QUANTIZATION, help="What --recipe auto makes small: time (priced for the device) or bytes."),
]
MaxMb = Annotated[
    float | None,
    typer.Option(
        rich_help_panel=QUANTIZATION,
        help="coreml-w4 and coreml-w6: choose every layer's bits by picture error to fit this size.",
    ),
]
Prompts = Annotated[
    Path | None,
    typer.Option(rich_help_panel=QUANTIZATION, help="A file, one prompt a line, to calibrate and validate with; - for stdin."),
]
Gates = Annotated[
    list[str] | None,
    typer.Option(
        "--gate", metavar="DEMAND", rich_help_panel=VALIDATION, help="A demand, e.g. 'psnr_db>=30'; may be repeated, all hold."
    ),
]
Count = Annotated[int | None, typer.Option(rich_help_panel=VALIDATION, help="How many prompts; default 64 (4 above 128 px).")]
NoValidate = Annotated[bool, typer.Option("--no-validate", rich_help_panel=VALIDATION, help="Leave the validation out.")]


def read_prompts(path: Path | None) -> list[str] | None:
    """One prompt a line; empty lines and lines that start with # are left out; `-` reads stdin.

    Raises:
        InputError: the file cannot be read as text, or has no prompt in it.
    """
    if path is None:
        return None
    lines = (read_stdin() if str(path) == "-" else read_user_text("--prompts", path)).splitlines()
    prompts = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not prompts:
        raise InputError(f"--prompts {path} has no prompts; expected one a line")
    return prompts


def read_stdin() -> str:
    """What is piped in, as UTF-8.

    Raises:
        InputError: it is no such text, or longer than any list of prompts.
    """
    import sys

    from sprint_export.paths import MOST_BYTES

    try:
        data = sys.stdin.buffer.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise InputError(f"--prompts - gave more than {MOST_BYTES:,} bytes; expected a list of prompts")
        return data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--prompts -: cannot be read as UTF-8 text ({error})") from error


def read_steps(text: str) -> tuple[int, ...]:
    """Step counts of `2` or `1,2,4`.

    Raises:
        InputError: it is not a list of whole numbers.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"--steps {text}: expected a number from 1 to 4, or several with commas, e.g. 1,2,4") from error
