"""A budget: as many pictures as fit into its seconds by what each version took, and never fewer than four."""

from __future__ import annotations

import pytest

from sprint_export.errors import InputError
from sprint_export.validate.pace import FEWEST, Pace, count_drawn, read_budget


class Clock:
    """Seconds that pass when told so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def draw(most: int, budget_s: float | None, kept: int = 0, exported_s: float = 30.0) -> tuple[list[int], float]:
    """Chunks that are drawn, and the seconds they took: a reference takes 50 a picture beyond those `kept`, loading takes 20."""
    clock = Clock()
    pace, chunks = Pace(most, budget_s, clock), list[int]()
    while count := pace.choose_next(sum(chunks)):
        start, missing = clock.now, max(0, sum(chunks) + count - max(kept, sum(chunks)))
        clock.now += 20 + 50 * missing if missing else 0
        pace.note("reference", clock.now - start, missing)
        start = clock.now
        clock.now += 20 + exported_s * count
        pace.note("exported", clock.now - start, count)
        chunks.append(count)
    return chunks, pace.spent_s


@pytest.mark.parametrize(
    ("most", "budget_s", "kept", "chunks"),
    [
        (64, None, 0, [64]),  # a count is one chunk
        (2, None, 0, [2]),
        (32, 1.0, 0, [4]),  # four at least
        (3, 1.0, 0, [3]),  # or all there are
        (32, 449.0, 0, [4]),  # 360 s, then 90 s a picture with its loading
        (32, 450.0, 0, [4, 1]),
        (32, 3600.0, 0, [4, 4, 8, 16]),  # the estimate is corrected after each
        (10, 3600.0, 0, [4, 4, 2]),
        (32, 245.0, 32, [4, 1]),  # all references were kept; of the next that is not known: it is taken to be as slow as a graph
    ],
)
def test_as_many_as_fit(most: int, budget_s: float | None, kept: int, chunks: list[int]) -> None:
    found, spent = draw(most, budget_s, kept)
    print(found, spent)
    assert found == chunks
    if budget_s is not None and sum(found) > FEWEST:
        assert spent <= budget_s + 40, "what loading the networks once more takes is all that a budget may be exceeded by"


def test_a_slow_machine_does_not_make_it_endless() -> None:
    assert sum(draw(32, 600.0, exported_s=1000.0)[0]) == FEWEST


def test_what_was_kept_is_not_counted_as_drawn() -> None:
    assert count_drawn({"text_encoder": [1.0] * 4, "transformer": [1.0] * 8, "vae_decoder": [1.0] * 3}) == 3
    assert count_drawn({"text_encoder": [], "vae_decoder": [2.0]}) == 1
    assert count_drawn({}) == 0
    pace = Pace(32, 1000.0, Clock())
    pace.note("reference", 0.1, 0)
    assert pace.choose_next(4) == 1, "nothing is known: one, to see what it takes"


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1h", 3600), ("1.5 m", 90), ("45", 45), (45, 45)])
def test_a_budget_is_a_time(text: str | float, seconds: float) -> None:
    assert read_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "ten", "-5m", "0", "10d", "1e3s", float("nan"), float("inf"), "9" * 400])
def test_a_budget_is_seconds_minutes_or_hours_and_nothing_else(text: str | float) -> None:
    with pytest.raises(InputError, match=r"budget=.*: expected seconds, minutes or hours, e\.g\. 90s, 10m or 1h"):
        read_budget(text)
