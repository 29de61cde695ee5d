"""The command in a process of its own without what Python and libraries take to load: a fork of a process that has loaded them.

The server has one thread and has run nothing. A fork gets the caller's folder, environment and arguments, and files as streams;
it runs the console script's `main` and ends as an interpreter does. What is decided before `main` (the console script itself,
what libraries look at when they are imported) needs an interpreter of its own.

    python -m tests.command_server [--plain]      # as where only a plain install is (plain_install.py)
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tests.tree import ROOT

COMMAND = Path(sys.executable).with_name("sprint-export")
CAN_FORK = sys.platform == "linux"  # elsewhere libraries start threads, or there are no forks
ENTRY = "sprint_export.cli.entry"
SECONDS = 300
PLAIN = "--plain"
LIBRARIES = {  # what exports, draws and reports import, but for what starts threads when it is imported (onnxruntime)
    "": ("torch.onnx", "torch.export", "transformers", "diffusers", "onnx", "onnxscript", "scipy.stats", "skimage.metrics"),
    PLAIN: ("numpy", "tokenizers", "PIL.Image", "PIL.ImageDraw", "rich.console", "typer", "jinja2"),
}
STREAMS = {1: "stdout", 2: "stderr"}


class CommandServer:
    """The server's other end; one in each process of a run, and one for a plain install."""

    def __init__(self, kind: str) -> None:
        command = [sys.executable, "-m", "tests.command_server", *filter(None, [kind])]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "encoding": "utf-8"}
        environment = os.environ | {"OMP_NUM_THREADS": "1"}  # what forks again must have no threads of OpenMP
        self._process = subprocess.Popen(command, cwd=ROOT, env=environment, process_group=0, **pipes)  # Ctrl-C is for pytest
        self.cpu_seconds = 0.0  # of the commands

    def run(
        self, arguments: Sequence[object], folder: Path, module: str = ENTRY, seconds: int = SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """`sprint-export` with these arguments, or another module's `main`, in `folder`; what hangs is ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with tempfile.TemporaryDirectory() as streams:
            command = [str(COMMAND), *map(str, arguments)]
            asked: dict[str, Any] = {
                "arguments": command,
                "folder": str(folder),
                "streams": streams,
                "environment": dict(os.environ),
            }
            asked |= {"module": module, "seconds": seconds}
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
            assert line, "the server ended; what it said is on pytest's own stderr"
            answer = json.loads(line)
            self.cpu_seconds = answer["cpu_seconds"]
            said = [Path(streams, name).read_text("utf-8") for name in STREAMS.values()]
        return subprocess.CompletedProcess(command, answer["status"], *said)


SERVERS: list[CommandServer] = []  # of this process


@functools.cache
def open_server(kind: str = "") -> CommandServer:
    """Started when it is first asked for; it ends with this process."""
    server = CommandServer(kind)
    SERVERS.append(server)
    return server


def serve(answers: int) -> dict[str, Any]:
    """Answer each line on stdin once its fork has ended; a fork returns from here, with what it was asked."""
    for line in sys.stdin:
        asked: dict[str, Any] = json.loads(line)
        child = os.fork()
        if child == 0:
            os.close(answers)
            return asked
        _, status = os.waitpid(child, 0)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        answer = {"status": os.waitstatus_to_exitcode(status), "cpu_seconds": used.ru_utime + used.ru_stime}
        os.write(answers, (json.dumps(answer) + "\n").encode())
    os._exit(0)


def become(asked: dict[str, Any]) -> None:
    """Take the caller's place and streams; SIGALRM ends it where it hangs."""
    signal.alarm(asked["seconds"])
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = asked["arguments"]
    places = {0: os.open(os.devnull, os.O_RDONLY)}
    for number, name in STREAMS.items():
        places[number] = os.open(Path(asked["streams"], name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number, place in places.items():
        os.dup2(place, number)
        os.close(place)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)  # the server's holds what it has read ahead


def run_and_end(main: Callable[[], object]) -> NoReturn:
    """As an interpreter ends, but for taking apart what was loaded, which takes longer than most commands."""
    status = 1
    try:
        main()
        status = 0
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as the interpreter does
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Streams are no terminal within, whatever pytest's are: the command's consoles look when they are made."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)


def load(kind: str) -> None:
    """Load what the kind of install has, the command line last and as its entry does: its consoles keep the guarded streams."""
    if kind == PLAIN:
        from tests.plain_install import hide_missing

        hide_missing()
    for name in LIBRARIES[kind]:
        with contextlib.suppress(ImportError):  # what is not installed, the command will say
            importlib.import_module(name)
    from sprint_export import streams

    streams.prepare_streams()
    importlib.import_module("sprint_export.cli.app")
    tasks = Path("/proc/self/task")  # Linux's
    assert not tasks.exists() or len([*tasks.iterdir()]) == 1, "a library started threads, which forks would not have"


if __name__ == "__main__":
    answers = os.dup(1)
    with silence():
        load("".join(sys.argv[1:]))
    gc.collect()
    gc.freeze()
    asked = serve(answers)
    become(asked)
    run_and_end(importlib.import_module(asked["module"]).main)
