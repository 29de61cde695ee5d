"""Pictures in C++ are Python's, from a folder alone, without Python on the PATH; another project finds the library and builds."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from sprint_export.noise import make_normals
from sprint_export.runtimes.open import open_bundle
from sprint_export.validate.merging.merge import merge_results
from tests.bundles import copy_bundle, shared_bundle
from tests.command_server import COMMAND
from tests.runtimes.cpp.programs import TESTS, ask_probe, build_programs, draw_picture, fetch_dependencies, run

PROMPT = "a red circle above a blue square"
STEPS = (1, 2, 4)
NETWORKS = ("text_encoder", "transformer", "vae_decoder")
TARGETS = ("onnx-fp32", "onnx-int8", "onnx-fp16")


def make_bundle(base: Path, target: str) -> Path:
    return shared_bundle(base, target, steps=STEPS, validate=False)


def ship(bundle: Path, folder: Path) -> Path:
    """What app.json lists and nothing else, as an app ships it."""
    app = json.loads((bundle / "app.json").read_text("utf-8"))
    for path in ("app.json", *(file["path"] for file in app["files"])):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(bundle / path, folder / path)
    return folder


def read_picture(file: Path) -> npt.NDArray[np.uint8]:
    with Image.open(file) as picture:
        picture.verify()
    with Image.open(file) as picture:
        assert picture.mode == "RGB"
        return np.asarray(picture)


@pytest.mark.parametrize("target", TARGETS)
def test_pictures_are_pythons(target: str, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path.parent, target)
    shipped = ship(bundle, tmp_path / "bündle 包")
    for steps in STEPS:
        done = draw_picture(shipped, PROMPT, "--seed", 3, "--steps", steps, "-o", tmp_path / "a.png", "--threads", 1)
        assert done.returncode == 0, done.stderr
        wanted = open_bundle(bundle, steps=steps)([PROMPT], seed=3)[0]
        np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), wanted)


def test_other_ways_to_run_draw_the_same_picture(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path.parent, "onnx-int8")
    pictures = []
    for i, ways in enumerate(([], ["--one-at-a-time", "--steps", 1], ["--threads", 2, "--no-verify"])):
        done = draw_picture(bundle, PROMPT, "--seed", 2**64 - 1, "-o", tmp_path / f"{i}.png", "--times", *ways)
        assert re.fullmatch(r".*png\ntotal \S+ ms\n" + "".join(rf"{network} \S+ ms\n" for network in NETWORKS), done.stdout), done
        pictures.append((tmp_path / f"{i}.png").read_bytes())
    assert pictures[0] == pictures[1] == pictures[2]
    np.testing.assert_array_equal(read_picture(tmp_path / "0.png"), open_bundle(bundle)([PROMPT], seed=2**64 - 1)[0])


@pytest.mark.parametrize(("seed", "first"), [(0, 0), (3, 5), (2**64 - 1, 2**34 - 3)])
def test_noise_is_pythons_bit_for_bit(seed: int, first: int) -> None:
    found = np.array(ask_probe("noise", {"seed": seed, "count": 20000, "first": first}), np.float32)
    if first < 100:
        np.testing.assert_array_equal(found, make_normals(seed, first + 20000)[first:])
    else:  # beyond 32 bits of blocks
        assert abs(found.std() - 1) < 0.02
        start = np.array(ask_probe("noise", {"seed": seed, "count": 20000, "first": 0}), np.float32)
        assert not np.array_equal(found[3:], start[:-3])


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_halves_are_rounded_as_numpy_and_ml_dtypes_round(kind: str) -> None:
    import ml_dtypes

    type_ = np.float16 if kind == "float16" else ml_dtypes.bfloat16
    values = np.random.default_rng(0).integers(0, 2**32, 20000, np.uint32).view(np.float32)
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    between = (halves[1:] + halves[:-1]) / 2
    values = np.concatenate([values[np.isfinite(values)], halves, between, [65519, -65504, 1e-8, 2**-25, 0]])
    values = values.astype(np.float32)
    with np.errstate(over="ignore"):
        wanted = values.astype(type_).astype(np.float32)
    is_finite = np.isfinite(wanted)  # JSON has no infinity
    found = np.array([np.inf if each is None else each for each in ask_probe(kind, values.astype(float).tolist())], np.float32)
    np.testing.assert_array_equal(found[is_finite], wanted[is_finite])
    assert np.isinf(found[~is_finite]).all()


def test_png_files_are_read_and_written_exactly(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    pictures: list[tuple[Path, npt.NDArray[np.uint8]]] = []
    smooth = np.add.outer(np.arange(200), np.arange(900)).astype(np.uint8).reshape(200, 300, 3)
    for picture in (smooth, draw.integers(0, 256, (300, 200, 3), np.uint8), smooth[:1, :1], np.zeros((64, 64, 3), np.uint8)):
        for level in (0, 1, 9):
            pictures.append((tmp_path / f"{len(pictures)}.png", picture))
            Image.fromarray(picture).save(pictures[-1][0], "PNG", compress_level=level)
    assert set(ask_probe("png", [str(path) for path, _ in pictures])) == {""}
    for path, picture in pictures:
        np.testing.assert_array_equal(read_picture(path.with_suffix(".png.copy")), picture)


def test_the_reference_is_drawn_again_and_compared(tmp_path: Path) -> None:
    bundle = copy_bundle(make_bundle(tmp_path.parent, "onnx-fp32"), tmp_path / "bundle")
    if not (bundle / "reference").exists():
        pytest.skip("bundles have no reference yet")
    done = draw_picture(bundle, "--check")
    assert (done.returncode, done.stdout) == (0, "".join(f"{n} step{'s' if n > 1 else ''}: equal to the bit\n" for n in STEPS)), (
        done
    )
    file = bundle / "reference" / "reference.json"
    said = json.loads(file.read_text("utf-8"))
    first, second, third = said["drawings"]
    first["stages"][1]["outputs"]["denoised"]["sha256"] = "0" * 64
    second["noise"]["sha256"] = "0" * 64
    pixels = read_picture(bundle / third["picture"]["file"]).copy()
    pixels[3, 5, 1] ^= 4
    Image.fromarray(pixels).save(bundle / third["picture"]["file"])
    third["picture"]["sha256"] = hashlib.sha256(pixels.tobytes()).hexdigest()
    file.write_text(json.dumps(said), "utf-8")
    done = draw_picture(bundle, "--check")
    assert (done.returncode, done.stdout.splitlines()) == (
        1,
        [
            "1 step: at most 0 of 255 apart, from transformer in step 1 on",
            "2 steps: at most 0 of 255 apart, from noise on: DIFFERENT",
            "4 steps: at most 4 of 255 apart, from picture on: DIFFERENT",
        ],
    )
    Image.fromarray(pixels ^ 1).save(bundle / third["picture"]["file"])
    assert "is not the picture that the reference says" in draw_picture(bundle, "--check").stderr


def test_hashes_are_hashlibs() -> None:
    sizes = [0, 1, 55, 56, 63, 64, 65, 119, 120, 128, 1000]
    assert ask_probe("hash", sizes) == [hashlib.sha256(b"a" * size).hexdigest() for size in sizes]


@pytest.mark.parametrize("is_one_graph", [False, True])
def test_a_packed_folder_draws_the_same_picture(is_one_graph: bool, tmp_path: Path) -> None:
    bundle = shared_bundle(tmp_path.parent, "onnx-int8", validate=False)
    run([COMMAND, "pack", bundle, "--for", "cpp", "--out", tmp_path / "packed", *(["--one-graph"] if is_one_graph else [])])
    for folder in (bundle, tmp_path / "packed"):
        done = draw_picture(folder, PROMPT, "-o", tmp_path / f"{folder.name}.png")
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "packed.png").read_bytes() == (tmp_path / f"{bundle.name}.png").read_bytes()
    done = draw_picture(tmp_path / "packed", "--check", "-o", tmp_path / "packed.json")
    assert done.returncode == 0, done
    assert merge_results(tmp_path / "packed", [tmp_path / "packed.json"]).verdict == "met"


def test_a_project_that_finds_the_package_builds_and_draws(tmp_path: Path) -> None:
    bundle, dependencies = make_bundle(tmp_path.parent, "onnx-int8"), fetch_dependencies()
    installed, build = tmp_path / "installed", tmp_path / "build"
    run(["cmake", "--install", build_programs(), "--prefix", installed])
    assert {path.name for path in (installed / "include" / "sprint_export").iterdir()} == {"sprint_export.h"}
    run(["cmake", "-S", TESTS / "consumer", "-B", build, f"-DCMAKE_PREFIX_PATH={installed};{dependencies}"])
    run(["cmake", "--build", build])
    said = run([build / "consumer", bundle], env={"PATH": "/nowhere"}).splitlines()
    ran = [f"{network} {i + 1}/3" for i, network in enumerate(NETWORKS)]
    files = len(json.loads((bundle / "app.json").read_text("utf-8"))["files"])
    assert said[:2] == [f"checking {files}/{files}", "loading 3/3"]
    assert said[2:] == [
        "text_encoder 0/3",
        *ran,
        "64x64",
        "stopped while drawing text_encoder",
        "stopped while drawing transformer",
    ]


def test_what_cannot_be_drawn_is_said_in_one_line(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path.parent, "onnx-int8")
    cases: list[tuple[list[Any], int, str]] = [
        ([bundle, PROMPT, "--steps", 3], 2, "steps=3, expected one of 1, 2, 4"),
        ([bundle, PROMPT, "--seed", "-1"], 2, "--seed -1: expected a whole number from 0 to 18446744073709551615"),
        ([bundle, PROMPT, "--seed", 2**64], 2, "expected a whole number"),
        ([bundle, PROMPT, "--steps", "0"], 2, "--steps 0: expected a whole number from 1"),
        ([bundle, PROMPT, "--provider", "cuda"], 3, 'provider "cuda" is not to be had here'),
        ([bundle, PROMPT, "--provider", "nonsense"], 3, 'provider "nonsense" is not to be had here'),
        ([bundle, PROMPT, "-o", tmp_path / "none" / "a.png"], 2, f"the folder {tmp_path / 'none'} does not exist"),
        ([bundle, PROMPT, "-o", tmp_path / "a.jpg"], 2, "a.jpg: use a name that ends in .png"),
        ([bundle, PROMPT, "-o", "/proc/a.png"], 3, "/proc/a.png cannot be written; choose another -o"),
        ([bundle, b"a \xff circle".decode("utf-8", "surrogateescape")], 2, "the text is no UTF-8 at byte 2"),
        ([bundle, b"\xed\xa0\x80".decode("utf-8", "surrogateescape")], 2, "the text is no UTF-8 at byte 0"),
        ([bundle, b"\xc0\xaf".decode("utf-8", "surrogateescape")], 2, "the text is no UTF-8 at byte 0"),
        ([tmp_path / "none", PROMPT], 2, "app.json is missing; expected the folder of a bundle"),
        ([bundle], 2, "a bundle and a prompt, or --check or --bench; see: sprint-draw --help"),
        ([bundle, PROMPT, "--check"], 2, "a bundle and a prompt, or --check or --bench"),
        ([bundle, PROMPT, "another"], 2, 'one prompt at a time, found also "another"'),
        ([bundle, PROMPT, "--sed", 3], 2, "no option --sed; see: sprint-draw --help"),
        ([bundle, PROMPT, "--seed"], 2, "--seed wants a value"),
        ([bundle, PROMPT, "--provider-option", "x"], 2, "--provider-option x: expected KEY=VALUE"),
        ([tmp_path / "a\033[31m\nb", PROMPT], 2, "a [31m b/app.json is missing"),
    ]
    for arguments, status, said in cases:
        done = draw_picture(*arguments)
        assert (done.returncode, done.stdout) == (status, ""), done
        assert done.stderr.startswith("error: "), done
        assert said in done.stderr, done
        assert done.stderr.count("\n") == 1, done


def test_a_prompt_may_begin_with_a_dash(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path.parent, "onnx-int8")
    done = draw_picture(bundle, "-o", tmp_path / "a.png", "--", "-red circle")
    assert done.returncode == 0, done
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), open_bundle(bundle)(["-red circle"])[0])


def test_a_full_disk_is_the_machines_fault(tmp_path: Path) -> None:
    """Standard output alone: a file beside a full disk would be one more file system."""
    command = f"{build_programs() / 'sprint-draw'} --help > /dev/full"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "error: standard output cannot be written\n")


def test_a_long_prompt_is_cut_as_pythons(tmp_path: Path) -> None:
    bundle = copy_bundle(make_bundle(tmp_path.parent, "onnx-int8"), tmp_path / "bundle")
    prompt = "a red circle, " * 200
    done = draw_picture(bundle, prompt, "-o", tmp_path / "a.png")
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), open_bundle(bundle)([prompt])[0])
