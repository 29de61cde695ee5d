"""A few scorers that do anything but answer; benchmarks/attack.py hostile_scorers runs more."""

from __future__ import annotations

import random
from pathlib import Path

from tests.attack import hostile_scorers
from tests.attack.fresh import run_campaign


def test_a_scorer_that_does_anything_is_a_sentence_or_rows() -> None:
    tally = run_campaign("hostile_scorers", 10, 4)
    assert tally.total == 10
    assert not tally.faults, "\n".join(tally.faults)


def test_scripts_are_the_seeds_own_and_of_every_kind(tmp_path: Path) -> None:
    path = tmp_path / "scorer.py"

    def draw(seed: int) -> list[tuple[str, str, str, bool]]:
        return [hostile_scorers.write_scorer(path, random.Random(f"{seed}-{i}")) for i in range(200)]

    assert draw(1) == draw(1) != draw(2)
    assert {kind for _, kind, _, _ in draw(1)} == {*hostile_scorers.DEEDS, "offer", "numbers", "deaf", "none"}
    compile(path.read_text("utf-8"), str(path), "exec")
