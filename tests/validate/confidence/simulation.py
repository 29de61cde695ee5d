"""Validations without pictures: what is true is chosen, samples are drawn, and the looks decide as they do for pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sprint_export.nouns.report import Gate, Verdict
from sprint_export.validate.confidence.decisions import is_enough, weigh
from sprint_export.validate.confidence.evidence import Evidence, Loss, Mean
from sprint_export.validate.confidence.looks import Looks

Draw = Callable[[np.random.Generator], Callable[[int], Evidence]]  # a trial: what its first pictures say


@dataclass(frozen=True)
class Ended:
    """One trial."""

    verdict: Verdict
    pictures: int


def draw_losses(lost: float, won: float, most: int) -> Draw:
    """Pairs that are lost and won with these chances."""

    def draw(rng: np.random.Generator) -> Callable[[int], Evidence]:
        kinds = rng.choice(3, most, p=[lost, won, 1 - lost - won])
        return lambda count: Loss(int((kinds[:count] == 0).sum()), int((kinds[:count] == 1).sum()), count)

    return draw


def draw_means(sample: Callable[[np.random.Generator, int], npt.NDArray[np.float64]], most: int) -> Draw:
    """Figures of a distribution."""

    def draw(rng: np.random.Generator) -> Callable[[int], Evidence]:
        values = sample(rng, most)
        return lambda count: Mean(values[:count])

    return draw


def run_trial(sample: Callable[[int], Evidence], gate: Gate, counts: Sequence[int], is_corrected: bool = True) -> Ended:
    """A validation that looks at these counts of pictures, the last of which is all there are (drawing.draw_sides)."""
    looks = Looks(counts[-1])
    for count in counts:
        evidence, confidence = sample(count), looks.look(count)
        is_decided = is_enough(gate, evidence, confidence) if is_corrected else weigh(gate, evidence) != "not decided"
        if is_decided:
            return Ended(weigh(gate, evidence, confidence if is_corrected else 0.95), count)
    return Ended(weigh(gate, sample(counts[-1]), looks.look_last() if is_corrected else 0.95), counts[-1])


def run_trials(draw: Draw, gate: Gate, counts: Sequence[int], trials: int, is_corrected: bool = True) -> list[Ended]:
    """As many, each of its own seed."""
    return [run_trial(draw(np.random.default_rng(seed)), gate, counts, is_corrected) for seed in range(trials)]


def share(ended: Sequence[Ended], verdict: Verdict) -> float:
    """Of trials that ended so."""
    return float(np.mean([each.verdict == verdict for each in ended]))
