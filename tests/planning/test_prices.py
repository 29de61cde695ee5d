"""Prices by hand, what is not known, price lists in files, and fits that find the rates they were made from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sprint_export.devices import find_device
from sprint_export.errors import InputError
from sprint_export.nouns.work import Work
from sprint_export.planning.fitting import Point, fit_prices
from sprint_export.planning.price_file import read_prices, save_prices
from sprint_export.planning.prices import REACHED, Prices, expect_reached, list_peaks, price_work

PRICES = Prices("made", "gpu", {"16-bit": 100.0, "int8": 200.0}, 1000.0, 5.0, "made")
# A network bound by arithmetic, one by memory, one by its many kernels, one in 8 bits.
NETWORKS = {
    "compute": [Work("a", 1e12, "16-bit", 1e6)],
    "memory": [Work("b", 1e9, "16-bit", 1e10)],
    "launches": [Work("c", 1e6, "16-bit", 1e3)] * 500,
    "integers": [Work("d", 4e12, "int8", 1e6)],
}


def points(prices: Prices, *names: str) -> list[Point]:
    return [Point(name, NETWORKS[name], price_work(NETWORKS[name], prices).milliseconds) for name in names or NETWORKS]


def test_a_kernel_costs_the_slower_of_arithmetic_and_memory_and_its_launch() -> None:
    price = price_work(NETWORKS["compute"] + NETWORKS["memory"], PRICES)
    assert price.milliseconds == pytest.approx(10.0 + 10.0 + 2 * 0.005)
    assert price.by_bound == pytest.approx({"compute": 10.0, "memory": 10.0, "launches": 0.01})


def test_a_price_without_a_rate_is_a_least_one_and_says_which_is_missing() -> None:
    price = price_work(NETWORKS["integers"], replace(PRICES, tflops={"16-bit": 100.0}))
    assert price.unknown == {"int8"}
    assert price.milliseconds == pytest.approx(0.001 + 0.005)
    assert price_work(NETWORKS["memory"], replace(PRICES, gigabytes_per_s=None)).unknown == {"memory"}


def test_peaks_are_the_device_s_and_what_is_reached_is_less() -> None:
    card = find_device("rtx-4090")
    peaks = list_peaks(card, "gpu")
    assert peaks is not None
    assert (peaks.tflops, peaks.gigabytes_per_s, peaks.kernel_us) == (card.tflops, 1008.0, 2.0)
    least, expected = (price_work(NETWORKS["compute"], prices).milliseconds for prices in (peaks, expect_reached(peaks)))
    assert least < expected == pytest.approx(least / REACHED)
    assert list_peaks(find_device("cpu"), "cpu") is None
    phone = list_peaks(find_device("iphone-17-pro"), "neural-engine")
    assert phone is not None
    assert (phone.tflops, phone.gigabytes_per_s) == ({}, 75.8)


def test_a_fit_finds_the_rates_that_measurements_were_made_with() -> None:
    peaks = Prices("made", "gpu", {"16-bit": 250.0, "int8": 700.0}, 1500.0, 2.0, "peaks")
    more = [Point("both", NETWORKS["compute"] + NETWORKS["launches"], 0.0)]
    measured = [*points(PRICES), *(replace(p, milliseconds=price_work(p.kernels, PRICES).milliseconds) for p in more)]
    fit = fit_prices(measured, "made", "gpu", peaks)
    assert set(fit.prices.fitted) == {"16-bit", "int8", "memory", "kernel"}
    assert fit.prices.tflops == pytest.approx(PRICES.tflops, rel=1e-3)
    assert (fit.prices.gigabytes_per_s, fit.prices.kernel_us) == pytest.approx((1000.0, 5.0), rel=1e-3)
    assert all(each.after_ms == pytest.approx(each.measured_ms, rel=1e-3) for each in fit.residuals)
    assert fit.before == {"16-bit": 250.0, "int8": 700.0, "memory": 1500.0, "kernel": 2.0}


def test_one_measurement_gives_one_factor_on_all_rates() -> None:
    peaks = PRICES.scale(2.0, "peaks")
    fit = fit_prices(points(PRICES, "compute"), "made", "gpu", peaks)
    assert fit.prices.basis == "fitted to 1 measured network: one factor on all rates"
    assert fit.prices.tflops["16-bit"] / peaks.tflops["16-bit"] == pytest.approx(0.5)
    assert fit.prices.gigabytes_per_s == pytest.approx(1000.0)


def test_fewer_constants_than_measurements_are_fitted_and_the_others_are_named() -> None:
    fit = fit_prices(points(PRICES, "compute", "memory"), "made", "gpu", PRICES.scale(2.0, "peaks"))
    assert len(fit.prices.fitted) == 1
    assert set(fit.kept) == {"16-bit", "memory", "kernel"} - set(fit.prices.fitted)


def test_a_device_that_publishes_nothing_is_fitted_too() -> None:
    fit = fit_prices(points(PRICES), "cpu", "cpu", None)
    assert fit.before == {}
    ratios = [each.measured_ms / each.after_ms for each in fit.residuals]
    assert max(ratios) / min(ratios) < 1.2
    assert len(fit.prices.fitted) < len(NETWORKS)
    assert all(each.before_ms is None for each in fit.residuals)


def test_nothing_measured_is_refused() -> None:
    with pytest.raises(InputError, match="at least one measured network"):
        fit_prices([], "made", "gpu", None)


def test_a_price_list_comes_back_from_its_file(tmp_path: Path) -> None:
    save_prices(path := tmp_path / "mine.json", replace(PRICES, fitted=("int8",)), {"networks": []})
    found = read_prices(path)
    assert replace(found, basis="made") == replace(PRICES, fitted=("int8",))
    assert found.basis == f"the price list {path}: made"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "other"}, "its format is 'other'"),
        ({"tflops": {"int8": -1}}, "-1 is no rate"),
        ({"tflops": {"int8": "fast"}}, "'fast' is no rate"),
        ({"kernel_us": 1e300}, "is no rate"),
        ({"fitted": None}, "not iterable"),
        ({"gigabytes_per_s": None, "kernel_us": 0}, "everything would be free"),
    ],
)
def test_what_is_no_price_list_is_refused(tmp_path: Path, change: dict[str, object], said: str) -> None:
    save_prices(path := tmp_path / "mine.json", PRICES, {})
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=said):
        read_prices(path)
