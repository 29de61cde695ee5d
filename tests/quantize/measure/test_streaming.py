"""A streamed network computes what one in memory does, loads each large weight once a run, and holds none between runs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from sprint_export.linear_kernels import OneDnnLinear
from sprint_export.nouns.student import Component, Student
from sprint_export.quantize.measure import streaming
from sprint_export.quantize.measure.streaming import OUTPUT, StreamedNetwork, count_rows_at_once
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.specialize import specialize_student
from sprint_export.weights import Handle, LazyHandle
from tests.export.to_onnx.graphs import make_feeds
from tests.made_student import relative_error
from tests.tree import ROLES


@pytest.fixture(scope="module")
def student(made: Student) -> Student:
    return specialize_student(made)


@pytest.fixture(autouse=True)
def _all_but_vectors_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "SMALL", 300)


def count_loads(component: Component) -> tuple[Component, dict[str, int]]:
    loads: dict[str, int] = {}

    def counted(name: str, handle: Handle) -> LazyHandle:
        def load() -> torch.Tensor:
            loads[name] = loads.get(name, 0) + 1
            return handle.load()

        return LazyHandle(handle.shape, handle.dtype, load)

    return dataclasses.replace(component, weights={k: counted(k, v) for k, v in component.weights.items()}), loads


@pytest.mark.parametrize("role", ROLES)
def test_outputs_are_those_of_the_network_in_memory(student: Student, role: str) -> None:
    feeds = make_feeds(student)[role]
    component = student.components[role]
    (wanted,) = TorchSession(component).run(feeds).values()
    two = {name: np.concatenate([value, value]) for name, value in feeds.items()}
    (found,) = StreamedNetwork(component, lambda *_: None).run(two).values()
    deviation = max(relative_error(row[None], wanted) for row in found)
    print(f"{role}: {deviation:.1e}, at most 1e-5 (sums in another order)")
    assert deviation <= 1e-5


def test_large_linear_layers_compute_by_onednn(student: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    component = student.components["transformer"]
    sizes = {name: m.weight.numel() for name, m in component.module.named_modules() if isinstance(m, torch.nn.Linear)}
    monkeypatch.setattr(streaming, "SMALL", min(sizes.values()))
    network = StreamedNetwork(component)
    by_onednn = {name for name, module in network.module.named_modules() if isinstance(module, OneDnnLinear)}
    assert by_onednn == {name for name, size in sizes.items() if size > min(sizes.values())}
    assert 0 < len(by_onednn) < len(sizes), "there are both"


@pytest.mark.parametrize("role", ROLES)
def test_large_weights_are_loaded_once_a_run_and_freed(student: Student, role: str) -> None:
    component, loads = count_loads(student.components[role])
    network = StreamedNetwork(component, lambda *_: None)
    at_start = dict(loads)
    large = {name for name, value in component.weights.items() if np.prod(value.shape) > 300 and name in dict(named(network))}
    used = {name for name, value in named(network) if value.device.type == "meta"}
    assert used == large
    assert not large & set(at_start)
    for _ in range(2):
        network.run(make_feeds(student)[role])
    assert {loads[name] for name in large} == {2}
    assert all(loads[name] == 1 for name in at_start), "small ones stay"
    assert {name for name, value in named(network) if value.device.type == "meta"} == large


def named(network: StreamedNetwork) -> list[tuple[str, torch.Tensor]]:
    return [(name, value) for name, value in network.module.named_parameters() if name in network.component.weights]


def test_a_failed_run_frees_too(student: Student) -> None:
    def fail(name: str, *_: object) -> None:
        if name.endswith("to_q"):
            raise RuntimeError("no")

    network = StreamedNetwork(student.components["transformer"], fail)
    before = {name for name, value in named(network) if value.device.type == "meta"}
    with pytest.raises(RuntimeError, match="no"):
        network.run(make_feeds(student)["transformer"])
    assert {name for name, value in named(network) if value.device.type == "meta"} == before


def test_every_layer_is_listened_to(student: Student) -> None:
    component = student.components["vae_decoder"]
    heard: list[str] = []
    StreamedNetwork(component, lambda name, *_: heard.append(name)).run(make_feeds(student)["vae_decoder"])
    layers = {n: m for n, m in component.module.named_modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)}
    convolutions = {n: m for n, m in layers.items() if isinstance(m, torch.nn.Conv2d) and m.groups == 1}
    wide = [name + OUTPUT for name, m in convolutions.items() if max(m.kernel_size) > 1]
    assert wide, "some give their output in 8 bits on some target"
    assert sorted(heard) == sorted(f"vae_decoder.{name}" for name in (*layers, *wide))


def test_a_chunk_is_bound_by_its_largest_activation(student: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder's last level has 16 channels of 64 x 64, made by a convolution that reads 32 of them."""
    largest = 32 * 64 * 64
    monkeypatch.setattr(streaming, "CHUNK_VALUES", 3 * largest + 1)
    found = count_rows_at_once(student.components["vae_decoder"])
    monkeypatch.setattr(streaming, "CHUNK_VALUES", 10)
    assert (found, count_rows_at_once(student.components["vae_decoder"])) == (3, 1)
