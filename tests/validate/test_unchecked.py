"""What was not checked is said: engines that nobody ran, what this run could not do, what no run does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sprint_export.nouns.bundle import Artifact
from sprint_export.nouns.report import Measurement, Report
from sprint_export.runtimes.runtime import load_runtime
from sprint_export.validate.unchecked import list_unchecked, list_unrun
from tests.small_bundle import make_small_bundle


def test_engines_that_did_not_run_are_named_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make_small_bundle(tmp_path / "bundle")
    graphs, engines = load_runtime("onnx"), load_runtime("trt")
    assert list(list_unrun(bundle, graphs)) == [], "there are none"
    engine = Artifact("transformer", "engine", "transformer/model.sm89.engine", "tensorrt-rtx", 1, "", "rtx-4090")
    bundle = replace(bundle, artifacts=(*bundle.artifacts, engine))
    assert list(list_unrun(bundle, engines)) == [], "they ran"
    monkeypatch.setattr(type(engines), "can_run", lambda self: "no GPU")
    assert list(list_unrun(bundle, graphs)) == [
        "Engines were built and not run (no GPU): the runtime onnx ran the graphs instead."
    ]


def test_what_no_run_checks_follows_what_this_one_could_not(tmp_path: Path) -> None:
    bundle = make_small_bundle(tmp_path / "bundle")
    report = Report(
        "b", "trt-fp8", "a runtime", "a machine", 7, (Measurement("ssim", 0.9, ""),), unchecked=("LPIPS: no weights",)
    )
    lines = list(list_unchecked(bundle, report))
    assert lines[0] == "LPIPS: no weights"
    assert lines[1] == "Other machines, runtimes and versions than a runtime on a machine; it is made for the device rtx-4090."
    assert lines[-2] == "Rows without a gate are told, not judged: ssim."
    assert "Nothing was measured" in next(iter(list_unchecked(bundle, None)))
