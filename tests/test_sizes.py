"""Names of free axes, and which sizes of picture a bundle draws."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from sprint_export.errors import BundleError, InputError
from sprint_export.nouns.bundle import Bundle, ComponentRecord
from sprint_export.nouns.chain import EACH_STEP, Chain, Stage, ValueNames
from sprint_export.nouns.student import PromptPlan, StepPlan, TensorSpec
from sprint_export.sizes import PictureSizes, find_sizes, name_axis, read_axis

FIXED = PictureSizes((4, 32, 24), (4, 32, 24), (1024, 768))
FREE = PictureSizes((4, 32, 24), (4, "height", "width"), ("32*height", "32*width"))
PATCHES = PictureSizes((4, 32, 24), (4, "2*height", "2*width"), ("64*height", "64*width"))
CHAIN = Chain((Stage("denoiser", EACH_STEP), Stage("decoder")), ValueNames("ids", "mask", "latents", "denoised", "image"))
TOKENS = PictureSizes((768, 16), (768, 16), (1024, 768))  # a state without height and width


@pytest.mark.parametrize(("size", "multiple"), [("height", 1), ("32*height", 32)])
def test_a_name_reads_back(size: str, multiple: int) -> None:
    assert read_axis(size) == (multiple, "height")
    assert name_axis(multiple, "height") == size


@pytest.mark.parametrize("size", ["", "32*", "a*height", "height + 1", "3"])
def test_other_texts_name_no_axis(size: str) -> None:
    with pytest.raises(ValueError, match=r"expected a name, or a number|invalid literal"):
        read_axis(size)


@pytest.mark.parametrize("sizes", [FIXED, FREE, PATCHES, TOKENS])
def test_the_students_own_size_is_the_default(sizes: PictureSizes) -> None:
    assert sizes.pixels == (1024, 768)
    assert sizes.choose(None, None) == sizes.choose(1024, 768) == sizes.choose(1024, None) == sizes.own
    assert sizes.fits(sizes.own)


def test_free_sizes_are_multiples_of_a_step() -> None:
    assert FREE.choose(512, 96) == (4, 16, 3)
    assert FREE.choose(None, 32) == (4, 32, 1)
    assert PATCHES.choose(64, None) == (4, 2, 24)
    assert (FREE.fits((4, 5, 7)), PATCHES.fits((4, 5, 7)), PATCHES.fits((4, 4, 8))) == (True, False, True)
    assert not any(sizes.fits((4, 0, 2)) or sizes.fits((3, 2, 2)) or sizes.fits(()) for sizes in (FREE, PATCHES))
    assert not FIXED.fits((4, 24, 32))


@pytest.mark.parametrize(
    ("sizes", "height", "width", "message"),
    [
        (FREE, 500, None, "height=500: expected a positive multiple of 32 pixels; the nearest: 480 and 512"),
        (FREE, None, 1, "width=1: expected a positive multiple of 32 pixels; the nearest: 32"),
        (FREE, 512, 0, "width=0: expected a positive multiple of 32 pixels; the nearest: 32"),
        (FREE, -64, None, "height=-64: expected a positive multiple of 32 pixels; the nearest: 32"),
        (PATCHES, 96, None, "height=96: expected a positive multiple of 64 pixels; the nearest: 64 and 128"),
        (
            FIXED,
            512,
            None,
            "512 x 768 pixels (height x width): this bundle draws 1024 x 768 pixels (height x width) only; "
            "leave the size out, or export with --dynamic",
        ),
    ],
)
def test_a_size_that_cannot_be_drawn_names_those_that_can(
    sizes: PictureSizes, height: int | None, width: int | None, message: str
) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        sizes.choose(height, width)


def make_bundle(latents: tuple[Any, Any], picture: tuple[Any, Any]) -> Bundle:
    """A manifest in memory whose networks have these heights and widths."""

    def record(role: str, read: tuple[Any, Any], made: tuple[Any, Any]) -> ComponentRecord:
        name = "image" if role == "decoder" else "denoised"
        specs = [TensorSpec(name, "float32", (1, 4, *sides), "") for name, sides in (("latents", read), (name, made))]
        return ComponentRecord(role, (specs[0],), (specs[1],), (), {}, {})

    records = record("denoiser", latents, latents), record("decoder", latents, picture)
    plans = StepPlan((1.0,), 4.5), PromptPlan("", True, 9, 9, 0)
    names = ("made", "made", None, "none", "onnx", "fp32", "cpu")
    return Bundle(Path("here"), *names, {}, "", CHAIN, *plans, (4, 8, 8), records, (), None, "f", "k", {}, {})


@pytest.mark.parametrize(
    ("latents", "picture", "pixels"),
    [
        ((8, 8), (64, 96), (64, 96)),
        (("height", "width"), ("32*height", "32*width"), (256, 256)),
        (("2*height", "2*width"), ("64*height", "64*width"), (256, 256)),
    ],
)
def test_sizes_are_read_from_the_interfaces(latents: Any, picture: Any, pixels: tuple[int, int]) -> None:
    sizes = find_sizes(make_bundle(latents, picture))
    assert sizes == PictureSizes((4, 8, 8), (4, *latents), picture)
    assert sizes.pixels == pixels


@pytest.mark.parametrize(
    ("latents", "picture"),
    [
        (("height", "width"), ("a*height", "32*width")),
        ((0, 8), (64, 64)),
        ((8, 8), ("8*height", "8*width")),
        (("3*height", "3*width"), ("height", "width")),
    ],
)
def test_interfaces_that_do_not_fit_are_a_damaged_bundle(latents: Any, picture: Any) -> None:
    bundle = make_bundle(latents, picture)
    with pytest.raises(BundleError, match=r"here: latents .* and image .* do not fit each other .*; export the student again"):
        find_sizes(bundle)
    short = dataclasses.replace(bundle.components[0].inputs[0], shape=(1, 4))
    record = dataclasses.replace(bundle.components[0], inputs=(short,))
    with pytest.raises(BundleError, match="do not fit each other"):
        find_sizes(dataclasses.replace(bundle, components=(record, bundle.components[1])))


@pytest.mark.parametrize(("kept", "missing"), [(0, "decoder"), (1, "denoiser")])
def test_a_bundle_without_a_network_has_no_sizes(kept: int, missing: str) -> None:
    bundle = make_bundle((8, 8), (64, 64))
    with pytest.raises(BundleError, match=f"here has no {missing}, so no picture has a size; export all components to draw"):
        find_sizes(dataclasses.replace(bundle, components=(bundle.components[kept],)))
