"""What a disk refuses, as one line: a full one is the machine's, a folder that cannot be written to is the user's choice.

Libraries say "disk full" in many ways: an OSError with its number, numpy's count of what was written, safetensors' own error,
a RuntimeError of C++ that quotes the system, or one that names the file and no reason while the disk has no byte left.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sprint_export.errors import InputError, MachineError, SprintExportError
from sprint_export.files import LONGEST_STEM, PART

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL_TEXT = re.compile(
    r"no space left on device|disk quota exceeded|file too large|not enough space on the disk|os error (28|122|27|112)\b"
    r"|\d+ requested and \d+ written"  # numpy's tofile
    r"|ios_base::|basic_ios::|iostream error",  # C++, which gives no reason; while one writes it is the disk
    re.IGNORECASE,
)
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ETXTBSY)
SHAPE = (errno.ENOENT, errno.ENOTDIR, errno.ENOTEMPTY, errno.EISDIR, errno.ELOOP, errno.EEXIST, errno.EINVAL, errno.ENODEV)
NO_BYTES = 64 * 1024  # free on a disk that has nothing left
OUT_ADVICE = "choose another --out"
WRITE_WORDS = re.compile(r"writ|save|serializ|open|stream|truncat|ofstream|seri|file", re.IGNORECASE)


@contextmanager
def clear_disk_errors(output: Path, advice: str = OUT_ADVICE, refusal: type[SprintExportError] = InputError) -> Iterator[None]:
    """Turn errors of the disk that holds `output` into one clear message; finished stages stay for the next run.

    Args:
        output: the file or folder that is being written.
        advice: what a user can do where it cannot be written to.
        refusal: what is raised then.

    Raises:
        MachineError: the disk is full or fails. SprintExportError: `output` cannot be written to.
    """
    try:
        yield
    except SprintExportError:
        raise
    except Exception as error:  # libraries say it in errors of many types; what is none of the disk's is raised again
        if is_disk_full(error) or (not isinstance(error, OSError) and _has_no_byte_left(output, error)):
            raise MachineError(describe_full(output)) from error
        if isinstance(error, OSError) and error.errno == errno.EIO:
            raise MachineError(f"the disk failed at {_name(error, output)} ({error.strerror}); try another disk") from error
        if isinstance(error, OSError) and _refuses(error, output):
            raise refusal(f"cannot write to {_name(error, output)} ({error.strerror}); {advice}") from error
        raise


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that a disk is full."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno is not None:
            if error.errno in FULL:
                return True
        elif FULL_TEXT.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def describe_full(output: Path) -> str:
    """The message for a full disk, with what is free there."""
    folder = _nearest(output)
    return (
        f"the disk is full ({shutil.disk_usage(folder).free / 1e6:.0f} MB free at {folder}) while writing {output}; "
        "free some space and run the same command again: it goes on where it stopped"
    )


def check_disk_space(folder: Path, size: int) -> None:
    """For libraries that end the process where a disk is full: see that `size` bytes have room before they write.

    Raises:
        OSError: they have not.
    """
    if shutil.disk_usage(folder).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _nearest(output: Path) -> Path:
    """The folder around `output` that is there."""
    return next(p for p in output.absolute().parents if p.exists())


def _has_no_byte_left(output: Path, error: Exception) -> bool:
    """A library failed to write without a reason, on a disk without room."""
    return WRITE_WORDS.search(str(error)) is not None and shutil.disk_usage(_nearest(output)).free < NO_BYTES


def _name(error: OSError, output: Path) -> str:
    """What could not be written: of a rename, where to; of what is written beside a file until it is whole, that file."""
    found = error.filename2 or error.filename or output
    name = os.fsdecode(found) if isinstance(found, str | bytes) else str(found)
    return str(output) if PART.fullmatch(Path(name).name) else name


def _refuses(error: OSError, output: Path) -> bool:
    if error.errno in REFUSED:
        return True
    return error.errno in SHAPE and (error.filename is None or _concerns(Path(os.fsdecode(error.filename)), output.absolute()))


def _concerns(path: Path, output: Path) -> bool:
    """Whether a path is the output, around it, in it, or a hidden one beside it that is made for it."""
    path = path.absolute()
    if path in output.parents:
        return True
    if not path.is_relative_to(output.parent):
        return False
    beside = path.relative_to(output.parent).parts[0]
    return beside == output.name or beside.startswith(f".{output.stem[:LONGEST_STEM]}.")
