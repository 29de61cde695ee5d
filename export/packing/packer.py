"""What packs a file format: its graphs as the destination's loader takes them, and whether that changed nothing.

A format whose files ship as they are needs no packer of its own; another's stands beside its exporter, in
`export/<exporter>/packer.py`, as PACKER.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sprint_export.errors import BundleError, RefusedError
from sprint_export.export.bundle import hash_file, locate
from sprint_export.nouns.bundle import Artifact, Bundle, ComponentRecord
from sprint_export.nouns.chain import Stage
from sprint_export.nouns.destination import Destination
from sprint_export.nouns.target import Target

SHIPPED = ("graph", "weights", "package", "engine")  # kinds of a network's files that an app loads


@dataclass(frozen=True)
class Layout:
    """How files are wanted: for whom, weights beside the graph in files of `shard_bytes` where that is given (0: by size)."""

    destination: Destination
    shard_bytes: int = 0


class Packer:
    """Copies a network's files as they are."""

    needs: tuple[str, ...] = ()  # modules it imports

    def pack_network(self, bundle: Bundle, record: ComponentRecord, layout: Layout, folder: Path) -> None:
        """Write what ships of a network into an empty folder, and see that it computes the same.

        Raises:
            BundleError: a file of the bundle is damaged. RefusedError: it cannot be packed for the destination.
            InputError: weights are wanted in files of a size, and the format has a form of its own.
        """
        if layout.shard_bytes:
            raise RefusedError(f"the files of {bundle.target} bundles ship as they are: expected no size of shards")
        for artifact in list_shipped(bundle, record.role):
            target = folder / PurePosixPath(artifact.path).relative_to(record.role)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(locate(bundle, artifact.path), target)
            if hash_file(target) != artifact.sha256:
                raise BundleError(f"{artifact.path} changed while it was copied; run the same command again")

    def join_networks(self, bundle: Bundle, stages: Sequence[Stage], layout: Layout, folder: Path) -> None:
        """Write all networks as one graph, `model.onnx`, into an empty folder.

        Raises:
            RefusedError: the format cannot.
        """
        raise RefusedError(f"the networks of {bundle.target} bundles cannot be one graph: only those in ONNX files can")


def list_shipped(bundle: Bundle, role: str) -> list[Artifact]:
    """A network's files that ship, each once."""
    found = {each.path: each for each in bundle.artifacts if each.role == role and each.kind in SHIPPED}
    return list(found.values())


def load_packer(target: Target) -> Packer:
    """The packer of a target's files."""
    name = f"sprint_export.export.{target.exporter}.packer"
    if importlib.util.find_spec(name) is None:
        return Packer()
    packer: Packer = importlib.import_module(name).PACKER
    return packer
