"""Weights that all tests of metrics share, made once a run in the published forms, and an empty cache of torch's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.quick import run_folder
from tests.validate.image_metrics.made_weights import save_made


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with AlexNet, VGG16 and Inception V3."""
    from filelock import FileLock

    from sprint_export.validate.image_metrics.inception import Inception
    from sprint_export.validate.image_metrics.taps import make_alexnet, make_vgg16
    from sprint_export.validate.image_metrics.weight_files import ALEX_FILE, INCEPTION_FILE, VGG_FILE

    folder = run_folder(tmp_path_factory.getbasetemp()) / "metric-weights"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            save_made(folder, ALEX_FILE.file, make_alexnet(), 1)
            save_made(folder, VGG_FILE.file, make_vgg16(), 2)
            save_made(folder, INCEPTION_FILE.file, Inception(), 3)
    return folder


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What this machine's user has downloaded is no part of a test."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch-home"))
