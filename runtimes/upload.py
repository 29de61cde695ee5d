"""A finished bundle to the hub: what its manifest names, with its card and report, in one commit; nothing else of the folder.

Whether the hub can be reached and the token may write there is asked before any work.
"""

from __future__ import annotations

import re
from pathlib import Path

from sprint_export.bundle_files import CARD, MANIFEST, PAGE, REPORT, SHEET
from sprint_export.errors import InputError, MachineError
from sprint_export.export.bundle import read_bundle
from sprint_export.libraries import require
from sprint_export.paths import is_file
from sprint_export.runtimes.hub import EXTRA, LIBRARY, clear_hub_errors

REFUSING = (401, 403)  # HTTP: no such token, or not its right
BESIDE = (CARD, REPORT, PAGE, SHEET)  # that the manifest does not name
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def check_upload(repo: str) -> None:
    """Refuse, before any work, an upload that cannot be.

    Raises:
        InputError: the name is none, or there is no token, or one that the hub does not know. MachineError: the hub cannot be
            reached, or huggingface_hub is not installed.
    """
    if not _REPO.fullmatch(repo):
        raise InputError(f"upload to {repo}: expected OWNER/NAME, e.g. somebody/sprint-tiny-onnx-int8")
    hub = require(LIBRARY, EXTRA)
    if require(f"{LIBRARY}.constants", EXTRA).HF_HUB_OFFLINE:
        raise MachineError(f"upload to {repo}: HF_HUB_OFFLINE is set, so nothing is sent; unset it, or leave the upload out")
    if hub.get_token() is None:
        raise InputError(f"upload to {repo}: there is no token; log in with hf auth login, or set HF_TOKEN")
    with clear_hub_errors(repo):
        try:
            hub.HfApi().whoami()
        except OSError as error:  # the hub's client says it in errors of several kinds, each with the answer
            if getattr(getattr(error, "response", None), "status_code", None) in REFUSING:
                raise InputError(f"upload to {repo}: the hub does not know this token; log in with hf auth login") from error
            raise


def upload_bundle(folder: str | Path, repo: str, private: bool = False) -> str:
    """Send a bundle to the hub; returns its page's address.

    Args:
        folder: the bundle; its files are compared with their hashes first.
        repo: OWNER/NAME, made where it is not there.
        private: whether a repository that is made is.

    Raises:
        InputError, BundleError: no such name or token, or the bundle is damaged. MachineError: the hub cannot be reached.
    """
    check_upload(repo)
    folder = Path(folder)
    bundle = read_bundle(folder)
    paths = dict.fromkeys(
        [MANIFEST, *(artifact.path for artifact in bundle.artifacts), *(name for name in BESIDE if is_file(folder / name))]
    )
    hub = require(LIBRARY, EXTRA)
    with clear_hub_errors(repo):
        api = hub.HfApi()
        page = str(api.create_repo(repo, private=private, exist_ok=True))
        operations = [hub.CommitOperationAdd(path, folder / path) for path in paths]
        api.create_commit(repo, operations, commit_message=f"{bundle.target}-{bundle.precision} of {Path(bundle.source).name}")
    return page
