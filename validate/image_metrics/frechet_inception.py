"""FID (Heusel et al. 2017, arXiv:1706.08500) of the exported pictures to PyTorch's, and of both to the prompts' own.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))      m, C: mean and covariance of Inception's 2048 features

torchmetrics computes it, of features in float64. Fewer pictures than features leave C without full rank: the value is then far
above what more pictures say, and is compared only with values of as many pictures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from sprint_export.compute import Place
from sprint_export.validate.image_metrics.metric import Comparison, ImageMetric, Scores, Setting, UnmeasuredError
from sprint_export.validate.image_metrics.networks import TORCHMETRICS, find_library_fault, split_pictures, to_unit
from sprint_export.validate.image_metrics.picture_sets import compare_sets, name_sets
from sprint_export.validate.image_metrics.weight_files import INCEPTION_FILE, fill_module

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch

    from sprint_export.validate.image_metrics.metric import UInt8
    from sprint_export.validate.image_metrics.picture_sets import Features
    from sprint_export.validate.rows import Rows

FEWEST = 2  # pictures: of one there is no covariance
PIXELS_AT_ONCE = 4_194_304  # of those that the network reads
ROWS_AT_ONCE = 4096  # of features in float64


class FrechetInception(ImageMetric):
    """One value of all pictures."""

    title = "Frechet inception distance (Heusel et al. 2017)"
    unit, better = "", "lower"
    needs = "the weights of Inception V3"

    @property
    def rows(self) -> tuple[str, ...]:
        return name_sets(self.name)

    def find_fault(self, setting: Setting) -> str | None:
        return find_library_fault("torch", TORCHMETRICS) or INCEPTION_FILE.find_fault(setting)

    def measure(self, comparison: Comparison, setting: Setting) -> list[Scores]:
        if len(comparison.exported) < FEWEST:
            raise UnmeasuredError(f"{len(comparison.exported)} picture: a covariance takes {FEWEST} or more")
        from sprint_export.validate.image_metrics.frechet_without import measure_without
        from sprint_export.validate.image_metrics.inception import Inception

        network = Inception()
        fill_module(network, INCEPTION_FILE.read(setting), INCEPTION_FILE.title)
        place = Place(setting.compute, self.title)

        def describe(sets: Iterable[Rows]) -> Features:
            return find_features(network, sets, place)

        return compare_sets(self.name, comparison, describe, frechet_distance, measure_without)


def find_features(network: torch.nn.Module, sets: Iterable[Rows], place: Place) -> Features:
    """Features float32 [B, 2048] of sets of pictures uint8 [b, H, W, 3], each of one size."""
    import torch

    from sprint_export.validate.image_metrics.inception import SIDE

    found = []
    for pictures in sets:
        for part in split_pictures(pictures, PIXELS_AT_ONCE, SIDE):

            def run(chosen: UInt8 = pictures[part]) -> torch.Tensor:
                network.eval().to(place.compute.device)
                with torch.inference_mode(), place.compute.exact():
                    features: torch.Tensor = network(255 * to_unit(chosen, place.compute))
                    return features.float().cpu()

            found.append(place.attempt(run, network))
    return np.asarray(torch.cat(found).numpy(), np.float32)


def frechet_distance(ours: Features, theirs: Features) -> float:
    """The distance of two sets of features [B, F], by torchmetrics in float64; what rounding leaves below 0 is 0."""
    import torch

    from sprint_export.libraries import hush

    ours, theirs = shorten_features(ours, theirs)
    with hush():
        from torchmetrics.image.fid import FrechetInceptionDistance

        metric = FrechetInceptionDistance(feature=_give_features(ours.shape[1]))
        for features, is_real in ((theirs, True), (ours, False)):
            for start in range(0, len(features), ROWS_AT_ONCE):
                some = features[start : start + ROWS_AT_ONCE].astype(np.float64)
                metric.update(torch.from_numpy(some), real=is_real)
        return max(0.0, float(metric.compute()))


def shorten_features(ours: Features, theirs: Features) -> tuple[Features, Features]:
    """The same features along an orthonormal basis of all of them: N numbers each, where N in all are fewer than F.

    Means, distances and eigenvalues of covariances stay what they are, and so does FID; torchmetrics' eigenvalues of 2048 x 2048
    take a minute on one core.
    """
    count = len(ours) + len(theirs)
    if count >= ours.shape[1]:
        return ours, theirs
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    basis = np.linalg.qr(np.concatenate([ours, theirs]).T)[0]  # [F, N]
    return ours @ basis, theirs @ basis


def _give_features(width: int) -> torch.nn.Module:
    """A module that gives the features it is given, where torchmetrics expects a network."""
    import torch

    module: Any = torch.nn.Identity()
    module.num_features = width
    return cast("torch.nn.Module", module)


METRIC = FrechetInception(name="fid")
