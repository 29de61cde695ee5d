"""Half precision: values that overflow the published transformer in float16 stay finite here, and are what float32 computes."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from sprint_export.nouns.student import Student
from sprint_export.specialize import specialize_student
from sprint_export.students.networks.z_image_blocks import PRODUCT
from sprint_export.students.twinflow_z.presets import tiny
from sprint_export.weights import Handle, LazyHandle, materialize

LARGE = 140.0  # times weights that make values of about 1
NEAR = 0.02  # of the largest value: float16 has 3 digits


def plant(student: Student) -> Student:
    """Gated products and values of a few hundred thousand, as the published student has; norms take them back."""

    def grow(name: str, handle: Handle) -> Handle:
        is_large = name.endswith(("feed_forward.w3.weight", "feed_forward.w1.weight"))
        return LazyHandle(handle.shape, handle.dtype, lambda: handle.load() * LARGE) if is_large else handle

    stock = student.components["transformer"]
    grown = dataclasses.replace(stock, weights={name: grow(name, handle) for name, handle in stock.weights.items()})
    return dataclasses.replace(student, components={**student.components, "transformer": grown})


def test_products_that_overflow_half_precision() -> None:
    student = plant(tiny())
    component = specialize_student(student).components["transformer"]
    random, products = torch.Generator().manual_seed(0), []
    latents = torch.randn(1, *student.latent_shape, generator=random)
    embeds = torch.randn(1, 96, 64, generator=random) / 32
    mask = torch.ones(1, student.prompt.keep, dtype=torch.int64)
    found = {}
    for dtype in (torch.float32, torch.float16):
        real: Any = materialize(component.module, component.weights, dtype)
        for block in real.layers:
            block.feed_forward.w2.register_forward_pre_hook(lambda _, given: products.append(given[0].abs().max().item()))
        with torch.no_grad():
            found[dtype] = real(latents, embeds, mask)
    largest = PRODUCT * max(products[: len(real.layers)])
    assert 65504 < largest < 65504 * PRODUCT, f"{largest:.0f}: the stock product would fit, or is beyond what is promised"
    deviation = (found[torch.float16] - found[torch.float32]).abs().max() / found[torch.float32].abs().max()
    assert deviation <= NEAR, f"deviation {deviation:.3f} of the largest value, tolerance {NEAR}"
