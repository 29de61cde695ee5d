"""pack_bundle: a folder that holds what ships with an app and nothing else, read back and drawn with before it is published.

    bundle --check--> work folder: graphs, tokenizer, reference, licences, app.json --draw beside the bundle--> its own place
What is published was read from the disk again, every hash compared; a run that is killed leaves its work folder to the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sprint_export.bundle_files import MANIFEST, REFERENCE
from sprint_export.errors import BundleError, InputError, MachineError
from sprint_export.export.bundle import find_file, hash_file, read_bundle
from sprint_export.export.packing.gather import Packing, check_packing, gather_packed
from sprint_export.export.packing.packer import Layout, load_packer
from sprint_export.export.publishing import discard_work, publish_bundle
from sprint_export.libraries import DRAWING, check_installed
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.destination import find_destination
from sprint_export.out_folder import check_out, read_present
from sprint_export.progress import Progress, Step, quiet
from sprint_export.registry import load_target
from sprint_export.runtimes.checking import read_further, read_reference
from sprint_export.runtimes.hub import find_bundle
from sprint_export.runtimes.open import choose_runtime, open_pipeline
from sprint_export.runtimes.reference import add_reference
from sprint_export.work_folder import claim_bundle, find_work_folder

if TYPE_CHECKING:
    from sprint_export.runtimes.runtime import Runtime
    from sprint_export.session import Array

MOST_APART = 2  # of 255; more is another picture, and nothing is published
PROMPT, SEED = "a red circle above a blue square", 0  # what both draw
WEB_SAFE_FILE = 0x7FE00000  # bytes of the longest ArrayBuffer that Chrome makes (nouns/destination.py)
LARGEST_SHARD_MB = 4000


@dataclass(frozen=True)
class PackedFile:
    """One file of a packed folder."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Comparison:
    """One picture drawn with the bundle and with the packed folder, in one runtime.

    `pixels`: the largest difference of 255; `values`: of the decoder's floats, where -1 to 1 are black and white.
    """

    runtime: str
    pixels: int
    values: float


@dataclass(frozen=True)
class Packed:
    """A packed folder, its files, largest first, and how its picture compares; `undrawn` says why there is none."""

    folder: Path
    destination: str
    files: tuple[PackedFile, ...]
    comparison: Comparison | None = None
    undrawn: str = ""
    notes: tuple[str, ...] = ()
    is_new: bool = True

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in self.files)

    @property
    def largest(self) -> PackedFile:
        """The file that takes the longest to load."""
        return self.files[0]


def pack_bundle(
    bundle: str | Path,
    destination: str,
    out: str | Path | None = None,
    one_graph: bool = False,
    shard_megabytes: int | None = None,
    overwrite: bool = False,
    draws: bool = True,
    progress: Progress = quiet,
) -> Packed:
    """Put what ships of a bundle into a folder of its own; `open_bundle` opens it as it opens the bundle.

    Args:
        bundle: the folder of a bundle as it was exported, or the hub id of one.
        destination: web, node, cpp, windows or apple: those that the bundle's target ships to.
        out: the new folder; default: `<bundle>-<destination>` in the working directory.
        one_graph: make one ONNX graph of all networks, ids, mask and noise to a picture; for one step.
        shard_megabytes: keep weights beside graphs, in files of at most so many 10^6 bytes; a larger tensor has one of its own.
            Default: what the destination's loader takes (nouns/destination.py).
        overwrite: replace a bundle, packed or not, that is at `out`.
        draws: draw one picture with the bundle and one with the packed folder, network by network.
        progress: is told (step, done, total).

    Returns:
        The folder and its files. Where the same is there already and whole, nothing is written.

    Raises:
        InputError: no bundle there, an unknown destination, or something else than a bundle at `out`.
        RefusedError: the target does not ship there, or its networks cannot be one graph.
        BundleError: a file is damaged, or the packed folder draws another picture.
        MachineError: a library is missing, another run works on `out`, or the disk is full.
    """
    source = read_bundle(find_bundle(bundle, progress))
    layout = Layout(find_destination(destination), _read_shard(shard_megabytes))
    packing = Packing(source, layout, one_graph)
    check_packing(packing)
    if one_graph and not draws:
        raise InputError("one graph is checked by the picture that it draws; leave --no-draw out")
    check_installed((*load_packer(load_target(source.target)).needs, *(DRAWING if draws else ())))
    folder = _choose_out(source.folder, destination, out, overwrite)
    present = read_present(folder, overwrite)
    if present is not None and present.key == packing.key:
        _clear_work(folder, packing.key)
        return _describe(present, destination, is_new=False)
    if present is not None and not overwrite:
        raise InputError(f"--out {folder} holds another bundle; choose another folder, or add --overwrite")
    with claim_bundle(folder) as work:
        packed = gather_packed(packing, work, progress)
        if one_graph and find_file(source, REFERENCE) is not None:  # whose stages are several: drawn again with the one
            further = [drawing["prompt"] for drawing in read_further(source)]
            packed = add_reference(packed, read_reference(source)[0]["prompt"], progress, further=further)
        result = _describe(read_bundle(packed.folder), destination)
        if draws:
            comparison, reason = _compare(source, packed, progress)
            if one_graph and comparison is None:
                raise MachineError(f"one graph is checked by the picture that it draws, and none can be drawn here: {reason}")
            result = replace(result, comparison=comparison, undrawn=reason)
        return replace(result, folder=publish_bundle(packed, folder).folder)


def _clear_work(folder: Path, key: str) -> None:
    """Take away what a run left that was killed when its packed folder stood: the one it took the place of."""
    if find_work_folder(folder.resolve()).exists():
        with claim_bundle(folder) as work:
            discard_work(work, key)


def _read_shard(megabytes: int | None) -> int:
    if megabytes is not None and not 1 <= megabytes <= LARGEST_SHARD_MB:
        raise InputError(f"shard_megabytes={megabytes} (--shard-mb): expected 1 to {LARGEST_SHARD_MB}")
    return (megabytes or 0) * 1_000_000


def _choose_out(source: Path, destination: str, out: str | Path | None, overwrite: bool) -> Path:
    folder = Path(f"{source.resolve().name}-{destination}") if out is None else Path(out)
    folder = check_out(folder, overwrite)
    here, there = source.resolve(), folder.resolve()
    if here.is_relative_to(there) or there.is_relative_to(here):
        raise InputError(f"--out {folder}: the bundle is there, or around it; expected a folder of its own")
    return folder


def _describe(packed: Bundle, destination: str, is_new: bool = True) -> Packed:
    """Its files as they lie there, the manifest among them."""
    found = {each.path: PackedFile(each.path, each.bytes, each.sha256) for each in packed.artifacts}
    manifest = packed.folder / MANIFEST
    found[MANIFEST] = PackedFile(MANIFEST, manifest.stat().st_size, hash_file(manifest))
    files = sorted(found.values(), key=lambda file: (-file.bytes, file.path))
    notes = tuple(
        f"{file.path} is longer than the longest ArrayBuffer of Chrome ({WEB_SAFE_FILE:,} bytes): one tensor alone is; ONNX "
        "Runtime Web reads it into WebAssembly memory"
        for file in files
        if destination == "web" and file.bytes > WEB_SAFE_FILE
    )
    return Packed(packed.folder, destination, tuple(files), notes=notes, is_new=is_new)


def _compare(source: Bundle, packed: Bundle, progress: Progress) -> tuple[Comparison | None, str]:
    """The same prompt and seed with both, or why not: an engine without its GPU, a graph whose shadow stayed behind."""
    import numpy as np

    from sprint_export.session import to_uint8

    drawn: list[Array] = []
    runtime: Runtime | None = None
    for i, bundle in enumerate((source, packed)):
        progress(Step("drawing"), i, 2)
        if bundle is packed and any(artifact.kind == "shadow" for artifact in source.artifacts):
            return None, "its graphs are for another runtime than those here, and the shadows that check them do not ship"
        try:
            runtime = runtime or choose_runtime(bundle, None)
            drawn.append(_draw(bundle, runtime))
        except MachineError as error:
            return None, str(error)
    progress(Step("drawing"), 2, 2)
    assert runtime is not None
    first, second = drawn
    pixels = np.abs(to_uint8(first).astype(np.int16) - to_uint8(second).astype(np.int16))
    found = Comparison(runtime.name, int(pixels.max()), float(np.abs(first - second).max()))
    if found.pixels > MOST_APART:
        raise BundleError(
            f"the packed folder draws another picture than {source.folder}: {found.pixels} of 255 apart, expected at most "
            f"{MOST_APART}; nothing was published. Pack it without --one-graph, or export the student again"
        )
    return found, ""


def _draw(bundle: Bundle, runtime: Runtime) -> Array:
    """The decoder's floats [1, 3, H, W] of one picture, one network in memory at a time."""
    pipeline = replace(open_pipeline(bundle, runtime, one_at_a_time=True), steps=1 if 1 in _counts(bundle) else None)
    picture: Array = next(pipeline.draw([PROMPT], SEED))[bundle.chain.names.picture]
    return picture


def _counts(bundle: Bundle) -> Sequence[int]:
    return bundle.plan.counts or (len(bundle.plan.times),)
