"""CLIP's metrics on a small CLIP: against transformers and scikit-learn, from a folder or the hub's cache, and what is wrong."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sprint_export.validate.confidence.means import mean_interval
from sprint_export.validate.image_metrics.clip_folder import EMBEDDING, SCORING, find_clip, open_clip
from sprint_export.validate.image_metrics.mean_discrepancy import measure_discrepancy
from sprint_export.validate.image_metrics.measuring import MetricChoice, choose_metrics, measure_pictures
from sprint_export.validate.image_metrics.metric import Comparison, Setting
from tests.validate.image_metrics.made_clip import save_clip
from tests.validate.image_metrics.made_weights import COUNT, make_pictures

PROMPTS = ["a dog", "a red ball", "two cats", "a tree, a lake", "x" * 40]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder of weights, with both checkpoints."""
    weights = tmp_path_factory.mktemp("weights")
    for repo in (SCORING, EMBEDDING):
        save_clip(weights / Path(repo).name)
    return weights


def measure(name: str, weights: Path | None, originals: list[Path] | None = None) -> Any:
    exported, reference = make_pictures()
    comparison = Comparison(exported, reference, PROMPTS, originals or ())
    return measure_pictures(choose_metrics(MetricChoice([name])), comparison, mean_interval, weights)


def test_the_clip_score_is_the_cosine_that_transformers_gives(folder: Path) -> None:
    measured = measure("clip_score", folder)
    assert measured.unchecked == []
    assert [row.metric for row in measured.rows] == ["clip_score", "clip_score_reference", "clip_score_drop"]
    clip = open_clip(SCORING, Setting(folder))
    exported, reference = make_pictures()
    for row, pictures in (("clip_score", exported), ("clip_score_reference", reference)):
        inputs = clip.processor(images=list(pictures), text=PROMPTS, return_tensors="pt", padding=True, truncation=True)
        with torch.inference_mode():
            logits = clip.model(**inputs).logits_per_image.diagonal() / clip.model.logit_scale.exp()
        assert measured.figures[row] == pytest.approx(100 * logits.clamp(min=0).numpy(), abs=1e-3), row
    drop = measured.figures["clip_score_reference"] - measured.figures["clip_score"]
    assert measured.figures["clip_score_drop"] == pytest.approx(drop)
    assert measured.rows[2].interval is not None
    assert np.ptp(measured.figures["clip_score"]) > 1, "the made model tells prompts apart"
    assert "1 prompts are longer than 16 tokens and were cut" in measured.rows[0].note


def test_cmmd_is_its_formula_with_scikit_learns_kernel(folder: Path) -> None:
    kernels = pytest.importorskip("sklearn.metrics.pairwise")
    rng = np.random.default_rng(0)
    ours, theirs = (values / np.linalg.norm(values, axis=1, keepdims=True) for values in rng.standard_normal((2, 40, 24)))
    gamma = 1 / (2 * 10.0**2)
    pairs = ((ours, ours), (theirs, theirs), (ours, theirs))
    same, other, between = (kernels.rbf_kernel(a, b, gamma=gamma).mean() for a, b in pairs)
    assert measure_discrepancy(ours, theirs) == pytest.approx(1000 * (same + other - 2 * between), rel=1e-9)
    assert measure_discrepancy(ours, ours) == pytest.approx(0, abs=1e-9)


def test_cmmd_compares_both_sides_with_the_pictures_that_came_with_the_prompts(folder: Path, tmp_path: Path) -> None:
    from PIL import Image

    _, reference = make_pictures()
    paths = [tmp_path / f"{i}.png" for i in range(COUNT)]
    for path, picture in zip(paths, reference, strict=True):
        Image.fromarray(picture).save(path)
    measured = measure("cmmd", folder, paths)
    rows = {row.metric: row.value for row in measured.rows}
    assert set(rows) == {"cmmd", "cmmd_originals", "cmmd_originals_reference"}
    assert rows["cmmd_originals_reference"] == pytest.approx(0, abs=1e-6), "they are the reference's own pictures"
    assert rows["cmmd"] == pytest.approx(rows["cmmd_originals"], abs=1e-7)
    assert rows["cmmd"] > 1e-4
    assert measured.figures == {}


def test_an_original_that_is_no_picture_is_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"no picture")
    measured = measure("cmmd", folder, [tmp_path / "0.png"])
    assert measured.rows == []
    assert "0.png cannot be read as a PNG, JPEG or WebP picture" in measured.unchecked[0]


def test_a_checkpoint_in_the_hubs_cache_is_found(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    repo = tmp_path / f"models--{SCORING.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("a" * 40, "utf-8")
    assert find_clip(SCORING, Setting()) is None
    shutil.copytree(folder / Path(SCORING).name, repo / "snapshots" / ("a" * 40))
    assert find_clip(SCORING, Setting()) == repo / "snapshots" / ("a" * 40)


def test_without_a_checkpoint_the_sentence_says_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path / "none"))
    (sentence,) = measure("clip_score", tmp_path).unchecked
    assert f"looked for config.json, model.safetensors, preprocessor_config.json, tokenizer_config.json in {tmp_path}" in sentence
    assert "hf download openai/clip-vit-large-patch14" in sentence


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda here: (here / "config.json").write_text('{"model_type": "bert"}'),
            "model_type 'bert'; expected 'clip'",
        ),
        (lambda here: (here / "config.json").write_text("{"), "config.json cannot be read"),
        (lambda here: (here / "model.safetensors").write_bytes(b"\0" * 64), "cannot be opened as a CLIP checkpoint"),
        (lambda here: (here / "tokenizer.json").write_text("[]"), "cannot be opened as a CLIP checkpoint"),
    ],
)
def test_a_damaged_checkpoint_is_said_and_not_used(damage: Any, said: str, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / Path(SCORING).name, tmp_path / Path(SCORING).name)
    damage(tmp_path / Path(SCORING).name)
    measured = measure("clip_score", tmp_path)
    assert measured.rows == []
    assert said in measured.unchecked[0]
