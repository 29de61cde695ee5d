"""Metrics against second libraries on fixed pictures: in this process, or as benchmarks/ask_metric_libraries.py noted them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sprint_export.compute import CPU, Place
from sprint_export.libraries import hush
from sprint_export.validate.image_metrics.frechet_inception import find_features, frechet_distance, shorten_features
from sprint_export.validate.image_metrics.inception import Inception
from sprint_export.validate.image_metrics.metric import Comparison, Setting, load_image_metric
from sprint_export.validate.images import ssim_images
from tests.validate.image_metrics.made_weights import COUNT, make_features, make_pictures, make_state

ANSWERS = json.loads(Path(__file__).with_name("other_libraries.json").read_text("utf-8"))


def measure(name: str, weights: Path | None = None) -> Any:
    """A metric's values on the made pictures."""
    exported, reference = make_pictures()
    comparison = Comparison(exported, reference, ["a picture"] * COUNT)
    (scores,) = load_image_metric(name).measure(comparison, Setting(weights))
    return scores.values


@pytest.mark.parametrize("name", ["lpips", "lpips_vgg", "dists"])
def test_perceptual_distances_are_those_of_their_authors_and_of_torchmetrics(name: str, weights: Path) -> None:
    found = measure(name, weights)
    assert len(ANSWERS[name]) == 2, "two libraries were asked"
    for library, wanted in ANSWERS[name].items():
        assert found == pytest.approx(wanted, rel=1e-4, abs=1e-6), library
    assert found[-1] > 50 * found[0], "the pictures differ more and more"


def test_psnr_is_torchmetrics() -> None:
    with hush():
        from torchmetrics.functional.image import peak_signal_noise_ratio
    first, second = (torch.from_numpy(each).double() for each in make_pictures())
    wanted = [float(peak_signal_noise_ratio(a, b, data_range=255.0)) for a, b in zip(first, second, strict=True)]
    assert measure("psnr") == pytest.approx(wanted, abs=1e-5)


def test_ssim_is_torchmetrics_within_the_border_but_for_the_count_that_variances_are_divided_by() -> None:
    from skimage.metrics import structural_similarity

    with hush():
        from torchmetrics.functional.image import structural_similarity_index_measure
    exported, reference = make_pictures()
    first, second = (torch.from_numpy(each).permute(0, 3, 1, 2).double() for each in (exported, reference))
    answer: Any = structural_similarity_index_measure
    options = {"gaussian_kernel": False, "kernel_size": 7, "data_range": 255.0, "reduction": "none", "return_full_image": True}
    wanted = answer(first, second, **options)[1][..., 3:-3, 3:-3].mean((1, 2, 3)).numpy()
    same: Any = structural_similarity  # scikit-image's own, with that count
    plain = [same(a, b, channel_axis=-1, use_sample_covariance=False) for a, b in zip(exported, reference, strict=True)]
    assert plain == pytest.approx(wanted, abs=1e-6)
    assert measure("ssim") == pytest.approx(wanted, abs=1e-4)
    assert measure("ssim") == pytest.approx(ssim_images(exported, reference))


def test_inceptions_features_are_those_of_torch_fidelitys_network() -> None:
    network = Inception()
    network.load_state_dict(make_state(network, 3))
    found = find_features(network.eval(), [make_pictures()[0][:2]], Place(CPU, ""))
    assert found.shape == (2, 2048)
    assert found[:, :16] == pytest.approx(np.array(ANSWERS["inception"])[:2], rel=1e-4, abs=1e-4)


def test_fid_of_fixed_features_is_the_formulas_and_pytorch_fids() -> None:
    from scipy.linalg import sqrtm

    ours, theirs = make_features()
    found = frechet_distance(ours, theirs)
    first, second = np.cov(ours.T), np.cov(theirs.T)
    formula = np.square(ours.mean(0) - theirs.mean(0)).sum() + np.trace(first + second - 2 * sqrtm(first @ second).real)
    assert found == pytest.approx(formula, rel=1e-6)
    assert found == pytest.approx(ANSWERS["fid"], rel=1e-6)
    assert frechet_distance(ours, ours) == pytest.approx(0, abs=1e-6)


def test_fid_of_fewer_pictures_than_features_is_the_same_along_their_basis() -> None:
    ours, theirs = (each[:10] for each in make_features())
    short = shorten_features(ours, theirs)
    assert short[0].shape == (10, 20)
    first, second = (np.cov(each.T) for each in (ours, theirs))
    roots = np.sqrt(np.linalg.eigvals(first @ second).astype(complex)).real.sum()
    formula = np.square(ours.mean(0) - theirs.mean(0)).sum() + np.trace(first + second) - 2 * roots
    assert frechet_distance(ours, theirs) == pytest.approx(formula, rel=1e-5)
