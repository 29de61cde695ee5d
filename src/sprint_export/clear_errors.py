"""What the machine lacks, said clearly: an exception of some library as a MachineError of ours. Standard library only.

    a module that is not there   which extra brings it
    a module that will not load  why, and that it is to be installed again
    memory that ran short        how much there was, and what to do
    the system refused a file    which one and why
Anything else is a mistake in the package and stays what it is.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator

from sprint_export.errors import LONGEST, InputError, MachineError, SprintExportError
from sprint_export.libraries import missing_library, name_install
from sprint_export.process_memory import ADVICE, describe_free_memory, is_space_used_up

OWN = "sprint_export"
# What libraries say in errors of many types when they get no memory; lower case.
_MEMORY_WORDS = (
    "unable to mmap",
    "cannot allocate memory",
    "can't allocate memory",
    "not enough memory",
    "defaultcpuallocator",
    "bad_alloc",
    "bad allocation",
    "failed to map segment",
    "out of memory",
    "unable to allocate",
    "failed to allocate memory",
    "can't start new thread",
    "insufficient memory",
)


def explain_error(error: BaseException) -> SprintExportError | None:
    """The error as one of ours, or None where it is a mistake in the package."""
    causes = list(_causes(error))
    if any(map(is_memory_short, [*causes, *_contexts(error)])) or (not _is_ours(error) and is_space_used_up()):
        return MachineError(f"memory ran short ({describe_free_memory()}); {ADVICE}")
    if isinstance(error, SprintExportError):
        return error
    for cause in causes:
        if isinstance(cause, ImportError) and (found := _explain_import(cause)) is not None:
            return found
    if isinstance(error, UnicodeEncodeError) and any("\ud800" <= letter <= "\udfff" for letter in error.object):
        return InputError(f"{error.object[:80]!r} is not UTF-8; rename it, or write it in UTF-8")
    return _explain_refusal(error) if isinstance(error, OSError) else None


def _explain_refusal(error: OSError) -> SprintExportError:
    name = str(error.filename or "a file")
    shown = name if len(name) <= LONGEST else f"{name[:LONGEST]}..."
    kind = InputError if error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR) else MachineError
    return kind(f"the system refused {shown} ({error.strerror or error})")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from."""
    seen: set[int] = set()
    while id(error) not in seen:
        yield error
        seen.add(id(error))
        if error.__cause__ is None:
            return
        error = error.__cause__


def _contexts(error: BaseException) -> Iterator[BaseException]:
    """What was being handled when the error came up, innermost last."""
    seen: set[int] = set()
    while error.__context__ is not None and id(error) not in seen:
        seen.add(id(error))
        error = error.__context__
        yield error


def _is_ours(error: BaseException) -> bool:
    return isinstance(error, SprintExportError)


def is_memory_short(error: BaseException) -> bool:
    """Whether some library got no memory."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    text = str(error).lower()
    return not isinstance(error, SprintExportError) and any(words in text for words in _MEMORY_WORDS)


def _explain_import(error: ImportError) -> MachineError | None:
    name = (error.name or "").partition(".")[0]
    if name == OWN or (name in sys.stdlib_module_names and isinstance(error, ModuleNotFoundError)):
        return None
    if isinstance(error, ModuleNotFoundError) and name:
        return missing_library(name)
    install = name_install([name]) if name else f"'{OWN.replace('_', '-')}[all]'"
    return MachineError(f"{name or 'a library'} cannot be loaded ({error}); run: pip install --force-reinstall {install}")
