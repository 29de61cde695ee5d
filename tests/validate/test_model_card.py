"""The model card: what the hub reads of it, its table, and whose README.md is replaced."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sprint_export.bundle_files import CARD, sort_contents
from sprint_export.export.bundle import read_bundle, read_manifest
from sprint_export.nouns.bundle import Bundle
from sprint_export.validate.model_card import describe_card, write_card
from sprint_export.validate.report_file import read_report
from tests.bundles import copy_bundle, shared_bundle


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_bundle(tmp_path_factory.getbasetemp(), "onnx-int8")


def read_head(text: str) -> dict[str, str]:
    _, head, _ = text.split("---\n", 2)
    return dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)


def test_a_made_bundle_has_a_card_with_its_report_and_still_verifies(int8: Path) -> None:
    read_bundle(int8)
    text, report = (int8 / CARD).read_text("utf-8"), read_report(int8)
    assert read_head(text) == {"license": "apache-2.0", "pipeline_tag": "text-to-image", "library_name": "sprint-export"}
    assert "\n- onnx\n" in text
    assert "# sprint-tiny, onnx-int8\n" in text
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| row")]
    assert len(rows) == len(report.rows)
    assert sum("met: " in row for row in rows) == sum(row.passed is not None for row in report.rows)
    assert f"Other prompts than the {report.prompts} drawn" in text


def test_a_source_on_the_hub_is_the_base_model_and_a_folders_place_stays_unsaid(int8: Path) -> None:
    bundle = read_manifest(int8)

    def card(**changed: str) -> str:
        made: Bundle = replace(bundle, **changed)  # type: ignore[arg-type]  # texts all
        return describe_card(made, None, has_sheet=False)

    head = read_head(card(source="owner/name/inner", licence="Some | terms\nof use"))
    assert (head["base_model"], head["license"]) == ("owner/name", "other")
    assert "Licence: Some \\| terms of use." in card(licence="Some | terms\nof use")
    text = card(source="/home/somebody/students/mine")
    assert "base_model" not in text
    assert "/home/somebody" not in text
    assert "made from mine for" in text
    assert "Nothing was measured of this bundle" in text


def test_an_owners_readme_is_left_alone_and_is_not_the_bundles(int8: Path, tmp_path: Path) -> None:
    folder = copy_bundle(int8, tmp_path / "bundle")
    assert CARD in sort_contents(folder).files
    (folder / CARD).write_text("# Mine\n")
    assert write_card(folder) is False
    assert (folder / CARD).read_text("utf-8") == "# Mine\n"
    assert sort_contents(folder).foreign == (CARD,)
    (folder / CARD).unlink()
    assert write_card(folder) is True
    assert sort_contents(folder).foreign == ()
    (folder / CARD).write_bytes((folder / CARD).read_bytes() + b"\xff")  # a card of ours that a disk damaged
    assert write_card(folder) is True
    assert b"\xff" not in (folder / CARD).read_bytes()
