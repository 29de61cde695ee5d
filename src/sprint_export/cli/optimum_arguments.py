"""The command's options for argparse, as optimum-cli spells an export: `optimum-cli export sprint --model M --target T OUTPUT`.

Every option of `sprint-export` is there by its own name, but for `--student` and `--out`, which are optimum's `--model` and its
positional OUTPUT. They are turned back into the command's arguments, so that both commands are one.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from sprint_export.nouns.option import Option
from sprint_export.nouns.order import list_options
from sprint_export.options import merge_options

SPELT_OTHERWISE = {"student": "model", "out": "output"}  # an order's field -> as optimum calls it


def add_arguments(parser: ArgumentParser) -> None:
    """Declare model, output and the options of an order and of all targets."""
    parser.add_argument("-m", "--model", required=True, help="An embedded name, a diffusers folder, a hub id, or random:PRESET.")
    parser.add_argument("output", help="The bundle's folder.")
    for option in _list_own():
        flags, text = name_flags(option), option.help.replace("%", "%%")
        if option.kind is bool:
            parser.add_argument(*flags, action="store_true", dest=option.name, help=text)
        else:
            action = "append" if option.is_repeated else "store"
            parser.add_argument(*flags, action=action, dest=option.name, metavar=option.metavar, help=text)


def name_flags(option: Option) -> tuple[str, ...]:
    """How an option is typed."""
    return option.flags or (f"--{option.name.replace('_', '-')}",)


def list_arguments(values: Mapping[str, Any]) -> list[str]:
    """What was parsed -> the arguments of `sprint-export`, those alone that were given."""
    found = ["--student", str(values["model"]), "--out", str(values["output"])]
    for option in _list_own():
        value, flag = values.get(option.name), name_flags(option)[-1]
        if option.kind is bool:
            found += [flag] if value else []
        elif value is not None:
            found += [part for each in (value if option.is_repeated else [value]) for part in (flag, str(each))]
    return found


def run_command(values: Mapping[str, Any]) -> int:
    """Run `sprint-export` on what was parsed; its exit status."""
    from sprint_export.cli.entry import run

    return run(list_arguments(values))


def _list_own() -> list[Option]:
    """Options of an order, then of all targets, each once."""
    listed = {option.name: option for option in (*list_options(), *merge_options())}
    return [option for name, option in listed.items() if name not in SPELT_OTHERWISE]
