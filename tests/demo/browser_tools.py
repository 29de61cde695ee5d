"""The page's packages and Chromium: those that the JavaScript package's tests have."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtimes.javascript.programs import has_node, install_packages


def find_node_modules() -> Path:
    """A node_modules folder with the page's packages and a browser."""
    if not has_node():
        pytest.skip("node and npm are not installed")
    return install_packages() / "node_modules"
