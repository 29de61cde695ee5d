"""Layers that a manifest names are rounded only where the student has them and they can be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from sprint_export.errors import BundleError
from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.nouns.student import Student
from sprint_export.validate.bundle_layers import take_layers

LAYER = QuantizedLayer("w8a8", 1.0, 0, "fp32")
NAME = "transformer_blocks.0.attn1.to_q"

BAD: dict[str, tuple[str, Callable[[], QuantizedLayer], str]] = {
    "no layer": ("nosuch", lambda: LAYER, "quantizes 'nosuch', which is no layer of this student"),
    "a parameter": ("proj_out.bias", lambda: LAYER, "quantizes 'proj_out.bias', which is no layer"),
    "the whole network": ("", lambda: LAYER, "quantizes '', which is no layer"),
    "groups that do not divide": (
        NAME,
        lambda: dataclasses.replace(LAYER, group=7),
        "groups of 7 do not divide its weight of shape [64, 64]",
    ),
    "tables for groups of rows that do not divide": (
        NAME,
        lambda: QuantizedLayer("p4a16", None, 0, "fp32", 7),
        "groups of 7 do not divide its weight of shape [64, 64]",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_layer_that_cannot_be_rounded_is_one_line(tiny_student: Student, case: str) -> None:
    name, make, part = BAD[case]
    with pytest.raises(BundleError) as caught:
        take_layers(tiny_student.components["transformer"], {name: make()})
    assert part in str(caught.value)


def test_layers_that_fit_are_taken(tiny_student: Student) -> None:
    layers = {NAME: LAYER, "proj_out": dataclasses.replace(LAYER, group=32), "patch_embed.proj": LAYER}
    assert take_layers(tiny_student.components["transformer"], layers).layers == layers
