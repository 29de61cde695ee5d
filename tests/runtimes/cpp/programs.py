"""The C++ library's programs for tests: built once for a state of their sources, and kept in the user's cache.

ONNX Runtime's headers and the JSON reader come from Debian's packages (runtimes/cpp/tools/fetch_dependencies.sh), its library is
the one of the Python package: so both languages run the same kernels. Tests are skipped
only where a compiler or apt-get is missing.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from filelock import FileLock

from tests.tree import ROOT

SOURCES = ROOT / "runtimes" / "cpp"
TESTS = Path(__file__).parent
NEEDED = ("cmake", "g++", "make")
SANITIZED = "-O0 -fsanitize=address,undefined -fno-sanitize-recover=all"
COMPILED = (".cpp", ".h", ".inc", ".txt", ".cmake", ".in")
KEPT = 4  # states of the sources


@functools.cache
def cache_folder() -> Path:
    """Of the user, not of the run: a build outlives it."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sprint-export-cpp"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@functools.cache
def fetch_dependencies() -> Path:
    """A folder with include/ and lib/ for CMAKE_PREFIX_PATH."""
    [library] = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.1*")
    script = SOURCES / "tools" / "fetch_dependencies.sh"
    folder = cache_folder() / f"dependencies-{onnxruntime.__version__}-{hash_files([script])}"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            if shutil.which("apt-get") is None:
                pytest.skip("ONNX Runtime's headers come from Debian's packages, and apt-get is not here")
            partial = folder.with_name(f"{folder.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            run([script, partial, library])
            partial.rename(folder)
    return folder


@functools.cache
def build_programs(flags: str = "-O2") -> Path:
    """The folder with `sprint-draw` and `probe`.

    Args:
        flags: of the compiler.
    """
    for program in NEEDED:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not here")
    dependencies = fetch_dependencies()
    sources = [path for path in (*SOURCES.rglob("*"), *TESTS.glob("*.*")) if path.suffix in COMPILED]
    folder = cache_folder() / f"build-{hash_files(sources, flags, str(dependencies), str(ROOT))}"
    with FileLock(f"{folder}.lock"):
        if not (folder / "done").exists():
            drop_old_builds()
            kind = ["-DCMAKE_BUILD_TYPE=None", f"-DCMAKE_CXX_FLAGS={flags}", f"-DCMAKE_PREFIX_PATH={dependencies}"]
            run(["cmake", "-S", TESTS, "-B", folder, *kind])
            run(["cmake", "--build", folder, "--parallel", "2", *(["--target", "probe"] if flags == SANITIZED else [])])
            (folder / "done").touch()
    return folder / "library"


def drop_old_builds() -> None:
    """All but the newest ones."""
    builds = sorted(cache_folder().glob("build-*/done"), key=lambda path: path.stat().st_mtime)
    for path in builds[: -KEPT or None]:
        shutil.rmtree(path.parent, ignore_errors=True)


def hash_files(paths: Iterable[Path], *more: str) -> str:
    """Of names and contents."""
    found = hashlib.sha256("\0".join(more).encode())
    for path in sorted(paths):
        found.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return found.hexdigest()[:16]


def run(command: list[Any], **more: Any) -> str:
    """Standard output of a command that has to succeed."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=600, **more)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return str(done.stdout)


def ask_probe(question: str, value: Any, flags: str = "-O2") -> Any:
    """What the probe answers."""
    return json.loads(run([build_programs(flags) / "probe", question], input=json.dumps(value)))


def draw_picture(*arguments: object) -> subprocess.CompletedProcess[str]:
    """sprint-draw, without Python on its PATH and without this process's environment."""
    command = [str(build_programs() / "sprint-draw"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env={"PATH": "/nowhere"})
