"""A plain install, as seen from the development one: what `pip install .` does not bring cannot be imported.

python -m tests.plain_install sprint-export bench BUNDLE      # the command, as a plain install would run it
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.command_server import CAN_FORK, PLAIN, open_server
from tests.tree import ROOT


@cache
def list_brought() -> frozenset[str]:
    """Names of the distributions that a plain install brings: the project's dependencies and what these require."""
    lines: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    found: set[str] = set()
    todo = [Requirement(line) for line in lines]
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        try:
            todo += [Requirement(line) for line in requires(name) or []]
        except PackageNotFoundError:  # of another version of Python, or of another system
            continue
    return frozenset(found)


@cache
def list_missing() -> frozenset[str]:
    """Top-level modules that are installed here and that a plain install would not have."""
    owners = packages_distributions()
    brought = list_brought() | {"sprint-export", "setuptools", "pip"}
    return frozenset(module for module, names in owners.items() if not {canonicalize_name(name) for name in names} & brought)


class Hiding:
    """A finder that finds nothing of some top-level names, as where these are not installed."""

    def __init__(self, finder: Any, names: frozenset[str]) -> None:
        self._finder, self._names = finder, names

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The finder's answer, or None."""
        hides = name.partition(".")[0] in self._names
        found: ModuleSpec | None = None if hides else self._finder.find_spec(name, path, target)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)


def run_plain(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """The command as a plain install would run it, in a process of its own."""
    if CAN_FORK:
        return open_server(PLAIN).run(arguments, folder)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}
    command = [sys.executable, "-m", "tests.plain_install", "sprint-export", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment, timeout=300)


def hide_missing() -> None:
    """From now on this process is as a plain install."""
    hidden = list_missing()
    sys.meta_path[:] = [Hiding(finder, hidden) for finder in sys.meta_path]


if __name__ == "__main__":
    hide_missing()
    sys.argv = sys.argv[1:]
    from sprint_export.cli.entry import main

    main()
