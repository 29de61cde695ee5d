"""What `app.json` may say: what the manifest says, and no more.

The manifest knows the file by its hash, which its maker can make again; so the two are held against each other. What the manifest
cannot tell is taken from the file, within bounds: how many ids the tokenizer puts behind a text, and examples of prompts. Engines
may be fewer there than in the manifest: they are named there one by one while they are built, and in `app.json` when all are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sprint_export.app_contract import describe_app, find_ending
from sprint_export.bundle_files import APP
from sprint_export.export.safe_files import FileError, open_checked
from sprint_export.nouns.bundle import Artifact, Bundle
from sprint_export.strict_json import parse_json

MOST_BYTES = 4 << 20  # of the file; a full-size student's has under 0.1 million
MOST_ENDING = 16
MOST_EXAMPLES, MOST_LETTERS = 12, 1000


class AppError(ValueError):
    """How the two differ."""


@dataclass(frozen=True)
class Beyond:
    """What `app.json` says that no manifest does."""

    ending: int = 0
    examples: tuple[str, ...] = ()


def read_app(folder: Path) -> dict[str, Any]:
    """The value of the file, an object.

    Raises:
        AppError: it is missing, no regular file, too large, or no JSON object.
    """
    try:
        with open_checked(folder, APP) as file:
            data = file.read(MOST_BYTES + 1)
        found = parse_json(data) if len(data) <= MOST_BYTES else None
    except (FileError, OSError, ValueError, RecursionError) as error:  # ValueError: of what is no JSON, or no UTF-8
        raise AppError(str(error)) from error
    if not isinstance(found, dict):
        raise AppError(f"expected a JSON object of at most {MOST_BYTES} bytes")
    return found


def read_beyond(app: Mapping[str, Any]) -> Beyond:
    """What is to be taken from the file.

    Raises:
        AppError: it is out of bounds.
    """
    try:
        ending, examples = find_ending(app), app["examples"]
    except (KeyError, TypeError) as error:
        raise AppError("it is no description of an app") from error
    if type(ending) is not int or not 0 <= ending <= MOST_ENDING:
        raise AppError(f"keep_last: found {ending!r}, expected 0 to {MOST_ENDING}")
    is_short = isinstance(examples, list) and len(examples) <= MOST_EXAMPLES
    if not is_short or not all(isinstance(text, str) and len(text) <= MOST_LETTERS for text in examples):
        raise AppError(f"examples: expected at most {MOST_EXAMPLES} texts of at most {MOST_LETTERS} letters")
    return Beyond(ending, tuple(examples))


def check_app(bundle: Bundle) -> None:
    """Hold the file against the manifest, where that names it.

    Raises:
        AppError: what it says differs, or it cannot be read.
    """
    if not any(artifact.path == APP for artifact in bundle.artifacts):
        return
    found = read_app(bundle.folder)
    beyond = read_beyond(found)
    try:
        known = _list_later(found)
    except (AttributeError, KeyError, TypeError) as error:
        raise AppError("it is no description of an app") from error
    wanted = describe_app(_without_later(bundle, known), beyond.ending, beyond.examples)
    if found != wanted:
        raise AppError(f"{', '.join(name for name in {**wanted, **found} if found.get(name) != wanted.get(name))} differ")


def _list_later(found: Mapping[str, Any]) -> set[Any]:
    """What the file names of what a bundle gets after its export: engines by path and device, the reference."""
    known: set[Any] = set() if found["reference"] is None else {"reference"}
    for network in found["networks"].values():
        for graph in network["graphs"]:
            known |= {(str(engine["path"]), str(engine["device"])) for engine in graph.get("engines", ())}
    return known


def _without_later(bundle: Bundle, known: set[Any]) -> Bundle:
    """The bundle without engines and a reference beyond these."""

    def is_known(artifact: Artifact) -> bool:
        if artifact.kind == "engine":
            return (artifact.path, artifact.device) in known
        return artifact.kind != "reference" or "reference" in known

    return replace(bundle, artifacts=tuple(filter(is_known, bundle.artifacts)))
