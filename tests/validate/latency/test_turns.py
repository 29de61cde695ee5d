"""Turns on a fake clock: how long is drawn, what is left out, what of a drift is left in a ratio. Nothing here takes time."""

from __future__ import annotations

import itertools
import random

import pytest

from sprint_export.progress import Step
from sprint_export.validate.latency.rows import describe_drift, describe_timed, list_minutes
from sprint_export.validate.latency.turns import MOST_WARM, Length, Turns, compare_turns
from tests.validate.latency.fake_machine import FakeClock, FakeSide


def take_turns(clock: FakeClock, length: Length, *sides: FakeSide) -> Turns:
    turns = Turns(sides, length, clock.watch(), clock.read, clock.read_waited, clock.sleep)
    turns.warm_up()
    turns.draw()
    return turns


def test_a_number_of_runs_is_drawn_after_the_warm_up() -> None:
    clock = FakeClock()
    side = FakeSide("a", clock, lambda place, _: 1.0 if place < 2 else 0.5)
    turns = take_turns(clock, Length(runs=7, warm_up=2), side)
    assert side.count == 9
    assert [each.seconds for each in turns.drawn[0]] == [0.5] * 7
    assert turns.warmed == 2


@pytest.mark.parametrize(("took", "warmed"), [(3.0, 2), (0.25, 4), (1e-4, MOST_WARM)])
def test_it_warms_up_twice_or_for_a_second(took: float, warmed: int) -> None:
    clock = FakeClock()
    assert take_turns(clock, Length(runs=1), FakeSide("a", clock, lambda *_: took)).warmed == warmed


@pytest.mark.parametrize(("took", "count"), [(30.0, 10), (0.5, 20), (0.01, 1000)])
def test_without_a_number_ten_seconds_are_drawn_and_at_least_ten(took: float, count: int) -> None:
    clock = FakeClock()
    turns = take_turns(clock, Length(spread=0.0), FakeSide("a", clock, lambda *_: took))
    assert len(turns.drawn[0]) == pytest.approx(count, abs=1)


def test_on_a_busy_machine_it_goes_on_until_enough_drawings_were_not_disturbed() -> None:
    clock = FakeClock()
    side = FakeSide("a", clock, lambda place, _: 0.1 if place % 10 == 0 else 1.0, lambda place: 0.0 if place % 10 == 0 else 0.9)
    drawn = take_turns(clock, Length(warm_up=0, spread=0.0), side).drawn[0]
    assert sum(each.is_quiet for each in drawn) < 12, "sixty seconds are over before"
    assert 60 <= clock.now - 100.0 < 62
    rows = {(row.component, row.metric): row for row in describe_timed(drawn)}
    whole = rows["whole picture", "latency_p50_ms"]
    assert whole.value == pytest.approx(1000.0)
    assert whole.interval is not None
    assert list(whole.interval) == pytest.approx([100.0, 1000.0]), "so much was seen"
    assert "the machine was busy" in whole.note


def test_disturbed_drawings_are_left_out_where_enough_others_are_there_and_that_is_said() -> None:
    clock = FakeClock()
    side = FakeSide("a", clock, lambda place, _: 0.1 if place % 2 else 0.9, lambda place: 0.0 if place % 2 else 0.5)
    drawn = take_turns(clock, Length(runs=40, warm_up=0), side).drawn[0]
    rows = {(row.component, row.metric): row for row in describe_timed(drawn)}
    whole, network = rows["whole picture", "latency_p50_ms"], rows["denoiser", "latency_p50_ms"]
    assert [whole.value, network.value] == pytest.approx([100.0, 75.0])
    assert whole.note == "of 20 drawings; 20 that waited for processors are left out (p50 of all 500 ms)"
    assert rows["whole picture", "latency_p99_ms"].interval is None
    assert rows["whole picture", "latency_p99_ms"].note.endswith("an interval takes 368")


def test_several_at_once_are_counted_by_the_picture() -> None:
    clock = FakeClock()
    drawn = take_turns(clock, Length(runs=10, warm_up=0), FakeSide("a", clock, lambda *_: 0.4)).drawn[0]
    row = next(row for row in describe_timed(drawn, pictures=4) if row.component == "whole picture")
    assert row.value == pytest.approx(100.0)
    assert row.note.startswith("a picture, of 4 drawn at once; of 10 drawings")


def test_sides_draw_in_blocks_and_their_reverse() -> None:
    clock = FakeClock()
    order: list[str] = []
    sides = [FakeSide(name, clock, lambda *_: 1.0, order=order) for name in "abc"]
    take_turns(clock, Length(runs=8, warm_up=0), *sides)
    blocks = ["".join(order[i : i + 6]) for i in range(0, len(order), 6)]
    assert len(blocks) == 4
    assert all(block[:3] == block[5:2:-1] and set(block) == set("abc") for block in blocks)
    assert len(set(blocks)) > 1, "the order is shuffled"


def test_a_drift_of_the_machine_cancels_in_the_ratio() -> None:
    clock, noise = FakeClock(), random.Random(1)

    def slower(now: float) -> float:
        return 1 + (now - 100.0) / 30

    ours = FakeSide("ours", clock, lambda _, now: 0.1 * slower(now) * noise.uniform(0.95, 1.05))
    theirs = FakeSide("theirs", clock, lambda _, now: 0.3 * slower(now) * noise.uniform(0.95, 1.05))
    drawn = take_turns(clock, Length(runs=100, warm_up=0), ours, theirs).drawn
    ratio, interval, blocks = compare_turns(*drawn)
    assert interval is not None
    assert blocks == 50
    assert ratio == pytest.approx(3.0, rel=0.02)
    assert interval[0] <= 3.0 <= interval[1]
    assert interval[1] / interval[0] < 1.1
    assert drawn[0][-1].seconds > 2 * drawn[0][0].seconds, "the machine did slow down"


def test_minutes_are_told_apart_and_their_drift_is_a_row() -> None:
    clock = FakeClock()
    side = FakeSide("a", clock, lambda _, now: 1.0 if now < 160 else 1.5)
    drawn = take_turns(clock, Length(minutes=2.0, warm_up=0), side).drawn[0]
    minutes = list_minutes(drawn)
    assert [(each["minute"], each["runs"], each["p50_ms"]) for each in minutes] == [(0, 60, 1000.0), (1, 40, 1500.0)]
    (row,) = describe_drift(minutes)
    assert row.value == pytest.approx(50.0)
    assert row.note == "p50 of minute 2 against the first: 1000 -> 1500 ms"


def test_drawings_are_spread_in_five_parts_and_the_one_after_a_pause_does_not_count() -> None:
    clock = FakeClock()
    side = FakeSide("a", clock, lambda *_: 0.1)
    drawn = take_turns(clock, Length(runs=50, warm_up=0, spread=60.0), side).drawn[0]
    assert (len(drawn), side.count) == (50, 54)
    starts = [round(drawn[i].began - 100.0, 1) for i in range(0, 50, 10)]
    assert starts == [0.0, 12.1, 24.1, 36.1, 48.1]
    assert all(later.began - each.began < 0.11 for each, later in itertools.pairwise(drawn[10:20]))


def test_without_a_number_ten_seconds_of_drawings_are_spread_over_thirty() -> None:
    clock = FakeClock()
    drawn = take_turns(clock, Length(warm_up=0), FakeSide("a", clock, lambda *_: 0.1)).drawn[0]
    assert len(drawn) == pytest.approx(100, abs=2)
    assert drawn[-1].began - drawn[0].began == pytest.approx(26.0, abs=0.5)


def test_progress_counts_on_and_ends_whole() -> None:
    clock, seen = FakeClock(), []
    turns = Turns([FakeSide("a", clock, lambda *_: 0.5)], Length(spread=0.0), clock.watch(), clock.read, clock.read_waited)
    turns.progress = lambda *step: seen.append(step)
    turns.draw()
    assert all(done < total for _, done, total in seen[:-1])
    assert seen[-1] == (Step("timing"), 20, 20)
    assert [total for _, _, total in seen[2:-1]] == [20] * 18
