"""The device table: its figures, and what the lookup says."""

from __future__ import annotations

import pytest

from sprint_export.devices import find_device, list_devices
from sprint_export.errors import InputError


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
        "unknown device 'RTX 4090'; choose from: cpu, intel-gpu, intel-npu, iphone-14, iphone-15-pro, iphone-16, "
        "mac-m1, mac-m4, rtx-2080-ti, rtx-3090, rtx-4070, rtx-4080, rtx-4090, rtx-5080, rtx-5090. Did you mean 'rtx-4090'?"
    )
