"""The verb `demo` as one types it: it says where the page is, ends by Ctrl-C, and writes a page for any server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.bundles import check_refused, run_command
from tests.command_server import COMMAND
from tests.demo.browser_tools import find_node_modules
from tests.demo.small_app import GRAPH, make_small_app


@pytest.fixture(scope="module")
def node_modules() -> Path:
    return find_node_modules()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_small_app(tmp_path / "bundle")


def test_it_serves_until_ctrl_c_which_is_no_failure(bundle: Path, node_modules: Path, tmp_path: Path) -> None:
    command = [str(COMMAND), "demo", str(bundle), "--no-open", "--json", "--port", "0", "--node-modules", str(node_modules)]
    served = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert served.stdout is not None
    said = json.loads(served.stdout.readline())
    assert set(said) == {"url", "files", "bytes"}
    assert said["url"].startswith("http://127.0.0.1:")
    with urllib.request.urlopen(f"{said['url']}bundle/{GRAPH}", timeout=10) as answer:
        assert answer.read() == b"graph"
    served.send_signal(signal.SIGINT)
    output, errors = served.communicate(timeout=30)
    assert (served.returncode, output) == (0, "")
    assert "Traceback" not in errors
    assert "stopped" not in errors


def test_the_page_is_written_for_any_server(bundle: Path, node_modules: Path, tmp_path: Path) -> None:
    done = run_command("demo", bundle, "--out", "site", "--json", "--node-modules", node_modules, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["out"] == "site"
    files = [path for path in (tmp_path / "site").rglob("*") if path.is_file()]
    assert len(files) == said["files"] + 1, "and _headers"
    assert (tmp_path / "site/bundle" / GRAPH).read_bytes() == b"graph"
    listed = json.loads((tmp_path / "site/site.json").read_text("utf-8"))["files"]
    assert {path.relative_to(tmp_path / "site").as_posix() for path in files} - {file["path"] for file in listed} == {
        "_headers",
        "site.json",
    }
    again = run_command("demo", bundle, "--out", "site", "--node-modules", node_modules, folder=tmp_path)
    check_refused(again, 2, "--out site is not empty")


def test_without_the_network_it_says_what_to_do(bundle: Path, tmp_path: Path) -> None:
    environment = os.environ | {"npm_config_registry": "http://127.0.0.1:9", "SPRINT_EXPORT_CACHE": str(tmp_path / "cache")}
    done = run_command("demo", bundle, "--out", "site", folder=tmp_path, environment=environment)
    check_refused(done, 3, "http://127.0.0.1:9/onnxruntime-web/-/onnxruntime-web-", "npm install", "--node-modules")
    assert not (tmp_path / "site").exists()


def test_mistakes_are_said_in_a_line(bundle: Path, tmp_path: Path) -> None:
    check_refused(run_command("demo", "nowhere", folder=tmp_path), 2, "nowhere is not there")
    check_refused(run_command("demo", bundle, "--out", "x", "--port", "80", folder=tmp_path), 2, "--port 80 is for serving")
    check_refused(run_command("demo", bundle, "--out", bundle, folder=tmp_path), 2, "is not empty")
