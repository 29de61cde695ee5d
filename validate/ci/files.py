"""Where the files for CI go: asked before any work, written whole at its end."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sprint_export.disk_errors import clear_disk_errors
from sprint_export.errors import InputError
from sprint_export.files import write_text
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.report import Report
from sprint_export.paths import is_file, is_folder
from sprint_export.validate.ci.junit import format_junit
from sprint_export.validate.ci.markdown import format_markdown

ADVICE = "choose another file"


@dataclass(frozen=True)
class CiFiles:
    """Files that a run leaves for a CI service; None: not asked for."""

    junit: Path | None = None
    markdown: Path | None = None

    def check(self) -> None:
        """Refuse, before any work, what cannot be written.

        Raises:
            InputError: the folder is not there, or a folder is where the file should be; both are one file.
        """
        for name, path in (("--junit", self.junit), ("--markdown", self.markdown)):
            if path is None:
                continue
            if path.exists() and not is_file(path):  # a device or a folder, which a file would take the place of
                raise InputError(f"{name} {path} is no file; expected one, or a new name")
            if not is_folder(path.absolute().parent):
                raise InputError(f"{name} {path}: the folder {path.absolute().parent} does not exist")
            if not os.access(path.absolute().parent, os.W_OK):
                raise InputError(f"{name} {path}: nothing can be written into {path.absolute().parent}; {ADVICE}")
        if self.junit is not None and self.markdown is not None and self.junit.absolute() == self.markdown.absolute():
            raise InputError(f"--junit and --markdown are both {self.junit}; expected two files")

    def write(self, results: Sequence[Report | Bundle], allow_undecided: bool = False) -> None:
        """Write what was asked for, in place of what is there.

        Raises:
            MachineError: the disk is full. InputError: the file cannot be written.
        """
        if self.junit is not None:
            _write(self.junit, format_junit(results, allow_undecided))
        if self.markdown is not None:
            _write(self.markdown, format_markdown(results))


def _write(path: Path, text: str) -> None:
    with clear_disk_errors(path, ADVICE):
        write_text(path, text)
