"""What a disk refuses, in one line that names the right thing."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest
from safetensors import SafetensorError

from sprint_export.disk_errors import check_disk_space, clear_disk_errors
from sprint_export.errors import InputError, MachineError
from sprint_export.files import name_part, write_text

FULL_DISKS = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    OSError(errno.EFBIG, "File too large"),
    OSError("131072 requested and 25360 written"),  # numpy's tofile
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    RuntimeError("Unable to write: /x/weight.bin: No space left on device"),
    RuntimeError("basic_ios::clear: iostream error"),  # OpenVINO's save_model
]


@pytest.mark.parametrize("error", FULL_DISKS, ids=lambda error: type(error).__name__)
def test_a_full_disk_is_the_machines_however_a_library_says_it(tmp_path: Path, error: Exception) -> None:
    message = r"the disk is full \(\d+ MB free at .*\) while writing .*out; .*run the same command again"
    with pytest.raises(MachineError, match=message), clear_disk_errors(tmp_path / "out"):
        raise error
    with pytest.raises(MachineError, match=message), clear_disk_errors(tmp_path / "out"):
        try:
            raise error
        except Exception as cause:
            raise TypeError("the model cannot be saved") from cause


@pytest.mark.parametrize(
    "number",
    [
        getattr(errno, name)
        for name in ["EACCES", "EPERM", "EROFS", "ENAMETOOLONG", "ENOENT", "ENOTDIR", "ENOTEMPTY", "EISDIR", "ELOOP", "EEXIST"]
    ],
    ids=errno.errorcode.get,
)
def test_a_place_that_cannot_be_written_to_is_named_with_what_to_do(tmp_path: Path, number: int) -> None:
    out = tmp_path / "deep" / "out"
    for path in (out, out / "transformer" / "model.onnx", tmp_path / "deep", tmp_path / "deep" / ".out.partial" / "key"):
        reason = os.strerror(number)
        message = re.escape(f"cannot write to {path} ({reason}); choose another --out")
        with pytest.raises(InputError, match=message), clear_disk_errors(out):
            raise OSError(number, reason, str(path))


def test_what_is_written_over_is_named_and_not_the_part_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.mkdir()
    message = r"cannot write to .*/report\.json \(Is a directory\); move it"
    with pytest.raises(InputError, match=message), clear_disk_errors(path, "move it"):
        write_text(path, "x")
    with pytest.raises(InputError, match=rf"cannot write to {path} \(Permission denied\)"), clear_disk_errors(path, "move it"):
        raise OSError(errno.EACCES, "Permission denied", str(name_part(path)))


def test_a_failing_disk_is_the_machines(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"the disk failed at .*out \(odd\)"), clear_disk_errors(tmp_path / "out"):
        raise OSError(errno.EIO, "odd")


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "No such file", "/elsewhere/words.txt"), ValueError("odd"), KeyError(3)])
def test_what_is_no_matter_of_the_disk_stays_what_it_is(tmp_path: Path, error: Exception) -> None:
    beside = FileNotFoundError(errno.ENOENT, "No such file", str(tmp_path / "student" / "words.txt"))
    with pytest.raises(FileNotFoundError), clear_disk_errors(tmp_path / "out"):
        raise beside
    with pytest.raises(type(error)) as caught, clear_disk_errors(tmp_path / "out"):
        raise error
    assert caught.value is error


def test_room_is_looked_for_before_a_library_that_would_end_the_process(tmp_path: Path) -> None:
    check_disk_space(tmp_path, 1)
    with pytest.raises(MachineError, match="the disk is full"), clear_disk_errors(tmp_path):
        check_disk_space(tmp_path, 1 << 60)
