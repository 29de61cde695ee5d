"""Every error of the package, and the exit status the command line gives it.

A message says what was found, what was expected and what to do; where there is a choice it lists the choices.
"""

from __future__ import annotations

from collections.abc import Iterable


class SprintExportError(Exception):
    """Base of all errors that a user can act on; `exit_status` is the command line's."""

    exit_status = 2


class InputError(SprintExportError):
    """The user's input is wrong: a name, a path, a file's content, a value."""


class RefusedError(SprintExportError):
    """The input is well formed but the combination cannot work; the message names the nearest that can."""


class BundleError(SprintExportError):
    """A bundle's files do not fit its manifest: missing, truncated, altered, or pointing outside the bundle."""


class MachineError(SprintExportError):
    """The machine lacks something: a library, a GPU, disk space. The message names it."""

    exit_status = 3


def unknown_choice(kind: str, found: str, choices: Iterable[str], hint: str = "") -> InputError:
    """An error for a name that is not among the choices, listing them."""
    listed = ", ".join(sorted(choices)) or "(none)"
    return InputError(f"unknown {kind} {found!r}; choose from: {listed}{'. ' + hint if hint else ''}")
