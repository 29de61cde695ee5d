"""A rewrite rule in one file: a target that names it runs it, and the bundle says how often it fired; no edit anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

import sprint_export.export.to_onnx.rules
import sprint_export.runtimes
from sprint_export.conversion import convert
from sprint_export.export.bundle import read_bundle
from sprint_export.nouns.bundle import RuleCount
from sprint_export.nouns.student import Student
from sprint_export.registry import list_members
from sprint_export.runtimes import open_bundle
from sprint_export.validate.report_file import read_report
from tests.export.to_onnx.graphs import count_ops

FOLDER = Path(__file__).parent
PROMPTS = ["a red circle", "a blue square"]
SILENT = "rule joined_unsqueezes fired 1 times, transformer has 2 of what it serves (masked attention): torch "


@pytest.fixture(scope="module", autouse=True)
def _files() -> Iterator[None]:
    """As if the rule lay in export/to_onnx/rules/, and a copy of `onnx` that names it in runtimes/."""
    rooms = (sprint_export.export.to_onnx.rules, "rules"), (sprint_export.runtimes, "runtimes")
    for room, name in rooms:
        room.__path__.append(str(FOLDER / name))
    list_members.cache_clear()
    yield
    for room, name in rooms:
        room.__path__.remove(str(FOLDER / name))
    list_members.cache_clear()
    for name in [name for name in sys.modules if name.endswith("joined_unsqueezes") or ".runtimes.plain" in name]:
        del sys.modules[name]


def test_it_fires_and_is_counted_in_the_bundle(tiny_student: Student, tmp_path: Path) -> None:
    """One mask serves both attentions, so the rule fires once; that is less than it says it must, and a note says so."""
    convert(tiny_student, "plain-fp32", tmp_path / "plain", prompts=PROMPTS)
    convert(tiny_student, "onnx-fp32", tmp_path / "onnx", prompts=PROMPTS)
    record = next(record for record in read_bundle(tmp_path / "plain").components if record.role == "transformer")
    assert record.rewrites == {"joined_unsqueezes": RuleCount(1, 2)}
    fired, silent = (note for note in record.notes if note.startswith("rule"))
    assert fired == "rules: joined_unsqueezes 1"
    assert silent.startswith(SILENT) and silent.endswith("writes another form, with slower kernels on plain")
    row = next(row for row in read_report(tmp_path / "plain").rows if row.metric == "silent_rules")
    assert (row.value, row.note) == (1, "transformer: joined_unsqueezes fired 1 of 2 times")
    operators = count_ops(onnx.load(str(tmp_path / "plain" / "transformer" / "model.onnx")))
    assert operators["Unsqueeze"] == 0 and operators["Reciprocal"] > 0, "its own rule ran, and none of onnx's"
    found, wanted = (open_bundle(tmp_path / name)(PROMPTS).astype(int) for name in ("plain", "onnx"))
    assert np.abs(found - wanted).max() <= 1
