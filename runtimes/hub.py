"""A bundle by its hub id: `owner/name[@revision]`, fetched into the cache, then held against its manifest like any other.

The manifest comes first, and only files that it names are fetched, of the sizes that it gives: what else a repository holds stays
there. They lie in `$SPRINT_EXPORT_CACHE/bundles` as files; the hub's own cache has links, which a bundle may not hold. As long as
the hub has no other commit nothing is fetched again, so that reports and engines that were made here stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sprint_export.bundle_files import LONGEST_MANIFEST, MANIFEST
from sprint_export.cache import clear_cache_errors, open_cache
from sprint_export.errors import BundleError, InputError, MachineError, SprintExportError
from sprint_export.export.bundle import read_bundle, read_manifest
from sprint_export.files import write_text
from sprint_export.libraries import require
from sprint_export.nouns.bundle import Bundle
from sprint_export.paths import is_file, is_folder
from sprint_export.progress import Progress, Step, quiet

LIBRARY, EXTRA = "huggingface_hub", "hub"
CLIENTS = ("huggingface_hub", "requests", "httpx", "httpcore", "urllib3")
ADVICE = "or give a folder"
FETCHING = Step("fetching", "bundle")
COMMIT = ".commit"  # in a fetched folder: which one all its files are of
_HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w.-]+))?")


def find_bundle(source: str | Path, progress: Progress = quiet) -> Path:
    """The folder of a bundle: the one that is named, or where a hub id's files were put.

    Args:
        source: a folder, or a hub id where no folder of that name is there.
        progress: is told the bytes that were fetched, and all.

    Raises:
        InputError: the hub has no such bundle, or it needs a login. BundleError: its files do not fit its manifest.
        MachineError: the hub cannot be reached and the bundle is not in the cache, or huggingface_hub is not installed.
    """
    match = _HUB_ID.fullmatch(str(source))
    if match is None or is_folder(Path(source)) or Path(source).parent.exists():
        return Path(source)
    repo, revision = match["repo"], match["revision"]
    folder = open_cache("bundles") / "@".join(filter(None, (repo.replace("/", "--"), revision)))
    try:
        fetch_bundle(repo, revision, folder, progress)
    except MachineError as error:
        if not is_file(folder / MANIFEST):
            raise MachineError(
                f"{source} is no folder here, and no copy of a hub id's bundle lies at {folder}: {error}"
            ) from error
        read_bundle(folder, verify=False)  # all there from an earlier run, or said what is missing
    return folder


def fetch_bundle(repo: str, revision: str | None, folder: Path, progress: Progress = quiet) -> Bundle:
    """Fetch what is not there yet of the files that a repository's manifest names; raises as `find_bundle`."""
    hub = require(LIBRARY, EXTRA)
    with clear_hub_errors(repo), clear_cache_errors(folder):
        commit = hub.HfApi().model_info(repo, revision=revision).sha
        if (fetched := _read_fetched(folder, commit)) is not None:
            return fetched
        (folder / COMMIT).unlink(missing_ok=True)
        size = _find_sizes(repo, commit, [MANIFEST]).get(MANIFEST)
        if size is None or size > LONGEST_MANIFEST:
            raise InputError(f"hub model {repo!r} has no {MANIFEST}, so it is no bundle; expected one that --upload-repo made")
        hub.hf_hub_download(repo, MANIFEST, revision=commit, local_dir=folder)
        bundle = read_manifest(folder)
        wanted = {artifact.path: artifact.bytes for artifact in bundle.artifacts}
        found = _find_sizes(repo, commit, [*wanted])
        for path, expected in wanted.items():
            if found.get(path) != expected:
                raise BundleError(f"{repo}/{path}: the hub has {found.get(path, 0):,} bytes, the manifest says {expected:,}")
        done, total = 0, sum(wanted.values())
        for path, expected in wanted.items():
            progress(FETCHING, done, total)
            hub.hf_hub_download(repo, path, revision=commit, local_dir=folder)
            done += expected
        progress(FETCHING, total, total)
        write_text(folder / COMMIT, commit)
    return read_bundle(folder, verify=False)  # who opens it compares the hashes


def _read_fetched(folder: Path, commit: str) -> Bundle | None:
    """What lies there of this commit, with what was made of it since; None where files are missing, or of another one."""
    if not is_file(folder / COMMIT) or (folder / COMMIT).read_text("utf-8") != commit:
        return None
    try:
        return read_bundle(folder, verify=False)
    except (InputError, BundleError):
        return None


def _find_sizes(repo: str, commit: str, paths: list[str]) -> dict[str, int]:
    """Bytes of those of the files that a repository has."""
    found = require(LIBRARY, EXTRA).HfApi().get_paths_info(repo, paths, revision=commit)
    return {each.path: each.size for each in found if hasattr(each, "size")}


@contextmanager
def clear_hub_errors(repo: str) -> Iterator[None]:
    """Say in one line what the hub, or the way to it, refuses."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        yield
    except RepositoryNotFoundError as error:
        raise InputError(f"{repo!r} is no folder here, and no hub model that can be seen without a login") from error
    except RevisionNotFoundError as error:
        raise InputError(f"hub model {repo!r} has no such revision; expected a branch, a tag or a commit behind @") from error
    except Exception as error:  # of the hub's client, or of requests or httpx behind it
        is_ours = isinstance(error, SprintExportError)
        if is_ours or not (isinstance(error, OSError) or type(error).__module__.partition(".")[0] in CLIENTS):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise MachineError(
            f"cannot reach the Hugging Face hub for {repo!r} ({reason}); connect to the network, {ADVICE}"
        ) from error
