"""FID without each of some groups of pictures, for its interval (confidence/jackknife.py): no eigenvalues of a product.

tr (C1 C2)^(1/2) is the sum of the singular values of A B^T where C1 = A^T A and C2 = B^T B. Of fewer pictures than features, A
and B are the centred features: all that FID is made of are then the three matrices of their products, of which a group's rows and
columns are left out. Of more, they are Cholesky's factors of covariances from which a group's part is taken.
Singular values keep what an eigenvalue of C1 C2 loses: its root knows half of the digits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sprint_export.validate.confidence.jackknife import deal_groups

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from sprint_export.validate.image_metrics.metric import Float64
    from sprint_export.validate.image_metrics.picture_sets import Features

RIDGE = 1e-12  # of a covariance's mean variance, added to each: features that never vary leave it without full rank


def measure_without(ours: Features, theirs: Features) -> Float64:
    """FID [G] of features [B, F] a side without the pictures of each group; pictures at one place were drawn from one prompt."""
    groups = deal_groups(len(ours))
    middle = theirs.mean(axis=0, dtype=np.float64)
    few = len(ours) <= ours.shape[1]
    return np.array(list((_leave_from_products if few else _leave_from_sums)(ours, theirs, middle, groups)))


def measure_products(ours: Features, theirs: Features) -> float:
    """FID of features [B, F] a side, from the products of pictures."""
    middle = theirs.mean(axis=0, dtype=np.float64)
    a, b = ours - middle, theirs - middle
    return _measure_products(a @ a.T, b @ b.T, a @ b.T)


def _leave_from_products(ours: Features, theirs: Features, middle: Float64, groups: npt.NDArray[np.int64]) -> Iterator[float]:
    a, b = ours - middle, theirs - middle
    products = (a @ a.T, b @ b.T, a @ b.T)
    for group in range(groups.max() + 1):
        kept = np.ix_(groups != group, groups != group)
        yield _measure_products(*(each[kept] for each in products))


def _measure_products(own: Float64, other: Float64, cross: Float64) -> float:
    """FID from products [B, B] within each side and across, of equally many pictures."""
    count = len(cross)
    apart = (own.sum() + other.sum() - 2 * cross.sum()) / count**2
    spread = sum(float(np.trace(each) - each.sum() / count) for each in (own, other)) / (count - 1)
    centred = cross - cross.mean(0) - cross.mean(1)[:, None] + cross.mean()
    return _join(float(apart), spread, centred / (count - 1))


def _leave_from_sums(ours: Features, theirs: Features, middle: Float64, groups: npt.NDArray[np.int64]) -> Iterator[float]:
    totals = [sum_products(side, middle, groups, None) for side in (ours, theirs)]
    for group in range(groups.max() + 1):
        count = int((groups != group).sum())
        means, factors, spread = [], [], 0.0
        for side, (total, products) in zip((ours, theirs), totals, strict=True):
            part, part_products = sum_products(side, middle, groups, group)
            mean = (total - part) / count
            covariance = (products - part_products - count * np.outer(mean, mean)) / (count - 1)
            spread += float(np.trace(covariance))
            ridge = RIDGE * max(float(np.trace(covariance)), 1e-300) / len(mean)
            factors.append(np.linalg.cholesky(covariance + ridge * np.eye(len(mean))))
            means.append(mean)
        yield _join(float(np.square(means[0] - means[1]).sum()), spread, factors[0].T @ factors[1])


def sum_products(side: Features, middle: Float64, groups: npt.NDArray[np.int64], group: int | None) -> tuple[Float64, Float64]:
    """Sum [F] and sum of outer products [F, F] of a group's features less `middle`; None: of all, a group at a time."""
    if group is not None:
        rows = side[groups == group] - middle
        return rows.sum(0), rows.T @ rows
    total, products = np.zeros(side.shape[1]), np.zeros((side.shape[1],) * 2)
    for each in range(groups.max() + 1):
        part, part_products = sum_products(side, middle, groups, each)
        total += part
        products += part_products
    return total, products


def _join(apart: float, spread: float, cross: Float64) -> float:
    return max(0.0, float(apart + spread - 2 * np.linalg.svd(cross, compute_uv=False).sum()))
