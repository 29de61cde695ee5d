"""What metrics measure on a device is what they measure on the CPU, where its memory is short too (tests/fake_device.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from sprint_export.compute import CPU, Compute
from sprint_export.validate.confidence.means import mean_interval
from sprint_export.validate.image_metrics.clip_folder import EMBEDDING, SCORING
from sprint_export.validate.image_metrics.measuring import Measured, MetricChoice, choose_metrics, measure_pictures
from sprint_export.validate.image_metrics.metric import Comparison
from tests.fake_device import fake_device
from tests.validate.image_metrics.made_clip import save_clip
from tests.validate.image_metrics.made_weights import make_pictures


@pytest.fixture(scope="module")
def folder(weights: Path) -> Path:
    """The made weights, with both checkpoints of CLIP."""
    for repo in (SCORING, EMBEDDING):
        if not (weights / Path(repo).name).exists():
            save_clip(weights / Path(repo).name)
    return weights


def measure(name: str, folder: Path, compute: Compute) -> Measured:
    exported, reference = make_pictures(count=2)
    comparison = Comparison(exported, reference, ["a dog", "a red ball"])
    measured = measure_pictures(choose_metrics(MetricChoice([name])), comparison, mean_interval, folder, compute)
    assert measured.unchecked == []
    return measured


@pytest.mark.parametrize("name", ["lpips", "dists", "clip_score", "cmmd", "fid"])
def test_a_metric_gives_the_same_on_a_device(name: str, folder: Path) -> None:
    wanted = measure(name, folder, CPU)
    with fake_device() as (compute, said):
        found = measure(name, folder, compute)
    assert [row.value for row in found.rows] == pytest.approx([row.value for row in wanted.rows], rel=1e-4)
    assert said == []


@pytest.mark.parametrize("name", ["lpips", "clip_score", "cmmd"])
def test_a_metric_that_does_not_fit_on_the_device_is_computed_on_the_cpu_and_says_so(name: str, folder: Path) -> None:
    wanted = measure(name, folder, CPU)
    with fake_device(largest=3000) as (compute, said):
        found = measure(name, folder, compute)
    assert [row.value for row in found.rows] == pytest.approx([row.value for row in wanted.rows], rel=1e-4)
    assert any("too large for the memory of" in line and "computed on the CPU" in line for line in said)
