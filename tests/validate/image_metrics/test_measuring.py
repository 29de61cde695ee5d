"""Metrics by name: found by their files, asked for by name or by a gate, measured or said to be not; weights that are wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sprint_export.validate.image_metrics
from sprint_export.errors import InputError, MachineError
from sprint_export.registry import list_members
from sprint_export.validate.confidence.means import mean_interval
from sprint_export.validate.image_metrics.measuring import MetricChoice, choose_metrics, measure_pictures
from sprint_export.validate.image_metrics.metric import Comparison, list_image_metrics, load_image_metric
from sprint_export.validate.image_metrics.weight_files import ALEX_FILE
from tests.validate.image_metrics.made_weights import COUNT, make_pictures

BRIGHTNESS = '''
"""A metric that a stranger adds: how much brighter the exported pictures are."""
from sprint_export.validate.image_metrics.metric import ImageMetric, Scores
from sprint_export.validate.rows import map_rows


class Brightness(ImageMetric):
    title, unit, better = "difference of mean brightness", "levels", "lower"

    def measure(self, comparison, setting):
        ours, theirs = (map_rows(lambda some: some.mean((1, 2, 3)), side) for side in (comparison.exported, comparison.reference))
        return [Scores(self.name, self.unit, abs(ours - theirs), "levels of 255")]


METRIC = Brightness(name="brightness")
'''


def compare() -> Comparison:
    exported, reference = make_pictures()
    return Comparison(exported, reference, ["a picture"] * COUNT)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    """A folder that counts as validate/image_metrics/ too."""
    places = sprint_export.validate.image_metrics.__path__
    places.append(str(tmp_path))
    list_members.cache_clear()
    yield tmp_path
    places.remove(str(tmp_path))
    list_members.cache_clear()


def test_a_new_metric_is_one_file(room: Path) -> None:
    assert "brightness" not in list_members("metric")
    (room / "brightness_of_tests.py").write_text(BRIGHTNESS, "utf-8")
    list_members.cache_clear()
    (metric,) = choose_metrics(MetricChoice(), gated=["brightness"])
    measured = measure_pictures([metric], compare(), mean_interval)
    (row,) = measured.rows
    exported, reference = make_pictures()
    wanted = np.abs(exported.mean((1, 2, 3)) - reference.mean((1, 2, 3)))
    assert (row.metric, row.unit) == ("brightness", "levels")
    assert row.value == pytest.approx(wanted.mean())
    assert row.interval == pytest.approx(mean_interval(wanted))
    assert measured.figures["brightness"] == pytest.approx(wanted)
    assert measured.unchecked == []


@pytest.mark.parametrize("metric", list_image_metrics(), ids=lambda metric: str(metric.name))
def test_every_metric_says_what_it_is_and_names_its_rows(metric: Any) -> None:
    assert metric.title and metric.better in ("higher", "lower")
    assert metric.rows and all(row == row.lower() and " " not in row for row in metric.rows)
    assert load_image_metric(metric.name) is metric


def test_no_two_metrics_have_a_row_of_one_name() -> None:
    rows = [row for metric in list_image_metrics() for row in metric.rows]
    assert len(rows) == len(set(rows))


def test_psnr_and_ssim_are_in_every_report_and_not_measured_twice() -> None:
    assert choose_metrics(MetricChoice(["psnr", "ssim"]), gated=["psnr_db"]) == ()


def test_a_metric_that_there_is_not_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"unknown metric 'lpip'; choose from: .*lpips.*Did you mean 'lpips'\?"):
        choose_metrics(MetricChoice(["lpip"]))


def test_a_folder_of_weights_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--metric-weights .*nowhere: expected a folder"):
        choose_metrics(MetricChoice(["lpips"], tmp_path / "nowhere"))


def test_without_weights_a_metric_is_said_to_be_not_measured_and_where_to_get_them(tmp_path: Path) -> None:
    metrics = choose_metrics(MetricChoice(["lpips", "dists", "fid"], tmp_path))
    measured = measure_pictures(metrics, compare(), mean_interval, tmp_path)
    assert measured.rows == [] and measured.figures == {}
    assert [sentence.split(":")[0] for sentence in measured.unchecked] == ["lpips", "dists", "fid"]
    lpips = measured.unchecked[0]
    assert f"looked for alexnet-owt-7be5be79.pth in {tmp_path} and " in lpips
    assert lpips.endswith(
        "get it from https://download.pytorch.org/models/alexnet-owt-7be5be79.pth and name its folder: --metric-weights"
    )


def test_a_gate_on_what_cannot_be_measured_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"gate metric 'lpips': AlexNet .* not found"):
        choose_metrics(MetricChoice((), tmp_path), gated=["psnr_db", "lpips"])


def test_weights_are_taken_from_torchs_cache_too(weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    (cache / ALEX_FILE.file).symlink_to(weights / ALEX_FILE.file)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    measured = measure_pictures(choose_metrics(MetricChoice(["lpips"])), compare(), mean_interval)
    assert [row.metric for row in measured.rows] == ["lpips"]
    assert len(measured.figures["lpips"]) == COUNT


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"features.0.weight": torch.zeros(64, 3, 11, 11)}, "weight 'features.0.bias' is missing"),
        ({"features.0.weight": torch.zeros(64, 3, 3, 3)}, r"has shape \(64, 3, 3, 3\), expected \(64, 3, 11, 11\)"),
        ({"features.0.weight": torch.full((64, 3, 11, 11), float("nan"))}, "holds NaN or infinity"),
        ([1, 2], "holds a list, expected a state_dict"),
        (Path("x"), "cannot be read as weights .* nothing in it was run"),
    ],
)
def test_weights_that_are_wrong_are_said_and_not_used(value: Any, said: str, tmp_path: Path) -> None:
    torch.save(value, tmp_path / ALEX_FILE.file)
    measured = measure_pictures(choose_metrics(MetricChoice(["lpips"])), compare(), mean_interval, tmp_path)
    assert measured.rows == []
    (sentence,) = measured.unchecked
    assert re.search(said, sentence), sentence


def test_pictures_too_small_for_a_network_are_said(weights: Path) -> None:
    exported, reference = make_pictures(side=16)
    comparison = Comparison(exported, reference, ["a"] * COUNT)
    measured = measure_pictures(choose_metrics(MetricChoice(["lpips", "dists"])), comparison, mean_interval, weights)
    assert [sentence.split(" ")[0] for sentence in measured.unchecked] == ["lpips:", "dists:"]
    assert all("(16, 16)" in sentence for sentence in measured.unchecked)


def test_fid_of_a_set_has_one_value_and_no_figure_a_picture(weights: Path) -> None:
    exported, reference = make_pictures()
    few = Comparison(exported[:2], reference[:2], ["a"] * 2)
    measured = measure_pictures(choose_metrics(MetricChoice(["fid"])), few, mean_interval, weights)
    (row,) = measured.rows
    assert row.metric == "fid" and row.value > 0.01 and row.interval is None
    assert measured.figures == {}
