"""The command's options beside those of nouns/order.py, and how what was typed becomes an order; checks that need no stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sprint_export.cli.signature import OUTPUT
from sprint_export.errors import InputError
from sprint_export.nouns.option import Option
from sprint_export.nouns.order import VALIDATION, Order, list_options
from sprint_export.options import keep_asked, merge_options
from sprint_export.registry import list_members

if TYPE_CHECKING:
    from sprint_export.validate.ci.files import CiFiles
    from sprint_export.validate.prompt_sets.prompt_set import PromptSet

MOST_RUNS = 100_000

Folder = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A folder that sprint-export made.")]
Source = Annotated[
    str, typer.Argument(metavar="BUNDLE", help="A folder that sprint-export made, or the hub id of one: owner/name[@revision].")
]
Json = Annotated[bool, typer.Option("--json", rich_help_panel=OUTPUT, help="Print JSON on stdout.")]
Runtime = Annotated[
    str | None,
    typer.Option(help=f"{', '.join(list_members('runtime'))}: one of the target's; default: the first that can run here."),
]

PROVIDER = Option("provider", "What the runtime's library runs graphs on; see: list providers. Default: the CPU.")

CI_OPTIONS = (
    Option("junit", "Write the gates as JUnit XML, for a CI service's list of tests.", Path, None, OUTPUT, metavar="FILE"),
    Option("markdown", "Write a summary, e.g. to $GITHUB_STEP_SUMMARY.", Path, None, OUTPUT, metavar="FILE"),
)

RAY = Option(
    "ray", "A Ray cluster that draws: auto, HOST:PORT, or local for all processors here.", flags=("--ray",), metavar="ADDRESS"
)

ORDER_OPTIONS = tuple(replace(o, default=None) if o.name in ("target", "gates") else o for o in list_options())
ALLOW_UNDECIDED = Option(
    "allow_undecided", "Exit status 0 also where so few pictures leave a gate undecided.", bool, False, VALIDATION
)
COMMAND_OPTIONS = (
    ALLOW_UNDECIDED,
    Option("dry_run", "Check everything, print what would be made, in what time, memory and disk, and stop.", bool, False),
    Option("upload_repo", "Upload the bundle to the hub once its gates are met.", metavar="OWNER/NAME"),
    Option("private", "With --upload-repo: a repository that is new is made private.", bool, False),
    Option("as_json", "Print JSON on stdout.", bool, False, OUTPUT, ("--json",)),
    *CI_OPTIONS,
    Option("version", "Print the version.", bool, False, OUTPUT),
)

RUN_OPTIONS = (
    Option("prompts", "A file of prompts, one a line; - for stdin.", Path, None, None, (), "FILE"),
    Option("count", "Pictures of each prompt, each with a seed of its own; default 1.", int),
    Option("grid", "All pictures in one file: a row for each prompt, where each has several.", bool, False),
)
REQUEST_OPTIONS = (  # of run: the fields of session.Request that are typed
    Option("height", "Height in pixels, for bundles made with --dynamic; default: the student's own.", int),
    Option("width", "Width in pixels, likewise.", int),
    Option("control", "A picture that steers; for bundles of a student with a ControlNet.", Path),
    Option("control_scale", "How strongly --control steers; default 1, as trained.", float),
    Option("image", "A picture to start from; for bundles made with --image-to-image, or with a ControlNet.", Path),
    Option("strength", "How far from --image: the share of the steps that is run, above 0 to 1; default 0.6.", float),
)


def read_ci_files(values: dict[str, Any]) -> CiFiles:
    """The files that --junit and --markdown name, taken out of the values.

    Raises:
        InputError: one cannot be written.
    """
    from sprint_export.validate.ci.files import CiFiles

    files = CiFiles(values.pop("junit"), values.pop("markdown"))
    files.check()
    return files


def pick_options(*names: str) -> tuple[Option, ...]:
    """Those of an order that a verb takes too, without the panels of the command's help."""
    return tuple(replace(option, panel=None) for option in ORDER_OPTIONS if option.name in names)


def read_order(values: Mapping[str, Any]) -> Order:
    """The order that was typed; options that were left out keep the order's defaults.

    Raises:
        InputError: the steps are no numbers, or the file of prompts is none.
    """
    typed = {option.name: values[option.name] for option in ORDER_OPTIONS if values[option.name] is not None}
    typed["steps"] = read_steps(str(typed["steps"]))
    if "prompts" in typed:
        typed["prompts"] = read_prompts(typed["prompts"])
    return Order(**typed, options=keep_asked({option.name: values[option.name] for option in merge_options()}))


def read_prompts(text: str | Path | None) -> PromptSet | None:
    """The prompts of a file, of `-` (stdin), both one a line, or of a set on the disk, SET:PATH.

    Raises:
        InputError: there is no such file or set, it is damaged, or has no prompt in it.
    """
    from sprint_export.validate.prompt_sets.prompt_set import PromptSet, read_prompt_set
    from sprint_export.validate.prompt_sets.text_lines import keep_prompts

    if text is None:
        return None
    return PromptSet(keep_prompts(read_stdin().splitlines(), "-")) if str(text) == "-" else read_prompt_set(str(text))


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
