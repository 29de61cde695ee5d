"""What writes a file format: every exporter offers these two verbs and says whose versions shape its files."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from pathlib import Path, PurePath
from typing import ClassVar

from sprint_export.nouns.bundle import ComponentRecord
from sprint_export.nouns.student import Component, Student
from sprint_export.nouns.target import Options, Target


class Exporter(ABC):
    """One file format. `tools` are distributions whose versions shape the files."""

    format: ClassVar[str]
    tools: ClassVar[tuple[str, ...]]

    def suit(self, student: Student, options: Options) -> Exporter:
        """The exporter of one student: itself, unless files depend on more than their component.

        Raises:
            RefusedError: the student and the options do not go together.
        """
        return self

    def write_beside(self, folder: Path) -> list[Path]:
        """Write what the bundle holds beside its networks' folders and the tokenizer, and say which files; by default none.

        Raises:
            OSError: the disk is full or the folder is not writable.
        """
        return []

    @abstractmethod
    def write_component(
        self, component: Component, target: Target, precision: str, options: Options, folder: Path
    ) -> ComponentRecord:
        """Write a component's files into an empty folder.

        Raises:
            InputError: the component is not specialized, or holds what the format does not.
            MachineError: a library is missing. OSError: the disk is full or the folder is not writable.
        """

    @abstractmethod
    def kind_of(self, path: PurePath) -> str | None:
        """What a file of a component's folder is to the bundle; None for what is not the format's."""


def load_exporter(target: Target) -> Exporter:
    """The exporter of a target's files."""
    exporter: Exporter = importlib.import_module(f"sprint_export.export.{target.exporter}.writer").EXPORTER
    return exporter
