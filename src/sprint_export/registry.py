"""The folder is the registry: members of students/, quantize/schemes/, runtimes/ and validate/ are found by their files.

Names are listed by reading the source, never by importing it, so listing needs none of the libraries the members wrap;
only the member that is asked for is imported.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

from sprint_export.errors import unknown_choice
from sprint_export.nouns.target import Target

KINDS = {  # kind -> the stage it belongs to, and which of its files declare one
    "student": ("students", "*/family.py"),
    "judge": ("students", "*/judge.py"),
    "scheme": ("quantize.schemes", "*.py"),
    "target": ("runtimes", "*/target.py"),
    "runtime": ("runtimes", "*/*.py"),
    "entry": ("validate.comparing.entries", "*.py"),
    "metric": ("validate.image_metrics", "*.py"),
    "prompt_set": ("validate.prompt_sets", "*.py"),
}
CONSTANTS = {kind: kind.upper() for kind in KINDS} | {"student": "FAMILY"}


@cache
def list_members(kind: str) -> dict[str, str]:
    """Names of a kind -> module names, sorted. A member's name is the `name=` of its top-level constant."""
    stage, pattern = KINDS[kind]
    spec = importlib.util.find_spec(f"sprint_export.{stage}")  # finds the folder without running its code
    assert spec is not None and spec.submodule_search_locations is not None
    found = {}
    for location in spec.submodule_search_locations:
        for path in sorted(Path(location).glob(pattern)):
            name = _declared_name(path, CONSTANTS[kind])
            if name is not None:
                found[name] = ".".join(("sprint_export", stage, *path.relative_to(location).with_suffix("").parts))
    return dict(sorted(found.items()))


def _declared_name(path: Path, constant: str) -> str | None:
    """The literal of `SCHEME = Scheme(name="x", ...)`, `TARGET = SomeTarget(name="x", ...)` and their like."""
    text = path.read_text("utf-8")
    for node in ast.parse(text).body if f"\n{constant} = " in text else ():
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == constant:
            if isinstance(node.value, ast.Constant):
                return str(node.value.value)
            if isinstance(node.value, ast.Call):
                return next(
                    (str(k.value.value) for k in node.value.keywords if k.arg == "name" and isinstance(k.value, ast.Constant)),
                    None,
                )
    return None


def load_member(kind: str, name: str) -> ModuleType:
    """Import the one member that is asked for.

    Raises:
        InputError: no member has that name; the message lists them.
    """
    members = list_members(kind)
    if name not in members:
        raise unknown_choice(kind, name, members)
    return importlib.import_module(members[name])


def load_target(name: str) -> Target:
    """The target of that name.

    Raises:
        InputError: there is none; the message lists them.
    """
    target: Target = load_member("target", name).TARGET
    return target
