"""Results on disk by what decides them: a killed run goes on where it was, and what several runs need is computed once.

    name = sha256(question, arrays)      file = sha256(rest) + numpy's npz of the result
A file is written as soon as its result is there, and used where it is whole. The folder is kept below MOST_BYTES, oldest out
first; what the present run needs stays, however much it is, and so does all while another run reads it (`hold_kept`). Where the
folder cannot be written to, nothing is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sprint_export.cache import cache_folder, clear_cache_errors
from sprint_export.files import find_other_part, name_part, sweep_parts, write_bytes

MOST_BYTES = 2_000_000_000
LEAST_SECONDS = 1.0  # a part that took less is computed again: reading and writing it is not worth it
DIGEST = hashlib.sha256().digest_size
VALUE = "value:"  # before names in a file: numpy keeps some for itself
HOLDER = "holder"  # stem of a file that says that a run reads what is kept

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass
class Kept:
    """A folder of the cache.

    Args:
        kind: the folder's name; what is bounded is all in it.
        owner: a folder in it, for what nobody else needs.
        used: files that this run read or wrote.
    """

    kind: str
    owner: str = ""
    used: set[Path] = field(default_factory=set)

    @property
    def folder(self) -> Path:
        """Where the files lie."""
        return cache_folder() / self.kind / self.owner

    def locate(self, question: object, arrays: Arrays) -> Path:
        """The file of a result: `question` is JSON values, `arrays` what it is computed from."""
        total = hashlib.sha256(json.dumps([question, {k: [str(v.dtype), *v.shape] for k, v in arrays.items()}]).encode())
        for value in arrays.values():
            total.update(np.ascontiguousarray(value).tobytes())
        path = self.folder / total.hexdigest()
        self.used.add(path)
        return path

    def read(self, path: Path) -> dict[str, npt.NDArray[Any]] | None:
        """A result that is kept and whole, or None; it becomes the youngest."""
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        if hashlib.sha256(data[DIGEST:]).digest() != data[:DIGEST]:
            return None
        return {k.removeprefix(VALUE): v for k, v in np.load(io.BytesIO(data[DIGEST:]), allow_pickle=False).items()}

    def write(self, path: Path, result: Arrays, is_needed: bool = False) -> None:
        """Keep a result.

        Raises:
            MachineError: one that is needed later cannot be written.
        """
        body = io.BytesIO()
        named: dict[str, Any] = {VALUE + name: value for name, value in result.items()}
        np.savez(body, **named)
        with clear_cache_errors(path) if is_needed else contextlib.suppress(OSError):
            write_bytes(path, hashlib.sha256(body.getvalue()).digest() + body.getvalue())

    def recall(self, question: object, make: Callable[[], Arrays]) -> Arrays:
        """What is kept, else what `make` gives, which is kept where it took LEAST_SECONDS."""
        path = self.locate(question, {})
        found = self.read(path)
        if found is not None:
            return found
        start = time.monotonic()
        made = make()
        if time.monotonic() - start >= LEAST_SECONDS:
            self.write(path, made)
        return made

    def bound(self) -> None:
        """Remove the oldest until the rest is below MOST_BYTES, unless another run reads here; and what was left half-written."""
        sweep_parts(self.folder)
        sweep_parts(cache_folder())
        if find_other_part(cache_folder(), HOLDER) is not None:
            return
        with contextlib.suppress(OSError):
            paths = [path for path in (cache_folder() / self.kind).rglob("*") if path.is_file()]
            files = [(path in self.used, path.stat().st_mtime, path.stat().st_size, path) for path in paths]
            total = 0
            for is_used, _, size, path in sorted(files, reverse=True):
                total += size
                if total > MOST_BYTES and not is_used:
                    path.unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove the files that this object located: what they were kept for is there."""
        for path in self.used:
            with contextlib.suppress(OSError):
                path.unlink()

    def discard(self) -> None:
        """Remove the owner's folder: what was kept there is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # another's is there
            self.folder.parent.rmdir()


@dataclass(frozen=True)
class Holder:
    """A file that says that this process reads what is kept; without a path it could not be written, and says nothing."""

    path: Path | None = None

    def renew(self) -> None:
        """Say so again: who says nothing for a day is taken for gone."""
        if self.path is not None:
            with contextlib.suppress(OSError):
                os.utime(self.path)


@contextlib.contextmanager
def hold_kept() -> Iterator[Holder]:
    """While this lasts, no other process removes what is kept to have less of it."""
    path = name_part(cache_folder() / HOLDER)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError:
        yield Holder()
        return
    try:
        yield Holder(path)
    finally:
        path.unlink(missing_ok=True)
