"""A report replaces a report, and nothing of another program's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from markupsafe import Markup

from sprint_export.errors import InputError
from sprint_export.own_files import check_own_files
from sprint_export.validate.page.document import render_document

NAMES = ("report.json", "report.html")


def test_what_this_package_wrote_is_replaced(tmp_path: Path) -> None:
    check_own_files(tmp_path / "nowhere", NAMES)
    (tmp_path / "report.json").write_text(json.dumps({"format": 1, "kind": "devices"}, indent=1))
    (tmp_path / "report.html").write_text(render_document("a report", Markup("<h1>x</h1>"), []))
    check_own_files(tmp_path, NAMES)


@pytest.mark.parametrize("text", ["", "{}", '{"results": []}', "<html>coverage</html>", "x" * 10_000])
def test_what_another_program_wrote_is_named_and_left(tmp_path: Path, text: str) -> None:
    for name in NAMES:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=r"holds report\.json, report\.html, which sprint-export did not write"):
        check_own_files(tmp_path, NAMES)


def test_a_link_is_nobodys_report(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{\n "format": 1}')
    (tmp_path / "report.json").symlink_to(tmp_path / "mine.json")
    with pytest.raises(InputError, match=r"holds report\.json, which"):
        check_own_files(tmp_path, NAMES)
