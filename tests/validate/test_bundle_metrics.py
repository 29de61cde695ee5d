"""Metrics and scorers in a real validation: rows with intervals and gates, a figure a picture, and what could not be measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from sprint_export.errors import MachineError
from sprint_export.validate import validate_bundle
from sprint_export.validate.image_metrics.clip_folder import SCORING
from sprint_export.validate.image_metrics.taps import make_alexnet
from sprint_export.validate.image_metrics.weight_files import ALEX_FILE
from sprint_export.validate.report_file import read_report
from tests.bundles import check_refused, copy_bundle, run_command, shared_bundle
from tests.tree import ROOT
from tests.validate.image_metrics.made_clip import save_clip
from tests.validate.image_metrics.made_weights import save_made

COUNT = 4
SHARPNESS = f"sharpness={sys.executable} {ROOT / 'examples' / 'scorers' / 'sharpness.py'}"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    save_made(folder, ALEX_FILE.file, make_alexnet(), 1)
    save_clip(folder / Path(SCORING).name)
    return folder


@pytest.fixture
def bundle(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch-home"))  # what this machine's user has downloaded is no part of a test
    return copy_bundle(shared_bundle(tmp_path_factory.getbasetemp(), "onnx-int8"), tmp_path / "bundle")


def test_metrics_and_scorers_are_rows_of_the_report_with_gates_and_figures(bundle: Path, weights: Path) -> None:
    report = validate_bundle(
        bundle,
        count=COUNT,
        metrics="clip_score,dists",
        metric_weights=weights,
        scorers=[SHARPNESS],
        gates=["lpips<=0.5", "sharpness_drop<=100"],
    )
    rows = {row.metric: row for row in report.rows}
    assert (rows["lpips"].limit, rows["lpips"].verdict) == ("lpips<=0.5", "met"), "the gate asked for the metric"
    assert rows["sharpness_drop"].verdict == "met"
    for name in ("lpips", "clip_score", "clip_score_drop", "sharpness", "sharpness_reference"):
        low, high = rows[name].interval or (1, 0)
        assert low <= rows[name].value <= high, name
    assert len(report.pictures) == COUNT
    assert all({"psnr_db", "lpips", "clip_score_drop", "sharpness"} <= set(row.figures) for row in report.pictures)
    assert [row.figures["lpips"] for row in report.pictures] != [0.0] * COUNT
    (sentence,) = [each for each in report.unchecked if each.startswith("dists: ")]
    assert "looked for vgg16-397923af.pth" in sentence
    assert read_report(bundle) == report


def test_a_gate_on_a_scorer_that_dies_is_said_with_its_reason(bundle: Path) -> None:
    command = f"{sys.executable} -c 'import sys; sys.exit(5)'"
    with pytest.raises(MachineError, match=r"gate metric 'hps' could not be measured: hps: .* ended with status 5"):
        validate_bundle(bundle, count=COUNT, scorers=[f"hps={command}"], gates=["hps>=0.2"])


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--metrics", "lpipss"), 2, "unknown metric 'lpipss'"),
        (("--metrics", "lpips,"), 2, "expected names with commas between them"),
        (("--metric-weights", "nowhere"), 2, "--metric-weights nowhere: expected a folder"),
        (("--scorer", "hps"), 2, "expected NAME=COMMAND"),
        (("--scorer", "lpips=true"), 2, "a metric of this package has that name"),
        (("--gate", "lpips<=0.2"), 3, "gate metric 'lpips': AlexNet (torchvision, ImageNet) not found"),
        (("--prompts", "geneval:nowhere"), 2, "--prompts nowhere: cannot be read"),
    ],
)
def test_a_mistake_in_the_options_is_said_at_once(arguments: tuple[str, ...], status: int, said: str, bundle: Path) -> None:
    done = run_command("validate", bundle, *arguments, folder=bundle)
    check_refused(done, status, said)


def test_the_command_measures_a_geneval_file_with_a_detector(bundle: Path, tmp_path: Path) -> None:
    prompt = "a small red circle above a large blue square on a white background"
    circle = {"class": "circle", "color": "red", "position": ["above", 1]}
    line = {"tag": "position", "prompt": prompt, "include": [circle, {"class": "square", "color": "blue"}]}
    (tmp_path / "shapes.jsonl").write_text(f"{json.dumps(line)}\n" * COUNT, "utf-8")
    scorer = f"shapes={sys.executable} {ROOT / 'examples' / 'scorers' / 'detect_shapes.py'}"
    done = run_command(
        *("validate", bundle, "--prompts", f"geneval:{tmp_path / 'shapes.jsonl'}", "--scorer", scorer),
        *("--gate", "psnr_db>=10", "--gate", "shapes_prompt_drop<=50", "--allow-undecided", "--json"),
        folder=tmp_path,
    )
    assert done.returncode in (0, 1), done.stderr
    rows = {row["metric"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["shapes_prompt_reference"]["value"] == 100, done.stderr
    assert rows["shapes_prompt"]["unit"] == "%" and rows["shapes_prompt"]["interval"] is not None
    assert rows["shapes_prompt_drop"]["limit"] == "shapes_prompt_drop<=50"
