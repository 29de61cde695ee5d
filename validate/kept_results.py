"""What a bundle drew of each prompt as a file: read back when it is looked at, and not drawn again by a run that goes on.

Once a portion's files are there, what its networks gave is not kept any longer: of 1024 px that is five times as much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sprint_export.nouns.bundle import Bundle
from sprint_export.progress import Progress
from sprint_export.runtimes.runtime import Runtime
from sprint_export.students.family import Draws
from sprint_export.validate.kept import Kept
from sprint_export.validate.rows import Array, open_rows
from sprint_export.validate.side_by_side import NO_MASK, Drawn, describe_side, draw_exported

RESULT = "result"  # before the question of a file's name
PICTURE, LATENTS, RAN_ON, NOTICED = "picture", "latents", "ran_on", "noticed"  # in a file


@dataclass(frozen=True)
class KeptResults:
    """The exported side of a validation whose pictures lie on a disk.

    Args:
        bundle: its files.
        runtime: that draws.
        kept: where results are kept until the report is written.
    """

    bundle: Bundle
    runtime: Runtime
    kept: Kept

    def draw(self, draws: Draws, progress: Progress, heeds_findings: bool) -> Drawn:
        """Draw what is missing; with `heeds_findings` also what a session noticed something at, as that is in no file."""
        paths = self.list_paths(draws)
        missing = [place for place, path in enumerate(paths) if self._is_missing(path, heeds_findings)]
        if not missing:
            return self._read(paths)
        working = Kept(self.kept.kind, self.kept.owner)
        drawn = draw_exported(self.bundle, self.runtime, draws.take(missing), progress, working)
        self._write([paths[place] for place in missing], drawn)
        working.forget()
        return self._read(paths, drawn)

    def keep(self, draws: Draws, drawn: Drawn) -> Drawn:
        """What was drawn of all these prompts; its pictures lie in files from now on."""
        paths = self.list_paths(draws)
        self._write(paths, drawn)
        return self._read(paths, drawn)

    def list_paths(self, draws: Draws) -> list[Path]:
        """Where each result is, once it was drawn."""
        question = [RESULT, describe_side(self.bundle, self.runtime.title)]
        return [self.kept.locate([*question, *one.prompts], {"noise": one.noise, **one.inputs}) for one in draws.split()]

    def _is_missing(self, path: Path, heeds_findings: bool) -> bool:
        values = self.kept.read(path)
        return values is None or (heeds_findings and bool(values[NOTICED]))

    def _write(self, paths: Sequence[Path], drawn: Drawn) -> None:
        beside = {RAN_ON: np.array(drawn.description), NOTICED: np.array(any(each.findings for each in drawn.traces.values()))}
        for row, path in enumerate(paths):
            values: dict[str, Array] = {PICTURE: drawn.pictures[row : row + 1][0], LATENTS: drawn.latents[row : row + 1][0]}
            self.kept.write(path, values | beside, is_needed=True)

    def _read(self, paths: Sequence[Path], drawn: Drawn | None = None) -> Drawn:
        """All of a portion, of which `drawn` was drawn in this run."""
        (pictures, latents), values = open_rows(self.kept, paths, (PICTURE, LATENTS))
        if drawn is None:
            return Drawn(pictures, latents, NO_MASK, {}, str(values[RAN_ON]))
        return replace(drawn, pictures=pictures, latents=latents)
