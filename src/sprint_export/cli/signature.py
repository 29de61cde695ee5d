"""Commands whose options are a table (nouns/option.py): typer reads a signature, and this makes it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from sprint_export.cli.screen import verbosity
from sprint_export.nouns.option import Option

Command = TypeVar("Command", bound=Callable[..., None])
# What a signature's annotations may be, by the type of one value: typer reads types, which a table cannot spell.
OPTIONAL = {str: str | None, int: int | None, float: float | None, Path: Path | None}
REPEATED = {str: list[str] | None, int: list[int] | None, float: list[float] | None, Path: list[Path] | None}
OUTPUT = "Output"  # the panel of what steers the screen
SCREEN = (
    Option("quiet", "Results and errors only.", bool, False, OUTPUT, ("-q", "--quiet")),
    Option("verbose", "Also seconds by stage and what is behind an error.", bool, False, OUTPUT, ("-v", "--verbose")),
)


def takes_options(*options: Option) -> Callable[[Command], Command]:
    """Make a command of a function whose `**values` are these options; `--quiet` and `--verbose` are heeded and kept from it."""

    def wrap(function: Command) -> Command:
        @functools.wraps(function)
        def command(*arguments: Any, quiet: bool, verbose: bool, **values: Any) -> None:
            verbosity.is_quiet |= quiet
            verbosity.is_verbose |= verbose
            function(*arguments, **values)

        vars(command)["__signature__"] = make_signature(function, (*options, *SCREEN))
        return command  # type: ignore[return-value]  # what typer calls it with is in its signature

    return wrap


def make_signature(function: Callable[..., Any], options: Iterable[Option]) -> inspect.Signature:
    """The function's own parameters, then one for each option in place of `**values`."""
    own = inspect.signature(function, eval_str=True)
    listed = {option.name: option for option in options}
    named = [each for each in own.parameters.values() if each.kind is not each.VAR_KEYWORD and each.name not in listed]
    return own.replace(parameters=[*named, *map(_make_parameter, listed.values())])


def _make_parameter(option: Option) -> inspect.Parameter:
    default, flags = option.default, option.flags
    kind: Any = option.kind
    if option.is_repeated:
        kind = REPEATED[option.kind]
    elif default is None:
        kind = OPTIONAL[option.kind]
    elif option.kind is bool:
        flag = flags or (f"--{option.name.replace('_', '-')}",)
        flags = tuple(f" /{each}" for each in flag) if default else flag  # typer's spelling of a flag that turns something off
    info = typer.Option(
        *flags, metavar=option.metavar, rich_help_panel=option.panel, help=option.help, show_default=default is not True
    )
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info])
