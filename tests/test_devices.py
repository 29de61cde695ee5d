"""The device table: its figures, and what the lookup says."""

from __future__ import annotations

import pytest

from sprint_export.devices import APP_MEMORY, BANDWIDTH, MEMORY, RUNTIME, find_device, list_devices
from sprint_export.errors import InputError
from sprint_export.nouns.target import Device


def test_the_reference_card_has_the_budget_figures() -> None:
    card = find_device("rtx-4090")
    assert card.compute_capability == (8, 9)
    assert card.tflops == {"16-bit": 165.0, "fp8": 330.0, "int8": 660.0, "fp32": 82.6}
    assert (card.gigabytes_per_s, card.kernel_us) == (1008.0, 2.0)


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("rtx-4080", {"16-bit": 97.4, "fp8": 194.8, "int8": 389.6, "fp32": 48.7}),
        ("rtx-3090", {"16-bit": 71.2, "int8": 284.8, "fp32": 35.6}),
        ("rtx-2080-ti", {"16-bit": 56.8, "int8": 227.2, "fp32": 14.2}),
    ],
)
def test_rates_follow_the_generation(name: str, tflops: dict[str, float]) -> None:
    assert find_device(name).tflops == tflops


@pytest.mark.parametrize("device", list_devices(), ids=lambda device: device.name)
def test_fp8_exists_exactly_from_ada_on(device: object) -> None:
    found = find_device(getattr(device, "name", ""))
    assert found is device
    assert ("fp8" in found.tflops) == ((found.compute_capability or (0, 0)) >= (8, 9))


def test_the_cpu_has_no_compute_capability() -> None:
    assert find_device("cpu").compute_capability is None


def test_an_unknown_name_lists_the_choices() -> None:
    with pytest.raises(InputError) as caught:
        find_device("RTX 4090")
    assert str(caught.value) == (
        f"unknown device 'RTX 4090'; choose from: {', '.join(sorted(device.name for device in list_devices()))}. "
        "Did you mean 'rtx-4090'?"
    )


@pytest.mark.parametrize("device", list_devices(), ids=lambda device: device.name)
def test_every_number_says_who_gives_it(device: Device) -> None:
    numbers = [f"{unit} {kind}" for unit, kinds in device.units.items() for kind in kinds]
    sizes = {BANDWIDTH: device.gigabytes_per_s, MEMORY: device.memory_gb, APP_MEMORY: device.app_gb, RUNTIME: device.runtime_gb}
    assert set(device.figures) == {*numbers, *(what for what, value in sizes.items() if value)}
    for figure in device.figures.values():
        assert figure.by in ("vendor", "derived", "third party")
        assert figure.value > 0
        assert len(figure.source) > 20, "a source that can be looked up"
    assert device.lacks or {BANDWIDTH, MEMORY} <= set(device.figures), "what is not there is said to be published by nobody"


@pytest.mark.parametrize("name", ["rtx-4060-laptop", "rtx-4070-laptop", "iphone-17-pro", "ipad-m4", "macbook-m4", "h100", "h200"])
def test_devices_that_people_plan_for_are_known(name: str) -> None:
    assert find_device(name).memory_gb


def test_notebook_parts_are_derived_from_the_published_ai_tops() -> None:
    assert find_device("rtx-4070-laptop").tflops == {"16-bit": 40.1, "fp8": 80.2, "int8": 160.5, "fp32": 20.0}
    assert find_device("rtx-4070-laptop").figures["gpu int8"].by == "derived"


def test_what_no_vendor_publishes_is_said_and_not_made_up() -> None:
    phone = find_device("iphone-17-pro")
    assert phone.units == {}
    assert any("Apple publishes none of A19 Pro" in line for line in phone.lacks)
    assert phone.figures[BANDWIDTH].by == "third party"
