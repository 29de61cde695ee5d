"""docs/python.md: its blocks run as they stand, one after the other, and name every function and error of the package's root."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import sprint_export
from tests.tree import ROOT

PAGE = (ROOT / "docs" / "python.md").read_text("utf-8")


def test_the_page_names_all_that_the_root_has() -> None:
    missing = [name for name in sprint_export.__all__ if f"`{name}`" not in PAGE]
    assert not missing


def test_the_blocks_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/python.md", "exec"), names)
    said = capsys.readouterr().out
    assert "['text_encoder', 'transformer', 'vae_decoder']" in said
    assert "(2, 64, 64, 3) ONNX Runtime" in said
    assert "0 of 255 at most True" in said
    assert "FP8 needs compute capability 8.9 or newer; rtx-3090 has 8.6; use trt-int8" in said
    assert not (tmp_path / "bundles").exists(), "what is refused leaves nothing"
