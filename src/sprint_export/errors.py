"""Every error of the package, and the exit status the command line gives it.

A message says what was found, what was expected and what to do; where there is a choice it lists the choices.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own would load it, before the command hears a Ctrl-C
if TYPE_CHECKING:
    from collections.abc import Iterable

SHORTEST = 3  # letters of a beginning that says something
LONGEST = 200  # letters of a wrong name that are said


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
    """An error for a name that is not among the choices: all of them, and the one that was probably meant."""
    choices, shown = sorted(choices), found if len(found) <= LONGEST else f"{found[:LONGEST]}..."
    sentences = [f"unknown {kind} {shown!r}; choose from: {', '.join(choices) or '(none)'}"]
    if (meant := nearest_name(found, choices)) is not None:
        sentences.append(f"Did you mean {meant!r}?")
    return InputError(". ".join([*sentences, *([hint] if hint else [])]).replace("?. ", "? "))


def nearest_name(found: str, choices: Iterable[str]) -> str | None:
    """The choice that is spelt most alike, or that begins so; None where none is alike."""
    import difflib  # late: a Ctrl-C is heard only once this module is loaded

    by_lower, wanted = {choice.lower(): choice for choice in choices}, found.lower()[:LONGEST]
    alike = difflib.get_close_matches(wanted, by_lower, n=1, cutoff=0.6)
    alike = alike or [name for name in by_lower if len(wanted) >= SHORTEST and name.startswith(wanted)]
    return by_lower[alike[0]] if alike else None
