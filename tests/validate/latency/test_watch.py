"""What is read of the machine: clocks, waiting, memory, throttling; GPUs through a stand-in of NVML."""

from __future__ import annotations

import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest

from sprint_export.validate.latency import watch as watching
from sprint_export.validate.latency.gpu import Gpu, find_gpus
from sprint_export.validate.latency.watch import Watch, find_fall, read_waiting
from tests.validate.latency.fake_machine import FakeClock


class FakeNvml:
    """One GPU of NVML: what it holds, its clock, why it is slow."""

    NVML_CLOCK_SM = 1
    NVMLError = RuntimeError

    def __init__(self) -> None:
        self.used, self.clock, self.bits = 500e6, 2000.0, 0

    def nvmlInit(self) -> None: ...  # noqa: N802 NVML's names, here and below

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 1

    def nvmlDeviceGetHandleByIndex(self, place: int) -> int:  # noqa: N802
        return place

    def nvmlDeviceGetName(self, handle: int) -> bytes:  # noqa: N802
        return b"NVIDIA Fake"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:  # noqa: N802
        return types.SimpleNamespace(used=self.used)

    def nvmlDeviceGetClockInfo(self, handle: int, kind: int) -> float:  # noqa: N802
        return self.clock

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: int) -> int:  # noqa: N802
        return self.bits


def sample(clock: FakeClock, watch: Watch, times: int = 1) -> None:
    for _ in range(times):
        clock.now += 1
        watch.tick()


def test_a_gpu_that_is_used_is_known_by_its_memory_and_its_reasons_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml, clock = FakeNvml(), FakeClock()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    watch = Watch(clock.read, find_gpus())
    sample(clock, watch)
    assert watch.gpu is None, "nothing was opened on it"
    nvml.used, nvml.bits = 1700e6, 0x01 | 0x20
    sample(clock, watch)
    nvml.used = 1600e6
    sample(clock, watch)
    assert watch.gpu is not None
    assert watch.gpu.name == "NVIDIA Fake"
    assert watch.device_memory_mb == pytest.approx(1200.0)
    assert watch.find_throttling() == (True, "NVML: software thermal slowdown")
    assert watch.pick_clocks() == [2000.0] * 4


def test_clocks_that_fall_by_a_tenth_are_throttling() -> None:
    nvml, clock = FakeNvml(), FakeClock()
    watch = Watch(clock.read, [Gpu(nvml, 0)])
    nvml.used = 900e6
    sample(clock, watch, 8)
    assert watch.find_throttling() == (False, "")
    nvml.clock = 1500.0
    sample(clock, watch, 8)
    assert watch.find_throttling() == (True, "clocks fell to 75 % of those at the start")


def test_samples_are_half_a_second_apart() -> None:
    nvml, clock = FakeNvml(), FakeClock()
    watch = Watch(clock.read, [Gpu(nvml, 0)])
    nvml.used = 900e6
    for _ in range(20):
        clock.now += 0.1
        watch.tick()
    assert len(watch.gpu_clocks_mhz) == 4


def test_without_the_library_or_a_driver_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert find_gpus() == ()
    nvml = FakeNvml()

    def fail() -> None:
        raise RuntimeError("driver not loaded")

    nvml.nvmlInit = fail  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert find_gpus() == ()


def test_throttles_that_the_system_counts_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = tmp_path / "cpu0" / "thermal_throttle" / "core_throttle_count"
    counter.parent.mkdir(parents=True)
    counter.write_text("3\n", "utf-8")
    monkeypatch.setattr(watching, "CPU", tmp_path)
    watch = Watch(FakeClock().read, gpus=())
    assert watch.find_throttling() == (False, "")
    counter.write_text("5\n", "utf-8")
    assert watch.find_throttling() == (True, "the system counted 2 throttles")


def test_a_system_that_says_nothing_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "CPU", tmp_path)
    monkeypatch.setattr(watching, "TASKS", tmp_path / "none")
    monkeypatch.setattr(watching, "read_clock_mhz", lambda: None)
    clock = FakeClock()
    watch = Watch(clock.read, gpus=())
    sample(clock, watch, 8)
    assert read_waiting() is None
    assert watch.threads is None
    assert watch.pick_clocks() == []
    assert watch.find_throttling() == (None, "this system shows neither counts nor clocks that move")


def test_waiting_is_summed_over_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("1", "100 2000000000 3"), ("2", "100 500000000 3"), ("3", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "schedstat").write_text(text, "utf-8")
    monkeypatch.setattr(watching, "TASKS", tmp_path)
    assert read_waiting() == pytest.approx(2.5)


def test_what_other_programs_used_is_what_was_busy_without_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  1000 0 0 1000 0 0 0 0 0 0\ncpu0 1\n", "utf-8")
    monkeypatch.setattr(watching, "STAT", stat)
    own = [5.0]
    monkeypatch.setattr(time, "process_time", lambda: own[0])
    watch = Watch(FakeClock().read, gpus=())
    own[0] = 7.0
    stat.write_text("cpu  1500 0 0 1500 0 0 0 0 0 0\ncpu0 1\n", "utf-8")
    assert watch.find_others_share() == pytest.approx(0.3), "5 of 10 seconds were busy, 2 of them this program's"
    stat.unlink()
    assert watch.find_others_share() is None


def test_a_fall_takes_eight_samples() -> None:
    assert find_fall([1.0] * 7) is None
    assert find_fall([2.0] * 4 + [1.0] * 4) == 0.5
