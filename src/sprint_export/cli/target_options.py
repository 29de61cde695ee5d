"""Options that targets declare, as options of a command: one flag for all targets that have it, help and panel from theirs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

import typer

from sprint_export.nouns.target import Option, Options, OptionValue
from sprint_export.options import list_options
from sprint_export.registry import load_target

Command = TypeVar("Command", bound=Callable[..., None])


def add_target_options(before: str, is_for_building: bool = False) -> Callable[[Command], Command]:
    """Give a command, in place of its `**options`, a parameter for every option that a target declares.

    Args:
        before: the parameter they stand before in its help.
        is_for_building: those only that shape what is built beside a graph.
    """

    def add(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        own = [each for each in signature.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
        place = next(i for i, each in enumerate(own) if each.name == before)
        declared = [
            _make_parameter(name, owners)
            for name, owners in list_options().items()
            if not is_for_building or any(option.is_for_building for option in owners.values())
        ]
        parameters = [*own[:place], *declared, *own[place:]]
        vars(command)["__signature__"] = signature.replace(parameters=parameters)  # what typer reads
        return command

    return add


def take_options(given: Mapping[str, OptionValue | None]) -> Options:
    """Those that the user gave."""
    return {name: value for name, value in given.items() if value is not None and value is not False}


def _make_parameter(name: str, owners: Mapping[str, Option]) -> inspect.Parameter:
    """`--name` of the first who declares it, under a heading that names all."""
    option = next(iter(owners.values()))
    helps = {load_target(target).panel: each.help for target, each in owners.items()}
    said = set(helps.values())
    text = said.pop() if len(said) == 1 else "; ".join(f"{panel}: {help}" for panel, help in helps.items())
    info: Any = typer.Option(option.flag, rich_help_panel=" and ".join(helps), help=text)
    kind, default = (bool, False) if option.kind is bool else (option.kind | None, None)
    annotation = Annotated[kind, info]  # type: ignore[valid-type]  # made at run time
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation)
