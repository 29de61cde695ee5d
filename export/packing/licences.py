"""What an app has to say of what it ships: the terms of the student, of the parts it took from others, and of this package."""

from __future__ import annotations

from sprint_export.nouns.bundle import Bundle
from sprint_export.students.family import load_family
from sprint_export.students.source import RANDOM, is_embedded

LICENCES = "LICENCES.txt"
_OWN = """sprint-export
    The graphs were written by sprint-export, whose code is under the Apache License 2.0; what it writes is under the terms of
    what it was made from, and under none of its own.
"""


def describe_licences(bundle: Bundle) -> str:
    """The text of `LICENCES.txt`: facts of the manifest and of the student's family; it is no legal advice."""
    source = bundle.source + (f" at revision {bundle.revision}" if bundle.revision else "")
    stated = bundle.licence.strip() or "not stated; see the model's page"
    lines = [
        "Licences of what is in this folder. An app that ships these files ships them under these terms.",
        "",
        f"The student's networks ({', '.join(record.role for record in bundle.components)})",
        f"    Made from {source}; its licence, as its model card states it: {stated}",
        "    Weights were changed: specialized to fixed steps, and rounded where the target's precision says so.",
        "",
        "The tokenizer (tokenizer/tokenizer.json)",
        "    It came with the student, under the student's terms where no others are said below.",
        "",
    ]
    if notices := _find_notices(bundle):
        lines += ["Parts of others", *(f"    {notice}" for notice in notices), ""]
    return "\n".join(lines) + _OWN


def _find_notices(bundle: Bundle) -> tuple[str, ...]:
    """What a family knows of its released checkpoints; students of this package's own hold nothing of others."""
    if is_embedded(bundle.source) or bundle.source.startswith(RANDOM):
        return ()
    return load_family(bundle.family).notices
