"""The Hugging Face hub: files of a repository, found in its cache or fetched; never code, never pickles.

`owner/name[/folder][@revision]` is a student or a part of one, `owner/name[/folder][/file.safetensors][@revision]` a LoRA.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from sprint_export.errors import InputError, MachineError
from sprint_export.students.lora_files import PEFT_CONFIG, choose_weights

HUB_FILES = ("*.json", "*.safetensors", "*_prompts.txt", "*merges.txt", "README.md", "LICENSE*")
SUFFIX = ".safetensors"
CLIENTS = ("huggingface_hub", "requests", "httpx", "httpcore", "urllib3")  # whose errors are the network's
_HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?P<inner>(/(?!\.)[\w.-]+)*)(@(?P<revision>[\w.-]+))?")
HubId = re.Match[str]


def read_hub_id(name: str) -> HubId | None:
    """The parts of a hub id, None for what is none; `folder/file.safetensors` is a file that is not there."""
    found = None if name.startswith((".", "/", "~")) else _HUB_ID.fullmatch(name)
    return None if found is None or found["repo"].endswith(SUFFIX) else found


def fetch_folder(hub: HubId, is_pipeline: bool, known: Iterable[str] = ()) -> Path:
    """The folder of a student or of a part; of a pipeline the index is fetched first, so that nothing large is fetched in vain.

    Args:
        hub: the id.
        is_pipeline: whether it is a student's.
        known: ids that are known.

    Raises:
        InputError: there is no such repository or revision, or no pipeline in it.
        MachineError: it cannot be reached and is not in the cache.
    """
    from huggingface_hub import snapshot_download

    repo, revision, inner = hub["repo"], hub["revision"], hub["inner"].strip("/")
    with _clear_errors(hub, f"; known students: {', '.join(known)}", "a folder", ", or use the embedded student sprint-tiny"):
        root = Path(snapshot_download(repo, revision=revision, allow_patterns=["*model_index.json"])) if is_pipeline else None
        if root is not None and not (root / inner / "model_index.json").is_file():
            found = sorted(path.parent.relative_to(root).as_posix() for path in root.rglob("model_index.json"))
            raise InputError(
                f"hub model {repo!r} has no model_index.json in {repr(inner) if inner else 'its root'}; folders that have one: "
                f"{', '.join(f'{repo}/{name}'.removesuffix('/.') for name in found) or 'none'}"
            )
        return Path(snapshot_download(repo, revision=revision, allow_patterns=_list_patterns(inner))) / inner


def fetch_lora(hub: HubId) -> Path:
    """The file of a LoRA, or the folder of its shards; other weights of the repository are left there.

    Raises:
        InputError: there is no such repository, revision or file, or it is one of several; they are listed.
        MachineError: the hub cannot be reached and the file is not in the cache.
    """
    from huggingface_hub import HfApi, snapshot_download

    repo, revision = hub["repo"], hub["revision"]
    with _clear_errors(hub, "", "a file", f"; there is no file {hub[0]} here"):
        try:
            held = [each.rfilename for each in HfApi().model_info(repo, revision=revision).siblings or ()]
        except ConnectionError:
            held = _list_cached(hub)
        folder, names = _choose_lora(hub, held)
        patterns = [glob.escape((folder / name).as_posix()) for name in (*names, PEFT_CONFIG)]
        root = Path(snapshot_download(repo, revision=revision, allow_patterns=patterns))
    return root / folder / (names[0] if len(names) == 1 else "")


def is_cached(hub: HubId, is_lora: bool = False) -> bool:
    """Whether what a hub id names is in the cache; of a folder, whether any of its repository is."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        held = _list_cached(hub)
        return not is_lora or bool(_choose_lora(hub, held))
    except (LocalEntryNotFoundError, InputError):
        return False


def _list_cached(hub: HubId) -> list[str]:
    """Names of a repository's files in the cache; LocalEntryNotFoundError where it has none."""
    from huggingface_hub import snapshot_download

    root = Path(snapshot_download(hub["repo"], revision=hub["revision"], local_files_only=True))
    return [path.relative_to(root).as_posix() for path in root.rglob("*")]


def _choose_lora(hub: HubId, held: Iterable[str]) -> tuple[PurePosixPath, tuple[str, ...]]:
    """The folder in a repository, and the names in it, of the LoRA that a hub id means."""
    paths = [PurePosixPath(name) for name in held]
    inner = PurePosixPath(hub["inner"].strip("/"))
    if inner in paths and inner.suffix == SUFFIX:
        return inner.parent, (inner.name,)
    if not any(inner in path.parents for path in paths) or inner.suffix == SUFFIX:
        loras = sorted(str(path) for path in paths if path.suffix == SUFFIX)
        raise InputError(
            f"--lora {hub[0]}: {hub['repo']} has no {inner}; its files of weights: {', '.join(loras[:20]) or 'none'}"
        )
    _, names = choose_weights(hub[0], [path.name for path in paths if path.parent == inner])
    return inner, names


def _list_patterns(inner: str) -> list[str]:
    """Which files a student needs: those of its folder, and the model card and licence of the repository."""
    return [*(f"{inner}/{name}" for name in HUB_FILES), *HUB_FILES[-2:]] if inner else list(HUB_FILES)


@contextmanager
def _clear_errors(hub: HubId, known: str, instead: str, end: str) -> Iterator[None]:
    """Say in one line what the hub refuses, or that it cannot be reached."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        yield
    except RepositoryNotFoundError as error:
        raise InputError(f"hub model {hub['repo']!r} does not exist or needs a login{known}") from error
    except RevisionNotFoundError as error:
        raise InputError(
            f"hub model {hub['repo']!r} has no revision {hub['revision']!r}; expected a branch, tag or commit"
        ) from error
    except Exception as error:  # of the hub's client, or of requests or httpx behind it
        if not (isinstance(error, OSError) or type(error).__module__.partition(".")[0] in CLIENTS):
            raise
        raise MachineError(
            f"cannot reach the Hugging Face hub for {hub['repo']!r} and it is not in the local cache. Connect to the network, or "
            f"give {instead} downloaded elsewhere{end}"
        ) from error
