"""How often a gate passes what it should not, and how many pictures it takes to decide: validations without pictures.

    python benchmarks/gate_power.py --trials 2000 --out benchmarks/results

What is true is chosen, samples are drawn from it, and the looks decide as in a validation
(tests/validate/confidence/simulation.py). Rates: a loss of right pictures against `adherence_drop_points<=3`, at the looks of
small pictures, with and without the correction for looking again. Means: figures of three distributions whose mean is the limit,
at the looks of large pictures, and of four pictures alone. A false pass is a gate that is met where the truth is at its limit or
beyond. Bootstraps take 999 resamples here in place of 9,999.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sprint_export.nouns.report import Gate
from sprint_export.validate.confidence import means
from sprint_export.validate.confidence.means import bootstrap_interval, mean_interval, student_interval
from sprint_export.validate.machine import describe_machine
from sprint_export.validate.pace import LOOKS

sys.path.append(str(Path(__file__).resolve().parents[1]))  # tests/ is no installed package
from tests.validate.confidence.simulation import Ended, draw_losses, draw_means, run_trials, share

DROP, PSNR = Gate("adherence_drop_points", "<=", 3, "why"), Gate("psnr_db", ">=", 30, "why")
LOSSES = (
    (0.0, 0.0),
    (0.002, 0.002),
    (0.005, 0.001),
    (0.01, 0.002),
    (0.02, 0.0),
    (0.03, 0.0),
    (0.04, 0.01),
    (0.05, 0.0),
    (0.1, 0.02),
)
LARGE = (4, 8, 16, 32, 64)
EVERY_16 = tuple(range(16, 513, 16))
RESAMPLES = 999
MEAN = 30.0

Sample = Callable[[np.random.Generator, int], npt.NDArray[np.float64]]


def draw_with_outliers(rng: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    """One in twenty is 12 dB worse."""
    values: npt.NDArray[np.float64] = rng.normal(MEAN + 0.6, 1.5, count) - 12 * (rng.random(count) < 0.05)
    return values


FIGURES: Mapping[str, Sample] = {
    "normal, 2 dB": lambda rng, count: rng.normal(MEAN, 2.0, count),
    "a tail below": lambda rng, count: MEAN + 2.0 - rng.exponential(2.0, count),
    "one in twenty 12 dB worse": draw_with_outliers,
}


def describe(ended: Sequence[Ended]) -> dict[str, float]:
    """Shares of trials, and pictures drawn."""
    pictures = [each.pictures for each in ended]
    verdicts = {verdict: round(share(ended, verdict), 4) for verdict in ("met", "not decided", "not met")}
    return verdicts | {"pictures": round(float(np.mean(pictures)), 1)}


def simulate_rates(trials: int) -> list[dict[str, Any]]:
    """Losses below, at and above the limit."""
    rows = []
    for lost, won in LOSSES:
        draw, told = draw_losses(lost, won, LOOKS[-1]), {"lost_percent": 100 * lost, "won_percent": 100 * won}
        ways = (("64, 320, 512", LOOKS, True), ("every 16", EVERY_16, True), ("every 16, uncorrected", EVERY_16, False))
        rows += [told | {"looks": name} | describe(run_trials(draw, DROP, looks, trials, fixed)) for name, looks, fixed in ways]
    return rows


def simulate_means(trials: int) -> list[dict[str, Any]]:
    """Means at the limit, and 4 dB above it."""
    rows = []
    for name, sample in FIGURES.items():
        for above in (0.0, 4.0):
            draw = draw_means(lambda rng, count, sample=sample, above=above: above + sample(rng, count), LARGE[-1])  # type: ignore[misc]
            told = {"figures": name, "above_limit_db": above}
            ways = (("4 to 64", LARGE, True), ("4 to 64, uncorrected", LARGE, False), ("4 alone", LARGE[:1], True))
            rows += [told | {"looks": way} | describe(run_trials(draw, PSNR, looks, trials, fixed)) for way, looks, fixed in ways]
    return rows


def measure_coverage(trials: int) -> list[dict[str, Any]]:
    """How often intervals of 95 % hold the true mean, and how often it lies below them: the side that lets a gate pass."""
    ways = {"student": student_interval, "bootstrap": bootstrap_interval, "hull (ours)": mean_interval}
    rows = []
    for name, sample in FIGURES.items():
        for count in LARGE:
            draws = [sample(np.random.default_rng(seed), count) for seed in range(trials)]
            for way, interval in ways.items():
                ends = np.array([interval(values, 0.95) for values in draws])
                held, below = (ends[:, 0] <= MEAN) & (ends[:, 1] >= MEAN), ends[:, 0] > MEAN
                rows.append(
                    {
                        "figures": name,
                        "pictures": count,
                        "interval": way,
                        "holds": float(held.mean()),
                        "truth_below": float(below.mean()),
                    }
                )
    return rows


def main() -> None:
    """Simulate and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--parts", default="rates,means,coverage", help="which to simulate; the others stay as they are")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    means.RESAMPLES = RESAMPLES
    path = args.out / "gate_power.json"
    found = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    simulations = {"rates": simulate_rates, "means": simulate_means, "coverage": measure_coverage}
    for part in args.parts.split(","):
        command = f"python benchmarks/gate_power.py --trials {args.trials} --parts {part}"
        found[part] = {"command": command, "machine": describe_machine(), "rows": simulations[part](args.trials)}
    path.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    for part in found.values():
        for row in part["rows"]:
            print(row)
    print(path)


if __name__ == "__main__":
    main()
