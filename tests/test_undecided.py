"""The command where so few pictures leave a gate undecided."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.bundles import copy_bundle, run_command, shared_bundle


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_bundle(tmp_path_factory.getbasetemp(), "onnx-int8")


def test_a_gate_that_is_not_decided_is_status_1_unless_allowed(int8: Path, tmp_path: Path) -> None:
    """One picture can fail a mean and cannot meet it."""
    copy_bundle(int8, tmp_path / "bundle")
    asked = ("validate", "bundle", "--count", 1, "--gate", "psnr_db>=5", "--json")
    for more, status in (((), 1), (("--allow-undecided",), 0)):
        done = run_command(*asked, *more, folder=tmp_path)
        assert done.returncode == status, done.stderr
        assert re.search(
            r"^gate not decided: psnr_db is \d\d\.\d*, demanded psnr_db>=5, .* The bundle is kept\.$", done.stderr, re.M
        )
        report = json.loads(done.stdout)
        assert (report["verdict"], report["passed"]) == ("not decided", False)
        assert len(report["pictures"]) == 1 and set(report["pictures"][0]["figures"]) >= {"psnr_db", "ssim"}
    said = [each for each in report["unchecked"] if each.startswith("adherence_drop_points<=3: 1 picture cannot decide it")]
    assert len(said) == 1
