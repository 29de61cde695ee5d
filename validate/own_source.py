"""Students that a bundle's manifest names: a bundle may come from anywhere, so only those of this package are opened unasked."""

from __future__ import annotations

import shlex

from sprint_export.errors import InputError
from sprint_export.nouns.student import Student
from sprint_export.students.source import RANDOM, is_embedded


def check_own_source(source: str) -> None:
    """Refuse a source that only the user may have opened.

    Raises:
        InputError: it is a folder or a hub id.
    """
    if not is_embedded(source) and not source.startswith(RANDOM):
        raise InputError(
            f"this bundle says it was made from {source!r}; a folder or download that a bundle names is not opened by itself. If "
            f"you trust it, give it: --student {shlex.quote(source)}"
        )


def load_own_source(source: str) -> Student:
    """The student that a bundle names.

    Raises:
        InputError: as `check_own_source`.
    """
    from sprint_export.students import load_student

    check_own_source(source)
    return load_student(source)
