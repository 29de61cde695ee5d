"""Layers that a manifest names are rounded only where the student has them and they can be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from sprint_export.errors import BundleError
from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.nouns.student import Student
from sprint_export.registry import load_member
from sprint_export.validate.bundle_layers import take_layers

INT8 = load_member("precision", "int8").PRECISION
LAYER = QuantizedLayer(INT8, 1.0, 0, "fp32")
NAME = "transformer_blocks.0.attn1.to_q"

BAD: dict[str, tuple[str, Callable[[], QuantizedLayer], str]] = {
    "no layer": ("nosuch", lambda: LAYER, "quantizes 'nosuch', which is no layer of this student"),
    "a parameter": ("proj_out.bias", lambda: LAYER, "quantizes 'proj_out.bias', which is no layer"),
    "the whole network": ("", lambda: LAYER, "quantizes '', which is no layer"),
    "groups that do not divide": (NAME, lambda: dataclasses.replace(LAYER, group=7), "groups of 7 do not divide its 64 inputs"),
    "another type of storage": (NAME, lambda: with_precision(storage="x"), "int8 has other figures than this version's"),
    "another range": (NAME, lambda: with_precision(qmax=1e300), "int8 has other figures than this version's"),
    "a palette by name only": (NAME, lambda: with_precision(is_palette=True), "int8 has other figures than this version's"),
}


def with_precision(**values: object) -> QuantizedLayer:
    return dataclasses.replace(LAYER, precision=dataclasses.replace(INT8, **values))


@pytest.mark.parametrize("case", BAD)
def test_a_layer_that_cannot_be_rounded_is_one_line(tiny_student: Student, case: str) -> None:
    name, make, part = BAD[case]
    with pytest.raises(BundleError) as caught:
        take_layers(tiny_student.components["transformer"], {name: make()})
    assert part in str(caught.value)


def test_layers_that_fit_are_taken(tiny_student: Student) -> None:
    layers = {NAME: LAYER, "proj_out": dataclasses.replace(LAYER, group=32), "patch_embed.proj": LAYER}
    worded = {NAME: with_precision(meaning="in the words of another version")}
    for given in (layers, worded):
        assert take_layers(tiny_student.components["transformer"], given).layers == given
