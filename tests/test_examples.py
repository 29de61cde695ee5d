"""The examples run as their docstrings say."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sprint_export.quantize.patterns import explain_recipe
from sprint_export.quantize.recipes import fit_recipe
from sprint_export.recipe_toml import read_recipe
from sprint_export.registry import load_target
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.students.sprint_tiny.adherence import measure_adherence
from tests.tree import ROOT


def test_export_and_draw_leaves_the_picture_its_prompt_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = str(ROOT / "examples" / "export_and_draw.py")
    monkeypatch.setattr(sys, "argv", [script, "--out", str(tmp_path)])
    runpy.run_path(script, run_name="__main__")
    assert "draws with ONNX Runtime" in capsys.readouterr().out
    picture = Image.open(tmp_path / "picture.png").resize((64, 64), Image.Resampling.NEAREST)
    prompt = "a small red circle above a large blue square on a white background"
    assert measure_adherence([prompt], [np.asarray(picture)]).everything == 1.0


def test_the_small_text_recipe_compresses_the_text_encoder_alone() -> None:
    recipe = read_recipe(ROOT / "examples" / "small_text.toml")
    goal = load_target("onnx")
    student = specialize_student(load_student("sprint-tiny"))
    decisions = explain_recipe(fit_recipe(recipe, "int8", student, goal), student)
    chosen = {d.layer: d.precision for d in decisions if d.layer.startswith("text_encoder.")}
    assert chosen.pop("text_encoder.model.embed_tokens") == "w8a16"
    assert set(chosen.values()) == {"w4a16"}
    assert {d.precision for d in decisions if not d.layer.startswith("text_encoder.")} == {"float", "w8a8"}


def test_the_example_recipe_fits_the_embedded_student() -> None:
    recipe = read_recipe(ROOT / "examples" / "own_recipe.toml")
    student = specialize_student(load_student("sprint-tiny"))
    decisions = explain_recipe(fit_recipe(recipe, "int8", student, load_target("onnx")), student)
    chosen: dict[str, set[str]] = {d.layer.split(".")[0]: set() for d in decisions}
    for decision in decisions:
        chosen[decision.layer.split(".")[0]].add(decision.precision)
    assert chosen["text_encoder"] == {"float"}
    assert "w8a8" in chosen["transformer"]
