"""Where the bundle lies that was typed: every verb that takes one finds it here."""

from __future__ import annotations

from pathlib import Path

from sprint_export.cli.bars import progress_bars
from sprint_export.cli.screen import stderr, verbosity


def find_source(source: str) -> Path:
    """The folder of that name, or where the files of a hub id were put, with a bar while they come.

    Raises:
        InputError, BundleError, MachineError: as `runtimes.hub.find_bundle`.
    """
    from sprint_export.runtimes.hub import find_bundle

    with progress_bars(stderr, verbosity.is_quiet, verbosity.is_verbose) as progress:
        return find_bundle(source, progress)
