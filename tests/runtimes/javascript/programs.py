"""Node and headless Chromium for tests and benchmarks: npm's packages once per machine, jobs (jobs.js) in, results out."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from filelock import FileLock

HERE = Path(__file__).parent
CHROMIUM = Path(__file__).parents[2] / "chromium.mjs"
PACKAGE = Path(__file__).parents[3] / "runtimes" / "javascript"
ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
SOFTWARE_GPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan")
SECONDS = 300

Job = Mapping[str, Any]


def has_node() -> bool:
    """Whether Node and npm are here."""
    return shutil.which("node") is not None and shutil.which("npm") is not None


def install_packages() -> Path:
    """The folder of packages.json's packages and of their browser, installed once per machine; scripts of packages do not run."""
    wanted = (HERE / "packages.json").read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sprint-export-tests"
    folder = cache / f"npm-{hashlib.sha256(wanted).hexdigest()[:12]}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "whole").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            (folder / "package.json").write_bytes(wanted)
            run_program(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"], folder)
            unpack = f"import {{ findChromium }} from {str(CHROMIUM)!r}; await findChromium('node_modules');"
            run_program(["node", "--input-type=module", "-e", unpack], folder)  # here, where nobody else unpacks it
            (folder / "whole").touch()
    return folder


def make_work_folder(folder: Path) -> Path:
    """A folder with the packages, our package as npm would install it, and the tests' programs."""
    modules = folder / "node_modules"
    modules.mkdir(parents=True)
    for found in (install_packages() / "node_modules").iterdir():
        if not found.name.startswith("."):
            (modules / found.name).symlink_to(found)
    done = run_program(["npm", "pack", "--silent", "--pack-destination", str(folder), str(PACKAGE)], folder)
    shutil.unpack_archive(folder / done.strip().splitlines()[-1], folder / "unpacked")
    (folder / "unpacked" / "package").rename(modules / "sprint-export")
    for file in (CHROMIUM, *(HERE / name for name in ("jobs.js", "in_node.mjs", "in_browser.mjs", "page.html"))):
        shutil.copy(file, folder)
    (folder / "package.json").write_text('{"private": true, "type": "module"}', "utf-8")
    return folder


def run_in_node(folder: Path, jobs: Sequence[Job], seconds: int = SECONDS) -> list[dict[str, Any]]:
    """Results of jobs in Node."""
    results: list[dict[str, Any]] = json.loads(run_program(["node", "in_node.mjs", str(_write(folder, jobs))], folder, seconds))
    return results


def run_in_browser(
    folder: Path,
    jobs: Sequence[Job],
    headers: Mapping[str, str] = ISOLATED,
    flags: Sequence[str] = (),
    seconds: int = SECONDS,
) -> dict[str, Any]:
    """`results` of jobs in headless Chromium, the `browser`'s version, whether the page is `isolated`, its `complaints`."""
    with serve_folder(folder, headers) as origin:
        command = ["node", "in_browser.mjs", f"{origin}/page.html", str(_write(folder, jobs)), str(seconds), *flags]
        result: dict[str, Any] = json.loads(run_program(command, folder, seconds))
    return result


def run_program(command: Sequence[str], folder: Path, seconds: int = SECONDS) -> str:
    """Standard output of a program, which has so long.

    Raises:
        AssertionError: it failed; with what it said.
    """
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, f"{' '.join(command)[:200]}: {done.stdout[-2000:]} {done.stderr[-3000:]}"
    return done.stdout


@contextmanager
def serve_folder(folder: Path, headers: Mapping[str, str]) -> Iterator[str]:
    """The address of a server of a folder, on the loopback."""

    class Handler(SimpleHTTPRequestHandler):
        extensions_map = SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript", ".js": "text/javascript"}

        def end_headers(self) -> None:
            for name, value in headers.items():
                self.send_header(name, value)
            super().end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _write(folder: Path, jobs: Sequence[Job]) -> Path:
    file = folder / "list.json"
    file.write_text(json.dumps(list(jobs)), "utf-8")
    return file
