"""C++ draws from given pictures and at other sizes what Python draws, bit for bit, and refuses what Python refuses."""

from __future__ import annotations

import functools
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from sprint_export.pictures import read_pictures
from sprint_export.runtimes.open import open_bundle
from sprint_export.session import Pipeline
from tests.bundles import shared_bundle
from tests.runtimes.cpp.programs import ask_probe, draw_picture
from tests.runtimes.cpp.test_drawing import read_picture

PROMPT = "a red circle"
UInt8 = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def free(free_bundle: Path) -> Path:
    """Free sizes, an encoder to start from pictures, 1, 2 and 4 steps."""
    return free_bundle


@pytest.fixture(scope="module")
def steered(steered_bundle: Path) -> Path:
    """With a ControlNet, in 16 bits, at 1, 2 and 4 steps; its encoder starts from pictures too."""
    return steered_bundle


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    """A smooth picture with edges, of no network's size."""
    y, x = np.mgrid[0:75, 0:131]
    pixels = np.stack([2 * x, 3 * y, 255 * ((x - 60) ** 2 + (y - 40) ** 2 < 600)], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photograph.png")
    return tmp_path / "photograph.png"


def draw(bundle: Path, out: Path, *arguments: object) -> UInt8:
    done = draw_picture(bundle, PROMPT, "--seed", 5, "--threads", 1, "-o", out, *arguments)
    assert done.returncode == 0, done.stderr
    return read_picture(out)


@functools.cache
def open_python(bundle: Path, steps: int) -> Pipeline:
    """Python's side, opened once."""
    return open_bundle(bundle, steps=steps)


@pytest.mark.parametrize(
    ("steps", "asked"), [(1, {}), (4, {"height": 32, "width": 96}), (1, {"width": 128}), (2, {"height": 96})]
)
def test_other_sizes_are_pythons(free: Path, steps: int, asked: dict[str, Any], tmp_path: Path) -> None:
    options = [text for name, side in asked.items() for text in (f"--{name}", side)]
    wanted = open_python(free, steps)([PROMPT], seed=5, **asked)[0]
    np.testing.assert_array_equal(draw(free, tmp_path / "a.png", "--steps", steps, *options), wanted)


@pytest.mark.parametrize(
    ("steps", "strength", "asked"),
    [(1, 0.6, {}), (2, 0.5, {}), (2, 0.75, {}), (4, 0.2, {}), (4, 0.6, {}), (4, 1.0, {}), (4, 0.5, {"height": 96, "width": 32})],
)
def test_a_start_from_a_picture_is_pythons(
    free: Path, steps: int, strength: float, asked: dict[str, Any], photograph: Path, tmp_path: Path
) -> None:
    options = [text for name, side in asked.items() for text in (f"--{name}", side)]
    found = draw(free, tmp_path / "a.png", "--steps", steps, "--image", photograph, "--strength", strength, *options)
    wanted = open_python(free, steps)([PROMPT], seed=5, image=photograph, strength=strength, **asked)[0]
    np.testing.assert_array_equal(found, wanted)


def test_a_start_matters_and_says_so_where_it_does_not(free: Path, photograph: Path, tmp_path: Path) -> None:
    alone = draw(free, tmp_path / "alone.png", "--steps", 4)
    assert not np.array_equal(draw(free, tmp_path / "from.png", "--steps", 4, "--image", photograph), alone)
    done = draw_picture(free, PROMPT, "--seed", 5, "--image", photograph, "-o", tmp_path / "one.png")
    assert done.returncode == 0 and "the picture has no part" in done.stderr
    ways = ("--seed", 5, "--threads", 1, "--one-at-a-time", "--times", "-o", tmp_path / "b.png")
    done = draw_picture(free, PROMPT, "--steps", 4, "--image", photograph, *ways)
    assert done.stderr == "" and "\nvae_encoder " in done.stdout
    np.testing.assert_array_equal(read_picture(tmp_path / "b.png"), read_picture(tmp_path / "from.png"))


@pytest.mark.parametrize(("steps", "asked"), [(1, {}), (4, {"control_scale": 0.5}), (4, {"control_scale": -1.25})])
def test_a_picture_that_steers_is_pythons(
    steered: Path, steps: int, asked: dict[str, Any], photograph: Path, tmp_path: Path
) -> None:
    scale = [text for value in asked.values() for text in ("--control-scale", value)]
    found = draw(steered, tmp_path / "a.png", "--steps", steps, "--control", photograph, *scale)
    wanted = open_python(steered, steps)([PROMPT], seed=5, control=photograph, **asked)[0]
    np.testing.assert_array_equal(found, wanted)


def test_one_picture_steers_and_another_is_where_it_starts(steered: Path, photograph: Path, tmp_path: Path) -> None:
    other = np.zeros((64, 64, 3), np.uint8)
    other[16:48, 16:48] = 255
    Image.fromarray(other).save(tmp_path / "other.png")
    given = ("--control", photograph, "--image", tmp_path / "other.png", "--strength", 0.5)
    found = draw(steered, tmp_path / "a.png", "--steps", 4, *given)
    wanted = open_python(steered, 4)([PROMPT], seed=5, control=photograph, image=other, strength=0.5)[0]
    np.testing.assert_array_equal(found, wanted)
    without = open_python(steered, 4)([PROMPT], seed=5)[0]
    np.testing.assert_array_equal(draw(steered, tmp_path / "b.png", "--steps", 4), without)
    assert not np.array_equal(found, without)


def test_pictures_are_resized_as_pillow_does(tmp_path: Path) -> None:
    """Bigger, smaller, both, by odd factors, to and from a single pixel."""
    draw, asked = np.random.default_rng(4), list[dict[str, Any]]()
    for i, (height, width, to) in enumerate(
        [
            (7, 5, (64, 64)),
            (200, 333, (64, 64)),
            (64, 64, (64, 64)),
            (64, 200, (64, 31)),
            (9, 64, (77, 64)),
            (1, 1, (3, 2)),
            (50, 40, (1, 1)),
        ]
    ):
        pixels = (
            draw.integers(0, 256, (height, width, 3), np.uint8)
            if i % 2
            else (draw.random((height, width, 3)) > 0.5) * np.uint8(255)
        )
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        asked.append({"file": str(tmp_path / f"{i}.png"), "height": to[0], "width": to[1]})
    for each, found in zip(asked, ask_probe("fit", asked), strict=True):
        wanted = read_pictures("image", each["file"], 1, each["height"], each["width"])
        np.testing.assert_array_equal(np.array(found, np.float32), wanted.ravel(), err_msg=str(each))


def list_kinds() -> dict[str, Image.Image]:
    """Pictures of every kind that Pillow writes as PNG, none of them with 16 bits of colour."""
    draw = np.random.default_rng(2)
    rgba = Image.fromarray(draw.integers(0, 256, (20, 30, 4), np.uint8), "RGBA")
    rgb = rgba.convert("RGB")
    grey = Image.fromarray(draw.integers(0, 65536, (20, 30), dtype=np.uint16))
    kinds = {mode: rgb.convert(mode) for mode in ("1", "L", "LA", "P")} | {"RGB": rgb, "RGBA": rgba, "16 bits of grey": grey}
    return kinds | {"few colours": rgb.quantize(4), "sixteen colours": rgb.quantize(16)}


def test_png_files_of_every_kind_are_read_as_python_reads_them(tmp_path: Path) -> None:
    files = []
    for name, picture in list_kinds().items():
        files.append(tmp_path / f"{name}.png")
        picture.save(files[-1])
    picture = list_kinds()["P"]
    files.append(tmp_path / "transparent.png")
    picture.save(files[-1], transparency=7)
    files.append(tmp_path / "gamma.png")
    picture.convert("RGB").save(files[-1])
    insert_chunk(files[-1], b"gAMA", struct.pack(">I", 100000))
    files += [write_wide(tmp_path / f"{channels}.png", channels) for channels in (3, 4)]
    asked = [{"file": str(file), "height": 20, "width": 30} for file in files]
    for file, found in zip(files, ask_probe("fit", asked), strict=True):
        np.testing.assert_array_equal(
            np.array(found, np.float32), read_pictures("image", file, 1, 20, 30).ravel(), err_msg=file.name
        )


def make_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def insert_chunk(file: Path, kind: bytes, content: bytes) -> None:
    """Behind the header."""
    data = file.read_bytes()
    file.write_bytes(data[:33] + make_chunk(kind, content) + data[33:])


def write_wide(file: Path, channels: int) -> Path:
    """16 bits a channel, 20 x 30, with or without transparency."""
    values = np.random.default_rng(channels).integers(0, 65536, (20, 30 * channels)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", 30, 20, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = make_chunk(b"IHDR", header) + make_chunk(b"IDAT", zlib.compress(rows)) + make_chunk(b"IEND", b"")
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return file


def test_what_a_given_picture_cannot_be_is_said_in_one_line(free: Path, steered: Path, photograph: Path, tmp_path: Path) -> None:
    whole, bundle = photograph.read_bytes(), shared_bundle(tmp_path.parent, "onnx-fp32", steps=(1, 2, 4), validate=False)
    for name, content in {
        "text": b"a red circle",
        "empty": b"",
        "short": whole[:-40],
        "bits": whole[:60] + bytes([whole[60] ^ 8]) + whole[61:],
        "jpeg": b"\xff\xd8\xff\xe0" + whole,
    }.items():
        (tmp_path / f"{name}.png").write_bytes(content)
    for name, side in (("vast", 1 << 20), ("short for its size", 8000)):
        header = make_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        (tmp_path / f"{name}.png").write_bytes(whole[:8] + header + whole[33:])
    turned = Image.open(photograph)
    turned.getexif()[0x112] = 6
    turned.save(tmp_path / "turned.png", exif=turned.getexif())
    (tmp_path / "folder.png").mkdir()
    cases: list[tuple[Path, list[Any], str]] = [
        (free, ["--image", tmp_path / "none.png"], "none.png: there is no such file; expected a picture as PNG"),
        (free, ["--image", tmp_path / "folder.png"], "there is no such file"),
        (free, ["--image", "/dev/zero"], "there is no such file"),
        (free, ["--image", tmp_path / "text.png"], "it is no PNG file; expected a picture as PNG"),
        (free, ["--image", tmp_path / "empty.png"], "it is no PNG file"),
        (free, ["--image", tmp_path / "jpeg.png"], "it is no PNG file"),
        (free, ["--image", tmp_path / "short.png"], "a PNG file is damaged"),
        (free, ["--image", tmp_path / "bits.png"], "a PNG file is damaged"),
        (free, ["--image", tmp_path / "vast.png"], "1048576 x 1048576 pixels, expected at most 134217728"),
        (free, ["--image", tmp_path / "short for its size.png"], "it is too short for its width and height"),
        (free, ["--image", tmp_path / "turned.png"], "stored turned (Exif orientation 6); save it upright"),
        (free, ["--image", photograph, "--strength", 0], "strength=0: expected more than 0, the picture itself, and at most 1"),
        (free, ["--image", photograph, "--strength", 1.5], "strength=1.5: expected more than 0"),
        (free, ["--image", photograph, "--strength", "nan"], "--strength nan: expected a number"),
        (free, ["--strength", 0.5], "--strength says how a picture is used; give --image too"),
        (free, ["--control-scale", 0.5], "--control-scale says how a picture is used; give --control too"),
        (free, ["--control", photograph], "control: no network here takes a control picture; export a student with a ControlNet"),
        (steered, ["--control", photograph, "--control-scale", "1,5"], "--control-scale 1,5: expected a number"),
        (steered, ["--control", photograph, "--control-scale", "inf"], "expected a number"),
        (bundle, ["--image", photograph], "image: no network here encodes pictures; export the student with --image-to-image"),
        (bundle, ["--control", photograph], "control: no network here takes a control picture"),
        (free, ["--width", 30], "width=30: expected a positive multiple of 4 pixels; the nearest: 28 and 32"),
        (free, ["--height", 3], "height=3: expected a positive multiple of 4 pixels; the nearest: 4"),
        (free, ["--height", 0], "--height 0: expected a whole number from 1"),
        (free, ["--height", 1 << 20, "--width", 1 << 20], "1048576 x 1048576 pixels (height x width): expected at most"),
        (bundle, ["--width", 128], "64 x 128 pixels (height x width): this bundle draws 64 x 64 only; leave the size out"),
    ]
    for folder, arguments, said in cases:
        done = draw_picture(folder, PROMPT, "-o", tmp_path / "a.png", *arguments)
        assert (done.returncode, done.stdout) == (2, ""), done
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done
        assert said in done.stderr, done
        assert not (tmp_path / "a.png").exists()
