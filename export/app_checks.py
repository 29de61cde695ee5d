"""What `app.json` may say: what the manifest says, and no more.

The manifest knows the file by its hash, which its maker can make again; so the two are held against each other. What the manifest
cannot tell, how many ids the tokenizer puts behind a text, is taken from the file. Engines may be fewer there than in the
manifest: they are named there one by one while they are built, and in `app.json` when all are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sprint_export.app_contract import describe_app, find_ending
from sprint_export.bundle_files import APP
from sprint_export.export.safe_files import open_checked
from sprint_export.nouns.bundle import Artifact, Bundle
from sprint_export.strict_json import parse_json

MOST_BYTES = 4 << 20  # of the file; a full-size student's has under 0.1 million
MOST_ENDING = 16


class AppError(ValueError):
    """How the two differ."""


def check_app(bundle: Bundle) -> None:
    """Hold the file against the manifest, where that names it.

    Raises:
        AppError: what it says differs, or it cannot be read.
    """
    if not any(artifact.path == APP for artifact in bundle.artifacts):
        return
    try:
        with open_checked(bundle.folder, APP) as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise AppError(f"found more than {MOST_BYTES} bytes")
        found: Any = parse_json(data)
        ending = find_ending(found)
    except (OSError, ValueError) as error:
        raise AppError(str(error)) from error
    if not 0 <= ending <= MOST_ENDING:
        raise AppError(f"keep_last: found {ending}, expected 0 to {MOST_ENDING}")
    try:
        known = _list_later(found)
    except (AttributeError, KeyError, TypeError) as error:
        raise AppError("it is no description of an app") from error
    wanted = describe_app(_without_later(bundle, known), ending)
    if found != wanted:
        raise AppError(f"{_find_difference(found, wanted)} differ")


def _list_later(found: Any) -> set[Any]:
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


def _find_difference(found: Any, wanted: Any) -> str:
    if not isinstance(found, dict):
        return "its fields"
    return ", ".join(sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name)))
