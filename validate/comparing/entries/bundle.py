"""A bundle of this package, in either layout, drawn by the runtime that opens it here."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sprint_export.bundle_files import MANIFEST
from sprint_export.errors import InputError
from sprint_export.validate.comparing.entry import Drawn, Entry, EntryKind, Setting

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sprint_export.nouns.bundle import Bundle
    from sprint_export.session import Pipeline

WEIGHED = ("graph", "weights")
SHADOW = ", its graphs' float32 shadow: no latency"


class Bundles(EntryKind):
    """Folders with a manifest."""

    title, holds, rank = "a bundle", f"{MANIFEST} and what it names", 2

    def opens(self, folder: Path) -> bool:
        return (folder / MANIFEST).is_file()

    def weigh(self, folder: Path) -> int:
        from sprint_export.export.bundle import read_manifest

        return sum(artifact.bytes for artifact in read_manifest(folder).artifacts if artifact.kind in WEIGHED)

    def open(self, folder: Path, setting: Setting) -> Entry:
        from sprint_export.export.bundle import read_bundle
        from sprint_export.runtimes.open import choose_runtime, open_pipeline

        bundle = read_bundle(folder)
        _check_bundle(bundle, setting)
        runtime = choose_runtime(bundle, None)
        pipeline = replace(open_pipeline(bundle, runtime), steps=len(setting.times))
        is_shadow = runtime.opens_shadows and any(a.kind == "shadow" for a in bundle.artifacts)
        made_by = f"{bundle.target}-{bundle.precision}, {pipeline.description}" + (SHADOW if is_shadow else "")
        return BundleEntry(pipeline, made_by, self.weigh(folder), is_shadow)


@dataclass
class BundleEntry(Entry):
    """A bundle's pipeline; what a shadow takes says nothing of what it stands for, and is not given."""

    pipeline: Pipeline
    description: str
    bytes: int | None
    is_shadow: bool = False
    is_measured: bool = True

    def draw(self, place: int, prompt: str, noise: npt.NDArray[np.float32]) -> Drawn:
        start = time.perf_counter()
        pictures = self.pipeline([prompt], noise=noise)
        return Drawn(pictures[0], None if self.is_shadow else time.perf_counter() - start)


def _check_bundle(bundle: Bundle, setting: Setting) -> None:
    """Whether a bundle draws what the others do: its student, times and guidance are theirs.

    Raises:
        InputError: they are not.
    """
    if bundle.fingerprint != setting.student.fingerprint:
        raise InputError(
            f"{bundle.folder} was made from {bundle.source!r}, which is not {setting.student.source!r}: their weights have other "
            "sha256; compare bundles of one student, and name it with --student"
        )
    rows = bundle.plan.rows(len(setting.times))
    found = tuple(bundle.plan.times[row] for row in rows)
    if found != setting.times or bundle.plan.guidance != setting.guidance:
        raise InputError(
            f"{bundle.folder} draws at times {found} with guidance {bundle.plan.guidance:g}, the others at {setting.times} with "
            f"{setting.guidance:g}; compare bundles that were made for the same"
        )


ENTRY = Bundles(name="bundle")
