"""What one may ask of a target beside its precision, completed and checked before any work. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping

from sprint_export.errors import InputError, RefusedError, SprintExportError, unknown_choice
from sprint_export.nouns.option import Option
from sprint_export.nouns.target import BATCH, DYNAMIC, Device, Options, OptionValue, Target, TargetOption
from sprint_export.registry import list_members, load_target

KINDS = {bool: "true or false", int: "a whole number", str: "a text"}


def complete_options(target: Target, precision: str, device: Device, options: Options) -> Options:
    """The options with the target's or the device's choice where they were left open; False leaves one open too.

    A batch of one is none.

    Raises:
        InputError: the target has no such option, or the option no such value. RefusedError: one cannot work with the pair.
    """
    asked = {name: value for name, value in options.items() if value is not False}
    declared = {option.name: option for option in target.options}
    for name, value in asked.items():
        if name not in declared:
            raise _explain_missing(target, precision, name, value)
        check_value(declared[name], value)
    if asked.get(BATCH) == 1:
        del asked[BATCH]
    if BATCH in asked and asked.get(DYNAMIC):
        raise RefusedError(
            f"{target.name}-{precision} --batch {asked[BATCH]} --dynamic: graphs of free sizes take one prompt at once; leave "
            "one of the two out"
        )
    filled = {name: asked.get(name, option.default) for name, option in declared.items()}
    return target.complete(precision, device, {name: value for name, value in filled.items() if value is not None})


def check_value(option: TargetOption, value: OptionValue) -> None:
    """Refuse what an option cannot be.

    Raises:
        InputError: it is of another type, out of range, or none of the choices.
    """
    if type(value) is not option.kind:
        raise InputError(f"{_say_asked(option, repr(value))}: expected {KINDS[option.kind]}")
    if isinstance(value, int) and not 1 <= value <= option.most:
        bound = "at least 1" if value < 1 else f"at most {option.most}"
        raise InputError(f"{_say_asked(option, value)}: expected {bound} ({option.unit})")
    if isinstance(value, str) and option.choices and value not in option.choices:
        raise unknown_choice(option.name.replace("_", " "), value, option.choices)


def list_options() -> dict[str, dict[str, TargetOption]]:
    """Names of all options -> by target, as that target declares it."""
    options: dict[str, dict[str, TargetOption]] = {}
    for target in map(load_target, list_members("target")):
        for option in target.options:
            options.setdefault(option.name, {})[target.name] = option
    return options


def keep_asked(options: Mapping[str, OptionValue | None]) -> Options:
    """Those of a command that were asked for."""
    return {name: value for name, value in options.items() if value is not None and value is not False}


def merge_options(is_for_building: bool = False) -> list[Option]:
    """The options of all targets for a command: one of each name, under a heading that names who has it.

    Args:
        is_for_building: those only that shape what is built beside a graph.
    """
    return [
        _merge(owners)
        for owners in list_options().values()
        if not is_for_building or any(option.is_for_building for option in owners.values())
    ]


def _merge(owners: Mapping[str, TargetOption]) -> Option:
    helps = {load_target(name).panel: option.help for name, option in owners.items()}
    is_one = len(set(helps.values())) == 1
    text = next(iter(helps.values())) if is_one else "; ".join(f"{panel}: {help}" for panel, help in helps.items())
    option = next(iter(owners.values()))
    default = False if option.kind is bool else None  # that it was not asked for is known of every other
    return Option(option.name, text, option.kind, default, " and ".join(helps), option.flags)


def _say_asked(option: TargetOption, value: OptionValue) -> str:
    """What was asked for as Python says it, with the flag where that is spelt otherwise."""
    flag = option.flags[0] if option.flags else ""
    is_other = flag.removeprefix("--").replace("-", "_") not in ("", option.name)
    return f"{option.name}={value}{f' ({flag})' if is_other else ''}"


def _explain_missing(target: Target, precision: str, name: str, value: OptionValue) -> SprintExportError:
    """The error for an option that a target does not declare."""
    owners = list_options().get(name, {})
    if not owners:
        return unknown_choice("option", name, (option.name for option in target.options))
    if name in target.lacks:
        flag = next(iter(owners.values())).flags[0]
        return RefusedError(f"{target.name}-{precision} {flag}{'' if value is True else f' {value}'}: {target.lacks[name]}")
    asked = _say_asked(next(iter(owners.values())), value)
    return InputError(f"{asked}: {target.name} targets have no such option; it is for {' and '.join(owners)} targets")
