"""Rows of an entry, pairs with the best, the order and the front, on arrays whose answers are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sprint_export.errors import InputError
from sprint_export.nouns.report import Gate, Measurement
from sprint_export.validate.comparing.comparison import PictureFault
from sprint_export.validate.comparing.drawing import Side
from sprint_export.validate.comparing.entry import Label
from sprint_export.validate.comparing.figures import average, compare_pair, compare_seconds, measure_entry, median_interval
from sprint_export.validate.comparing.ranking import check_asked, check_names, find_front, judge_entry, order_entries
from tests.validate.comparing.doubles import PROMPTS, make_pictures

REFERENCE = make_pictures()


def shift(levels: int) -> Side:
    """Pictures so many levels off everywhere: PSNR 20 log10(255 / levels)."""
    lowered = REFERENCE // 2
    return Side((lowered + levels).astype(np.uint8), [0.1, 0.1, 0.1])


def measure(side: Side, **named: Any) -> Any:
    return measure_entry(Label("x", named.get("bytes"), True), side, PROMPTS, REFERENCE // 2)


def test_psnr_of_a_shift_is_the_formulas_and_size_and_latency_are_rows() -> None:
    found = measure(shift(5), bytes=2_500_000)
    rows = {row.metric: row for row in found.rows}
    assert rows["psnr_db"].value == pytest.approx(20 * np.log10(255 / 5))
    assert rows["psnr_worst_db"].value == pytest.approx(rows["psnr_db"].value)
    assert (rows["disk_mb"].value, rows["latency_p50_ms"].value, rows["blank_pictures"].value) == (2.5, 100, 0)
    assert rows["ssim"].value < 1


def test_the_difference_from_the_best_is_paired() -> None:
    noisy = np.random.default_rng(1).integers(0, 60, (len(PROMPTS), 1, 1, 1))  # prompts differ far more than entries do
    far, near = (replace(side, pictures=(side.pictures[:] + noisy).astype(np.uint8)) for side in (shift(10), shift(5)))
    rows = {row.metric: row for row in compare_pair(measure(far), measure(near), (far, near), PROMPTS)}
    psnr = rows["psnr_db_difference"]
    assert psnr.unit == "dB"
    assert psnr.value < 0
    assert psnr.interval is not None
    assert psnr.interval[0] <= psnr.value <= psnr.interval[1]
    assert rows["latency_ratio"].value == pytest.approx(1.0)


def test_a_drift_of_the_machine_cancels_in_the_ratio_of_seconds() -> None:
    drift = np.linspace(1, 10, 20)
    found = compare_seconds(2 * drift, drift)
    assert found.value == pytest.approx(2)
    assert found.interval == pytest.approx((2, 2))


def test_the_interval_of_a_median_covers_it_in_simulation() -> None:
    draw = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        found = median_interval(list(draw.lognormal(0, 1, 25)))
        assert found is not None
        covered += found[0] <= 1e3 <= found[1]
    assert covered / 400 >= 0.93
    assert median_interval([1.0]) is None
    assert median_interval([1.0, 2.0]) is None, "two values bound no median at 95 %"


def rows_of(psnr: float, latency: float | None, size: float, blank: float = 0) -> list[Measurement]:
    rows = [
        Measurement("psnr_db", psnr, "dB"),
        Measurement("disk_mb", size, "MB"),
        Measurement("blank_pictures", blank, "pictures"),
    ]
    return rows if latency is None else [*rows, Measurement("latency_p50_ms", latency, "ms")]


ROWS = {
    "blank": rows_of(90, 0.1, 0.1, blank=1),
    "beaten": rows_of(39, 11, 6),
    "small": rows_of(38, 12, 2),
    "fast": rows_of(39, 10, 5),
    "good": rows_of(50, 20, 9),
    "untimed": rows_of(60, None, 1),
}


def test_blank_entries_come_last_however_good_their_figures_are() -> None:
    assert order_entries(ROWS, "psnr_db") == ["untimed", "good", "beaten", "fast", "small", "blank"]
    assert order_entries(ROWS, "latency_p50_ms") == ["fast", "beaten", "small", "good", "blank", "untimed"]
    with pytest.raises(InputError, match=r"--rank-by speed.*choose from: .*psnr_db"):
        order_entries(ROWS, "speed")


def test_the_front_is_what_nothing_beats_in_all_three() -> None:
    assert find_front(ROWS) == {"small", "fast", "good"}


def test_blank_pictures_are_not_met_without_a_word_and_user_gates_join() -> None:
    asked = [Gate("psnr_db", ">=", 40, "asked for")]
    assert judge_entry(ROWS["good"], asked)[1] == "met"
    assert judge_entry(ROWS["fast"], asked)[1] == "not met"
    assert judge_entry(ROWS["blank"], asked)[1] == "not met"
    slow = [Gate("latency_p50_ms", "<=", 100, "asked for")]
    assert judge_entry(ROWS["untimed"], slow)[1] == "not decided", "nobody knows its latency"
    with pytest.raises(InputError, match="gate metric 'lpips'"):
        check_asked(ROWS.values(), [Gate("lpips", "<=", 1, "asked for")])


def test_faults_are_counted_and_named() -> None:
    side = replace(shift(5), faults=[PictureFault(1, "constant", "one colour")])
    row = next(row for row in measure(side).rows if row.metric == "blank_pictures")
    assert row.value == 1
    assert "1: constant" in row.note


def test_a_metric_that_no_report_has_is_refused_before_anything_is_drawn() -> None:
    check_names(["psnr_db", "ssim", "latency_p50_ms", "disk_mb", "blank_pictures", "flips", "lpips"])
    with pytest.raises(InputError, match=r"unknown metric 'psnr'.*psnr_db"):
        check_names(["psnr_db", "psnr"])


def test_a_gate_within_the_interval_is_not_decided_and_says_how_many_pictures_would_decide_it() -> None:
    values = np.tile([46.0, 54.0], 8)
    row = average("psnr_db", values, "")
    (judged,), verdict = judge_entry([row], [Gate("psnr_db", ">=", 49, "asked for")], {"psnr_db": values})
    assert (verdict, judged.verdict) == ("not decided", "not decided")
    assert judged.needed is not None
    assert judged.needed > len(values)
    assert judge_entry([row], [Gate("psnr_db", ">=", 40, "asked for")], {"psnr_db": values})[1] == "met"
