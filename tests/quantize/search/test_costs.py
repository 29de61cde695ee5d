"""Prices: bytes of the arrays, time by arithmetic that can be done by hand, work from shapes alone."""

from __future__ import annotations

import functools
import math
from typing import Any

import pytest
import torch

from sprint_export.devices import find_device
from sprint_export.errors import InputError
from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.nouns.student import Student
from sprint_export.nouns.target import Device
from sprint_export.quantize.search.costs import LayerWork, Prices, choose_cost, measure_work, price_layer
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.quantize.weight_bytes import count_layer_bytes
from sprint_export.specialize import specialize_student
from sprint_export.students.sana_sprint.presets import tiny

INT8, FP8 = (QuantizedLayer(name, 1.0, 0, "bf16") for name in ("w8a8", "fp8"))
WEIGHT_ONLY = QuantizedLayer("w8a16", None, 0, "bf16")
DEVICE = Device("made", "made", None, {"16-bit": 1.0, "int8": 4.0, "fp8": 2.0, "fp32": 0.5}, 1000.0)


@pytest.fixture(scope="module")
def student() -> Student:
    return specialize_student(tiny())


@pytest.mark.parametrize(
    ("how", "picoseconds"),
    [  # 2 x 10^6 multiplications; TFLOP/s are FLOP per picosecond
        (None, 2_000_000),
        (INT8, 500_000),
        (FP8, 1_000_000),
        (WEIGHT_ONLY, 2_000_000),
    ],
    ids=["float", "int8", "fp8", "weights alone"],
)
def test_a_layer_that_multiplies_much_costs_flop_over_peak(how: QuantizedLayer | None, picoseconds: int) -> None:
    assert price_layer(LayerWork(100, 100, 1_000_000), (10, 10), how, "bf16", DEVICE) == picoseconds


@pytest.mark.parametrize(
    ("how", "moved"),
    [
        (None, 2000 * 2 + 600 * 2 + 300 * 2),
        (INT8, 2000 + 600 + 30 * 2 + 300 * 2),
        (WEIGHT_ONLY, 2000 * 2 + 600 + 30 * 2 + 300 * 2),
    ],
    ids=["float", "int8", "weights alone"],
)
def test_a_layer_that_multiplies_little_costs_bytes_over_bandwidth(how: QuantizedLayer | None, moved: int) -> None:
    assert price_layer(LayerWork(2000, 300, 10), (30, 20), how, "bf16", DEVICE) == moved  # 1000 GB/s are a byte a picosecond


def test_float_takes_what_the_graph_computes_in() -> None:
    assert count_layer_bytes((4, 5), None, 4) == 80
    assert count_layer_bytes((4, 5), WEIGHT_ONLY, 4) == 20 + 4 * 4
    assert price_layer(LayerWork(0, 0, 1000), (1, 1), None, "fp32", DEVICE) == 4000


@pytest.mark.parametrize("steps", [1, 2])
def test_work_is_what_runs(steps: int) -> None:
    """Counted on `meta` and in a real run alike; the transformer runs once a step."""
    student = specialize_student(tiny(), steps)
    work = measure_work(student)
    component = student.components["vae_decoder"]
    session = TorchSession(component)
    seen: dict[str, tuple[int, int]] = {}

    def note(name: str, _: Any, arguments: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        seen[name] = (arguments[0].numel(), output.numel())

    for name, module in session.module.named_modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            module.register_forward_hook(functools.partial(note, name))
    session.run({"latents": torch.zeros(1, *student.latent_shape).numpy()})
    assert seen
    for name, (inputs, outputs) in seen.items():
        fan_in = session.module.get_parameter(f"{name}.weight")[0].numel()
        assert work[f"vae_decoder.{name}"] == LayerWork(inputs, outputs, outputs * fan_in)
    once = measure_work(specialize_student(tiny()))
    layer = "transformer.transformer_blocks.0.attn1.to_q"
    assert work[layer].multiplications == steps * once[layer].multiplications > 0


def test_a_whole_is_the_sum_of_its_layers(student: Student) -> None:
    prices = Prices(student, "time", DEVICE, "bf16")
    layers = dict.fromkeys(("transformer.transformer_blocks.0.attn1.to_q", "vae_decoder.decoder.conv_in"), INT8)
    saved = sum(prices.price(layer, None) - prices.price(layer, INT8) for layer in layers)
    assert saved > 0
    assert prices.total({}) - prices.total(layers) == saved
    assert "not a measurement" in prices.explain()
    of_bytes = Prices(student, "bytes", DEVICE, "fp32")
    total = 4 * sum(math.prod(handle.shape) for c in student.components.values() for handle in c.weights.values())
    assert of_bytes.total({}) == total
    assert "nothing about speed" in of_bytes.explain()


def test_what_is_made_small_follows_from_the_device() -> None:
    assert choose_cost(None, find_device("rtx-4090")) == "time"
    assert choose_cost("bytes", find_device("rtx-4090")) == "bytes"
    assert choose_cost(None, find_device("cpu")) == choose_cost(None, find_device("iphone-16")) == "bytes"
    with pytest.raises(InputError, match=r"--cost time: no peaks of cpu are published .*use --cost bytes, or --device"):
        choose_cost("time", find_device("cpu"))
    with pytest.raises(InputError, match="unknown cost 'money'; choose from: bytes, time"):
        choose_cost("money", find_device("cpu"))
