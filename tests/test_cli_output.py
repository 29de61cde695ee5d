"""How much the command says, where it begins, and what completes it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bundles import check_refused, run_command


def test_the_package_is_a_command_too(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "sprint_export", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == run_command("--version", folder=tmp_path).stdout
    assert done.stderr == ""


@pytest.mark.parametrize(("typed", "found"), [("li", {"list"}), ("--targ", {"--target"}), ("va", {"validate"})])
def test_a_shell_completes_verbs_and_options(tmp_path: Path, typed: str, found: set[str]) -> None:
    asked = {"_SPRINT_EXPORT_COMPLETE": "complete_bash", "COMP_WORDS": f"sprint-export {typed}", "COMP_CWORD": "1"}
    done = run_command(folder=tmp_path, environment={**os.environ, **asked})
    assert set(done.stdout.split()) == found
    assert "complete" in run_command("--show-completion", "bash", folder=tmp_path).stdout


def test_verbose_shows_what_is_behind_an_error(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text("{")
    plain, verbose = (run_command("inspect", ".", *more, folder=tmp_path) for more in ((), ("-v",)))
    check_refused(plain, 2, "bundle.json")
    assert verbose.returncode == 2
    assert "Traceback" in verbose.stderr
    assert verbose.stderr.endswith(plain.stderr), "the one line comes last"


def test_a_dry_run_says_the_choices_and_makes_nothing(tmp_path: Path) -> None:
    done = run_command("--target", "coreml-int8", "--dry-run", "--gate", "psnr_db>=40", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "device: iphone-15-pro" in done.stdout
    assert "psnr_db>=40" in done.stdout
    assert list(tmp_path.iterdir()) == []
    check_refused(run_command("--target", "coreml-int8", "--dry-run", "--steps", "5", folder=tmp_path), 2, "steps=5")


def test_prompts_may_come_through_a_pipe_or_from_windows(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_bytes("\ufeff# mine\r\na red circle\r\n".encode())
    command = [sys.executable, "-m", "sprint_export", "--target", "onnx-int8", "--dry-run", "--prompts"]
    for given, status in ((b"a red circle\n", 0), (b"", 2), (b"\xff", 2)):
        assert subprocess.run([*command, "-"], input=given, capture_output=True, check=False).returncode == status
    from sprint_export.cli.options import read_prompts

    assert list(read_prompts(tmp_path / "prompts.txt") or ()) == ["a red circle"], "the mark made the comment a prompt"
