"""What a picture says of the bundle and the runtime that drew it."""

from __future__ import annotations

from pathlib import Path

from sprint_export import __version__
from sprint_export.bundle_files import MANIFEST
from sprint_export.export.bundle import hash_file, read_bundle
from sprint_export.nouns.bundle import Bundle
from sprint_export.picture_files import Making
from sprint_export.session import Pipeline


def name_student(bundle: Bundle) -> str:
    """The last part of what a bundle was made from: not the folders of the machine that made it."""
    return Path(bundle.source).name or bundle.family


def describe_making(pipeline: Pipeline, folder: Path, size: tuple[int, int]) -> Making:
    """All that pictures of a bundle have in common; prompt and seed are left open.

    Args:
        pipeline: opened over the bundle.
        folder: the bundle.
        size: width and height in pixels.
    """
    bundle = read_bundle(folder, verify=False)
    return Making(
        prompt="",
        seed=0,
        steps=len(pipeline.plan.rows(pipeline.steps)),
        size=size,
        student=name_student(bundle),
        target=f"{bundle.target}-{bundle.precision}",
        bundle_sha256=hash_file(folder / MANIFEST),
        runs_on=pipeline.description,
        version=__version__,
    )
