"""Bundles made with the newest versions, drawn by the oldest that pyproject.toml asks for, in an environment without torch.

.ci/run makes that environment from constraints-oldest.txt and names its interpreter in OLDEST_PYTHON.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sprint_export.conversion import convert
from sprint_export.psnr import psnr_images
from sprint_export.registry import list_members, load_target
from sprint_export.runtimes import open_bundle
from tests.made_student import PROMPTS, Array
from tests.tree import ROOT

OLDEST = os.environ.get("OLDEST_PYTHON", "")
pytestmark = pytest.mark.skipif(not OLDEST, reason="OLDEST_PYTHON names no interpreter; .ci/run makes one")
TARGETS = [
    *(f"{name}-{precision}" for name in ("onnx", "openvino", "web") for precision in load_target(name).precisions),
    "gpu-int8",
    "trt-fp8",  # a 16-bit graph's shadow
]
# A last bit of difference moves values over whole steps of 8 bits: 45.6 dB for openvino-int8 here, 49 for sprint-tiny's onnx-fp8;
# graphs in float32 reach 138.
MIN_PSNR_DB = 40.0
# In half precision, which a CPU computes in float32 between casts that each version leaves in other places: 37.8 dB here.
MIN_HALF_DB = {"gpu-int8": 33.0}


@pytest.fixture(scope="module")
def bundles(made_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("bundles")
    for target in TARGETS:
        convert(str(made_folder), target, base / target, prompts=PROMPTS, validate=False)
    return {target: base / target for target in TARGETS}


@pytest.fixture(scope="module")
def drawn(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Array]]:
    """What the old environment says, and its pictures by target."""
    folder = tmp_path_factory.mktemp("oldest")
    request = {"bundles": list(map(str, bundles.values())), "prompts": PROMPTS, "out": str(folder / "pictures.npz")}
    (folder / "request.json").write_text(json.dumps(request), "utf-8")
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # what is installed there is run
    command = [OLDEST, str(ROOT / "tests" / "draw_bundles.py"), str(folder / "request.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=outside)
    assert done.returncode == 0, done.stderr
    pictures = np.load(folder / "pictures.npz")
    return json.loads(done.stdout), {target: pictures[f"arr_{i}"] for i, target in enumerate(bundles)}


def test_it_is_the_oldest_of_everything_and_has_no_torch(drawn: tuple[dict[str, Any], dict[str, Array]]) -> None:
    lines = (ROOT / "constraints-oldest.txt").read_text("utf-8").splitlines()
    wanted = dict(line.split("==") for line in lines if not line.startswith("#"))
    found = drawn[0]["versions"]
    assert {name: found.get(name) for name in wanted} == wanted
    assert "torch" not in found


@pytest.mark.parametrize("target", TARGETS)
def test_the_oldest_draws_what_the_newest_draws(
    bundles: dict[str, Path], drawn: tuple[dict[str, Any], dict[str, Array]], target: str
) -> None:
    wanted = open_bundle(bundles[target])(PROMPTS, seed=0)
    assert wanted.std() > 10, "a flat picture proves nothing"
    worst = float(psnr_images(drawn[1][target], wanted).min())
    print(f"{target}: {worst:.1f} dB, {drawn[0]['descriptions'][str(bundles[target])]}")
    least = MIN_HALF_DB.get(target, MIN_PSNR_DB)
    assert worst >= least, f"{worst:.1f} dB, at least {least}"


def test_every_target_of_these_runtimes_is_here() -> None:
    named = {load_target(name).name for name in list_members("target")}
    runs_here = {name for name in named if {"onnx", "openvino"} & set(load_target(name).runtimes)}
    assert runs_here == {target.partition("-")[0] for target in TARGETS}


def test_the_command_runs_there(bundles: dict[str, Path], tmp_path: Path) -> None:
    command = Path(OLDEST).with_name("sprint-export")
    for arguments in (["inspect", str(bundles["onnx-int8"])], ["run", str(bundles["onnx-fp8"]), "a red circle", "-o", "a.png"]):
        done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.png").stat().st_size > 1000
    done = subprocess.run([command, "inspect", "nowhere"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2 and "nowhere is not a bundle" in done.stderr and "Traceback" not in done.stderr
