"""The frontier: the same from its file, the same bytes drawn again, every point in the legend."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sprint_export.errors import BundleError, MachineError
from sprint_export.quantize.search import frontier as module
from sprint_export.quantize.search.frontier import HEADROOM_DB, Frontier, Point, find_top, read_frontier, write_frontier

FRONTIER = Frontier(
    title="made: onnx-int8",
    unit="bytes",
    gate_db=40.0,
    prompts=8,
    chosen=Point("mix 1", 2.1e6, 41.0, 0.3),
    uniform=(Point("float", 4e6, 100.0, 0.0), Point("fast", 2e6, 38.0, 0.4)),
    mixes=(Point("mix 1", 2.1e6, 41.0, 0.3),),
    predicted=((2e6, 38.5), (2.2e6, 44.0), (4e6, 100.0)),
    layers={"int8": 50, "float": 3},
    notes=("cost is bytes",),
)


@pytest.mark.parametrize("unit", ["bytes", "ms"])
def test_it_is_written_read_and_drawn(tmp_path: Path, unit: str) -> None:
    frontier = dataclasses.replace(FRONTIER, unit=unit)
    data, picture = write_frontier(frontier, tmp_path)
    assert read_frontier(data) == frontier
    before = picture.read_bytes()
    assert np.asarray(Image.open(picture).convert("L")).std() > 10, "something is drawn"
    write_frontier(frontier, tmp_path)
    assert picture.read_bytes() == before


def test_what_is_far_above_is_left_out_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    seen: list[str] = []
    monkeypatch.setattr(Figure, "legend", lambda self, **_: seen.extend(self.axes[0].get_legend_handles_labels()[1]))
    write_frontier(FRONTIER, tmp_path)
    assert find_top(FRONTIER) == 41.0 + HEADROOM_DB
    assert "float: 100.0 dB at 4 MB, above this picture" in seen
    assert "fast: 38.0 dB at 2 MB" in seen
    assert "chosen: mix 1: 41.0 dB at 2.1 MB (50 int8, 3 float)" in seen


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(library: str, extra: str) -> None:
        raise MachineError(f"{library} is not installed; run: pip install 'sprint-export[{extra}]'")

    monkeypatch.setattr(module, "require", missing)
    with pytest.raises(MachineError, match=r"matplotlib is not installed; run: pip install 'sprint-export\[export\]'"):
        write_frontier(FRONTIER, tmp_path)


def test_costs_have_their_unit() -> None:
    assert FRONTIER.show_cost(FRONTIER.chosen) == "2.10 MB"
    assert dataclasses.replace(FRONTIER, unit="ms").show_cost(Point("x", 0.012345, 0, 0)) == "0.0123 ms"


@pytest.mark.parametrize("text", ["", "{}", "[" * 100_000, '{"title": NaN}'])
def test_a_damaged_file_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "frontier.json").write_text(text)
    with pytest.raises(BundleError, match=r"frontier\.json is damaged \("):
        read_frontier(tmp_path / "frontier.json")
