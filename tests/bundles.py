"""What tests of the right half share: bundles that are made once per run, the real command, and a view on a report."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from sprint_export.bundle_files import APP, MANIFEST
from sprint_export.conversion import convert
from sprint_export.export.bundle import HASH
from tests.command_server import CAN_FORK, COMMAND, open_server
from tests.quick import run_folder

if TYPE_CHECKING:
    from sprint_export.nouns.student import Student

COUNTS = {"trt-fp8": 64}  # validation pictures; two adherence points out of 64 are one picture
COREML_COUNT = 32  # of those, one more wrong is three points
COUNT = 4
MAC: Mapping[str, Any] = {"device": "mac-m4", "validate": False}  # of a coreml-fp16 bundle in the other layout


def shared_bundle(base: Path, target: str, student: str | Student = "sprint-tiny", **asked: Any) -> Path:
    """A bundle, made by the first test of the run that asks for it; tests that change files copy it first.

    Args:
        base: the process's temporary folder.
        target: as `convert` takes it.
        student: an embedded one, or the made one, which is the same in each process.
        asked: what else `convert` takes; default: validated with the target's count of pictures.
    """
    asked = asked or {"count": COUNTS.get(target, COREML_COUNT if target.startswith("coreml") else COUNT)}
    made_from = student if isinstance(student, str) else "made"
    name = "-".join([made_from, target, *(f"{key}={value}" for key, value in sorted(asked.items()))])
    return share_folder(base, name, lambda folder: convert(student, target, folder, **asked))


def share_folder(base: Path, name: str, make: Callable[[Path], object]) -> Path:
    """A folder for all processes of the run, made by the first test that asks for it."""
    folder = run_folder(base) / "shared" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            make(folder)
    return folder


def copy_bundle(source: Path, target: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(source, target))


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object], is_signed: bool = True) -> None:
    """Change a bundle's manifest and, where `is_signed`, make its hash fit again: what is left to find is what it says."""
    path = folder / MANIFEST
    value = json.loads(path.read_text("utf-8"))
    change(value)
    if is_signed:
        value.pop(HASH, None)
        canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
        value[HASH] = hashlib.sha256(canonical.encode()).hexdigest()
    path.write_text(json.dumps(value), "utf-8")


def drop_app(folder: Path) -> Path:
    """A bundle that names no `app.json`, as one may who alters its manifest: the two would differ."""
    (folder / APP).unlink(missing_ok=True)  # a bundle of some networks has none
    edit_manifest(folder, lambda value: value.update(artifacts=[a for a in value["artifacts"] if a["path"] != APP]))
    return folder


def run_command(
    *arguments: object, folder: Path, environment: dict[str, str] | None = None, prepare: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, in `folder`: a fork of one that has loaded its libraries (command_server.py).

    With `environment`, or with `prepare`, which runs in it before the command does, it is the console script in an interpreter.
    """
    if environment is None and prepare is None and CAN_FORK:
        return open_server().run(arguments, folder)
    return subprocess.run(
        [COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=environment,
        preexec_fn=prepare,
        timeout=300,
    )


def check_refused(done: subprocess.CompletedProcess[str], status: int, *parts: str) -> str:
    """The last line on stderr is the one error, names all `parts`, and is no traceback; nothing is on stdout."""
    assert "Traceback" not in done.stderr, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    assert done.stderr.rstrip("\n").endswith(errors[0]), "the message is not the last line, or is broken over several"
    for part in parts:
        assert part in errors[0], f"{part!r} is not in: {errors[0]}"
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    return errors[0]


def read_rows(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The rows of a bundle's report by (component, metric)."""
    rows = json.loads((folder / "report.json").read_text("utf-8"))["rows"]
    found = {(row["component"], row["metric"]): row for row in rows}
    assert len(found) == len(rows), "two rows of one name"
    return found


def list_files(folder: Path) -> set[str]:
    """Relative paths of all files, hidden ones too."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
