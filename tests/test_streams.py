"""Standard streams that are closed, full or read no more; text that would steer a terminal; a locale without UTF-8."""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path

import pytest

from sprint_export.cli.screen import CleanConsole
from sprint_export.errors import InputError
from sprint_export.paths import MOST_BYTES, check_utf8, is_file, is_folder, read_user_text, resolve_path
from sprint_export.streams import clean_text
from tests.bundles import check_refused, run_command
from tests.command_server import COMMAND


def run_shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", line.format(command=COMMAND)], capture_output=True, text=True, check=False, cwd=folder)


@pytest.mark.parametrize("verb", ["list devices", "list recipes --json", "--help", "--version"])
def test_results_that_cannot_be_written_are_an_error(tmp_path: Path, verb: str) -> None:
    done = run_shell("{command} " + verb + " > /dev/full", tmp_path)
    assert (done.returncode, done.stderr) == (3, "error: cannot write to standard output (No space left on device)\n")


@pytest.mark.parametrize("verb", ["list devices", "--help"])
def test_a_reader_that_leaves_ends_the_command_as_sigpipe_would(tmp_path: Path, verb: str) -> None:
    done = run_shell("{command} " + verb + " | true; echo ${{PIPESTATUS[0]}}", tmp_path)
    assert done.stdout in ("141\n", "0\n"), "0 where all was written before the reader left"
    assert done.stderr == ""


def test_closed_streams_are_no_error(tmp_path: Path) -> None:
    for line in ("{command} list devices >&-", "{command} list devices 2>&-", "{command} list devices <&- >&- 2>&-"):
        done = run_shell(line, tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), line
    assert run_shell("{command} --target trt-fp9 2>&-", tmp_path).returncode == 2


def test_control_characters_are_shown_and_not_obeyed() -> None:
    assert clean_text("a\x1b[31mred\x07\u202eb\x9b\n\tc") == "a\\x1b[31mred\\x07\\u202eb\\x9b\n\tc"
    text = io.StringIO()
    console = CleanConsole(file=text, force_terminal=True, color_system="standard")
    console.print("licence: \x1b]0;owned\x07mit", style="bold", markup=False, highlight=False)
    assert "\x1b]0;" not in text.getvalue()
    assert "\\x1b]0;owned" in text.getvalue()
    assert text.getvalue().startswith("\x1b[1m"), "our own styles stay"


def test_a_lone_surrogate_is_written_as_an_escape(tmp_path: Path) -> None:
    code = "from sprint_export import streams\nstreams.prepare_streams(); print('\\ud800')"
    done = subprocess.run([str(COMMAND.with_name("python")), "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\\ud800\n"


def test_a_locale_without_utf8_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_bytes("café\n".encode())
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
    done = run_command("--target", "trt-fp9é", folder=tmp_path, environment=environment)
    check_refused(done, 2, "unknown target 'trt-fp9é'", "Did you mean 'trt-fp8'?")


@pytest.mark.parametrize("argument", [b"\xff\xfe", b"a\xe9"])
def test_bytes_that_are_no_utf8_are_refused(tmp_path: Path, argument: bytes) -> None:
    done = subprocess.run([COMMAND, "run", "bundle", argument], capture_output=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.decode() == f"error: argument {argument!r} is not UTF-8; rename it, or write it in UTF-8\n"
    with pytest.raises(InputError, match=r"--out .* is not UTF-8"):
        check_utf8("--out", os.fsdecode(argument))


def test_names_that_no_file_has_are_no_file(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (Path("x" * 5000), Path("a\0b"), tmp_path / "loop", tmp_path / "none"):
        assert not is_file(path)
        assert not is_folder(path)
    for path, said in (
        (Path("~nosuchuser/x"), "--student ~nosuchuser/x: cannot be a path"),
        (tmp_path / "loop", "loop: cannot be a path"),
        (Path("a\0b"), "cannot be a path"),
    ):
        with pytest.raises(InputError, match=said):
            resolve_path("--student", path)


def test_a_text_file_is_regular_bounded_and_without_its_mark(tmp_path: Path) -> None:
    (tmp_path / "windows.txt").write_bytes("\ufeff# a comment\r\na red circle\r\n".encode())
    assert read_user_text("--prompts", tmp_path / "windows.txt") == "# a comment\na red circle\n"
    (tmp_path / "large.txt").write_bytes(bytes(MOST_BYTES + 1))
    os.mkfifo(tmp_path / "pipe")
    for name, said in (
        ("large.txt", "has 16,000,001 bytes; expected at most 16,000,000"),
        ("pipe", "expected a regular file, found a device, pipe or socket"),
        ("/dev/zero", "expected a regular file"),
        ("none", r"cannot be read \(No such file"),
        ("", r"cannot be read \(Is a directory"),
    ):
        with pytest.raises(InputError, match=said):
            read_user_text("--prompts", tmp_path / name)
