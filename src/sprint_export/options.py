"""What one may ask of a target beside its precision, completed and checked before any work. Standard library only."""

from __future__ import annotations

from sprint_export.errors import InputError, RefusedError, SprintExportError, unknown_choice
from sprint_export.nouns.target import Device, Option, Options, OptionValue, Target
from sprint_export.registry import list_members, load_target

LARGEST = 1 << 42  # of a number
KINDS = {bool: "true or false", int: "a whole number", str: "a text"}


def complete_options(target: Target, precision: str, device: Device, options: Options) -> Options:
    """The options with the target's or the device's choice where they were left open; False leaves one open too.

    Raises:
        InputError: the target has no such option, or the option no such value. RefusedError: one cannot work with the pair.
    """
    asked = {name: value for name, value in options.items() if value is not False}
    declared = {option.name: option for option in target.options}
    for name, value in asked.items():
        if name not in declared:
            raise _explain_missing(target, precision, name, value)
        check_value(declared[name], value)
    filled = {name: asked.get(name, default_value(option)) for name, option in declared.items()}
    return target.complete(precision, device, {name: value for name, value in filled.items() if value is not None})


def default_value(option: Option) -> OptionValue | None:
    """What an option is that nobody asked for; None where the target or the device decides."""
    return False if option.kind is bool and option.default is None else option.default


def check_value(option: Option, value: OptionValue) -> None:
    """Refuse what an option cannot be.

    Raises:
        InputError: it is of another type, out of range, or none of the choices.
    """
    if type(value) is not option.kind:
        raise InputError(f"{option.name}={value!r}: expected {KINDS[option.kind]}")
    if isinstance(value, int) and not 1 <= value <= LARGEST:
        bound = "at least 1" if value < 1 else f"at most {LARGEST}"
        raise InputError(f"{option.name}={value}: expected {bound} ({option.unit})")
    if isinstance(value, str) and option.choices and value not in option.choices:
        raise unknown_choice(option.name.replace("_", " "), value, option.choices)


def list_options() -> dict[str, dict[str, Option]]:
    """Names of all options -> by target, as that target declares it."""
    options: dict[str, dict[str, Option]] = {}
    for target in map(load_target, list_members("target")):
        for option in target.options:
            options.setdefault(option.name, {})[target.name] = option
    return options


def _explain_missing(target: Target, precision: str, name: str, value: OptionValue) -> SprintExportError:
    """The error for an option that a target does not declare."""
    owners = list_options().get(name, {})
    if not owners:
        return unknown_choice("option", name, (option.name for option in target.options))
    if name in target.lacks:
        flag = next(iter(owners.values())).flag
        return RefusedError(f"{target.name}-{precision} {flag}{'' if value is True else f' {value}'}: {target.lacks[name]}")
    return InputError(f"{name}={value}: {target.name} targets have no such option; it is for {' and '.join(owners)} targets")
