"""`optimum-cli export sprint`: the same options, turned into the same command; optimum itself where it is installed."""

from __future__ import annotations

import argparse
import runpy
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from sprint_export.cli.optimum_arguments import add_arguments, list_arguments, name_flags, run_command
from sprint_export.cli.options import ORDER_OPTIONS
from sprint_export.libraries import is_installed
from sprint_export.options import merge_options
from tests.tree import ROOT

PLUGIN = ROOT / "examples" / "optimum_plugin" / "optimum" / "commands" / "register" / "register_sprint_export.py"


def parse(*arguments: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return vars(parser.parse_args(arguments))


def test_what_is_typed_there_is_what_our_command_gets() -> None:
    typed = ("--model", "random:x", "--target", "openvino-int8", "--gate", "psnr_db>=30", "--gate", "psnr_db<=70")
    found = list_arguments(parse(*typed, "--no-validate", "--layout", "optimum", "out"))
    assert found[:4] == ["--student", "random:x", "--out", "out"]
    pairs = " ".join(found[4:])
    for part in ("--target openvino-int8", "--gate psnr_db>=30 --gate psnr_db<=70", "--no-validate", "--layout optimum"):
        assert part in pairs
    assert "--dynamic" not in found, "what was not typed"


def test_every_option_of_ours_is_there_by_its_name() -> None:
    own = {option.name: option for option in (*ORDER_OPTIONS, *merge_options()) if option.name not in ("student", "out")}
    for option in own.values():
        given = [] if option.kind is bool else ["1"]
        flag = name_flags(option)[-1]
        found = list_arguments(parse("--model", "m", flag, *given, "out"))
        assert found[4:] == [flag, *given]


def test_a_wrong_target_is_refused_with_our_status_and_message(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(parse("--model", "sprint-tiny", "--target", "openvino-int9", "out")) == 2
    assert "unknown target 'openvino-int9'" in capfd.readouterr().err


def test_the_registered_command_is_a_child_of_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """With stand-ins for the two classes of optimum's that the file takes."""
    base, export = types.ModuleType("optimum.commands.base"), types.ModuleType("optimum.commands.export.base")
    vars(base).update(BaseOptimumCLICommand=type("BaseOptimumCLICommand", (), {}), CommandInfo=types.SimpleNamespace)
    vars(export).update(ExportCommand=type("ExportCommand", (), {}))
    for module in (base, export):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for name in ("optimum", "optimum.commands", "optimum.commands.export"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    ((command, parent),) = runpy.run_path(str(PLUGIN))["REGISTER_COMMANDS"]
    assert parent is vars(export)["ExportCommand"]
    assert command.COMMAND.name == "sprint"
    command.args = argparse.Namespace(**parse("--model", "sprint-tiny", "--target", "openvino-int9", "out"))
    with pytest.raises(SystemExit) as caught:
        command().run()
    assert caught.value.code == 2


def test_no_folder_above_the_file_is_a_package(tmp_path: Path) -> None:
    found = [path.name for path in (ROOT / "examples" / "optimum_plugin").rglob("__init__.py")]
    assert not found, "an __init__.py there would hide optimum itself"


@pytest.mark.skipif(not is_installed("optimum.commands.export"), reason="optimum is not installed")
def test_optimum_cli_lists_it() -> None:
    code = "from optimum.commands.optimum_cli import main; main()"
    paths = {"PYTHONPATH": f"{PLUGIN.parents[3]}:{ROOT / 'src'}", "HOME": "/"}
    command = [sys.executable, "-c", code, "export", "sprint", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=paths)
    assert "--layout" in done.stdout
