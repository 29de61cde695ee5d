"""Chromium and what drives it, from npm into the user's cache; once for all runs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from filelock import FileLock

from sprint_export.demo.npm_files import read_packages
from sprint_export.demo.site import PAGE

BROWSER = ("@sparticuz/chromium@153.0.0", "puppeteer-core@25.16.0")


def find_node_modules() -> Path:
    """A node_modules folder with the page's packages and a browser."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    packages = [*map(str, read_packages(PAGE)), *BROWSER]
    name = hashlib.sha256(json.dumps(packages).encode()).hexdigest()[:12]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sprint-export-tests" / f"npm-{name}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "whole").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            (folder / "package.json").write_text('{"private": true}', "utf-8")
            command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", *packages]
            subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
            (folder / "whole").touch()
    return folder / "node_modules"
