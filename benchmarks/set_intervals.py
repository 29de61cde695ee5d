"""How often the intervals of FID and CMMD hold what they say they hold: made features, many sets of pictures.

    python benchmarks/set_intervals.py --trials 400 --out benchmarks/results

A trial is a set of pictures: features of the reference, of a normal law or of one with long tails, and of the exported side,
which are the reference's with noise and moved (as a bundle's are), or other pictures altogether (as those that prompts bring).
Truth is the mean of the figure over all trials: what as many pictures give on average. Beside the jackknife stands the percentile
bootstrap of pairs, which many would take. `false_pass` is how often a gate `<= truth` is met: the truth at its very limit.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sprint_export.validate.confidence import means
from sprint_export.validate.confidence.jackknife import jackknife_interval
from sprint_export.validate.image_metrics.frechet_without import measure_products, measure_without
from sprint_export.validate.image_metrics.mean_discrepancy import leave_groups, measure_discrepancy
from sprint_export.validate.machine import describe_machine

Array = npt.NDArray[np.float64]
RESAMPLES = 100  # of the bootstrap of pairs
RESAMPLES_OF_MEANS = 999  # in place of 9,999
FULL = 0.95


def draw_normal(rng: np.random.Generator, count: int, width: int) -> Array:
    """Variances from 0.04 to 2.25."""
    return rng.normal(0.5, 1.0, (count, width)) * np.linspace(0.2, 1.5, width)


def draw_tailed(rng: np.random.Generator, count: int, width: int) -> Array:
    """Of Student's t with 5 degrees of freedom, a common size a picture, above 0: as activations are."""
    size = rng.gamma(4.0, 0.25, (count, 1))
    tailed: Array = np.maximum(0, size * (0.5 + rng.standard_t(5, (count, width)))) * np.linspace(0.2, 1.5, width)
    return tailed


LAWS: dict[str, Callable[[np.random.Generator, int, int], Array]] = {"normal": draw_normal, "long tails": draw_tailed}


def draw_sides(law: str, kind: str, count: int, width: int, seed: int) -> tuple[Array, Array]:
    """Exported and reference."""
    rng = np.random.default_rng(seed)
    theirs = LAWS[law](rng, count, width)
    if kind == "other pictures":
        return LAWS[law](rng, count, width) * 1.1, theirs
    apart = {"near": 0.02, "far": 0.3}[kind]
    return theirs + apart * (0.25 + rng.normal(size=theirs.shape)), theirs


def bootstrap(measure: Callable[[Array, Array], float], ours: Array, theirs: Array, seed: int) -> tuple[float, float]:
    """Percentiles of the figure of pairs drawn with replacement."""
    rng = np.random.default_rng(seed)
    drawn = (rng.integers(0, len(ours), len(ours)) for _ in range(RESAMPLES))
    values = [measure(ours[places], theirs[places]) for places in drawn]
    low, high = np.percentile(values, [50 * (1 - FULL), 50 * (1 + FULL)])
    return float(low), float(high)


def unit(side: Array) -> Array:
    """Of length 1, as CLIP's embeddings."""
    return side / np.linalg.norm(side, axis=1, keepdims=True)


def simulate(law: str, kind: str, count: int, width: int, trials: int) -> Iterator[dict[str, Any]]:
    """Rows of FID and CMMD."""
    metrics = {
        "fid": (measure_products, measure_without, lambda side: side),
        "cmmd": (measure_discrepancy, leave_groups, unit),
    }
    for name, (measure, leave, shape) in metrics.items():
        sets = [tuple(map(shape, draw_sides(law, kind, count, width, seed))) for seed in range(trials)]
        values = np.array([measure(*each) for each in sets])
        truth = values.mean()
        few = sets[: trials // 10]  # the bootstrap's shares are far from 95 %, and cost a hundred times as much
        ways = {
            "jackknife": [jackknife_interval(value, leave(*each), FULL) for value, each in zip(values, sets, strict=True)],
            "bootstrap": [bootstrap(measure, *each, seed) for seed, each in enumerate(few)],
        }
        for way, intervals in ways.items():
            ends = np.array(intervals)
            yield {
                "metric": name,
                "features": law,
                "exported": kind,
                "pictures": count,
                "width": width,
                "interval": way,
                "truth": float(f"{truth:.4g}"),
                "deviation": float(f"{values.std():.3g}"),
                "holds": round(float(((ends[:, 0] <= truth) & (ends[:, 1] >= truth)).mean()), 3),
                "false_pass": round(float((ends[:, 1] < truth).mean()), 3),
                "width_in_deviations": round(float((ends[:, 1] - ends[:, 0]).mean() / max(values.std(), 1e-300)), 2),
            }


def main() -> None:
    """Simulate and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--cases", default="64x32,16x64,128x64")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    means.RESAMPLES = RESAMPLES_OF_MEANS
    rows: list[dict[str, Any]] = []
    path = args.out / "set_intervals.json"
    for case in args.cases.split(","):
        count, width = map(int, case.split("x"))
        for law in LAWS:
            for kind in ("near", "far", "other pictures"):
                for row in simulate(law, kind, count, width, args.trials):
                    rows.append(row)
                    print(row, flush=True)
                command = f"python benchmarks/set_intervals.py --trials {args.trials} --cases {args.cases}"
                found = {"command": command, "machine": describe_machine(), "rows": rows}
                path.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
