"""Image-to-image: what SanaSprintImg2ImgPipeline draws of a picture, at every strength, with noise that is given."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from diffusers import SanaSprintImg2ImgPipeline
from diffusers.pipelines.sana import pipeline_sana_sprint_img2img
from diffusers.schedulers import scheduling_scm
from PIL import Image

from sprint_export.conversion import convert
from sprint_export.errors import InputError, RefusedError
from sprint_export.noise import make_noise
from sprint_export.nouns.student import Student
from sprint_export.psnr import psnr_images
from sprint_export.runtimes import open_bundle
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.students.family import replace_components
from sprint_export.students.sana_sprint.family import FAMILY
from sprint_export.students.sana_sprint.presets import tiny
from tests.bundles import check_refused, read_rows, run_command
from tests.made_student import Array, make_pipeline, open_torch

PROMPT = "a red circle above a blue square"
LEAST_DB = 75


Made = tuple[SanaSprintImg2ImgPipeline, Student]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The made student as the stock pipeline holds it, and as it is loaded, with the encoder."""
    path = tmp_path_factory.mktemp("made")
    pipeline = make_pipeline()
    pipeline.save_pretrained(path)
    stock = SanaSprintImg2ImgPipeline(**pipeline.components)
    stock.set_progress_bar_config(disable=True)
    return stock, FAMILY.add_encoder(load_student(path))


def draw_stock(pipeline: SanaSprintImg2ImgPipeline, picture: Image.Image, noise: Array, steps: int, strength: float) -> Array:
    """What the stock pipeline draws where every call for noise gets the next of ours; it draws once more at the end, by 0."""
    given = iter([*torch.from_numpy(noise), torch.zeros(noise.shape[1:])])
    with (
        mock.patch.object(scheduling_scm, "randn_tensor", lambda *_, **__: next(given)),
        mock.patch.object(pipeline_sana_sprint_img2img, "randn_tensor", lambda *_, **__: next(given)),
    ):
        drawn = pipeline(
            PROMPT,
            image=picture,
            strength=strength,
            num_inference_steps=steps,
            intermediate_timesteps=1.3 if steps == 2 else None,
            height=64,
            width=64,
            use_resolution_binning=False,
            output_type="np",
        ).images
    assert next(given, None) is None, "all noise was taken"
    pictures: Array = np.rint(drawn * 255).astype(np.uint8)
    return pictures


@pytest.mark.parametrize(
    ("steps", "strength", "run"),
    [(1, 0.6, 1), (2, 0.3, 1), (2, 0.6, 2), (4, 0.3, 2), (4, 0.6, 3), (4, 1.0, 4)],
)
def test_it_draws_what_the_stock_pipeline_draws(made: Made, steps: int, strength: float, run: int) -> None:
    stock, student = made
    pipe = open_torch(specialize_student(student, steps))
    picture = Image.fromarray(np.random.default_rng(5).integers(0, 256, (9, 7, 3), np.uint8)).resize((100, 80))
    noise = make_noise(3, steps, 1, student.latent_shape)
    found = pipe([PROMPT], noise=noise[:run], image=picture, strength=strength)
    db = psnr_images(found, draw_stock(stock, picture, noise[:run], steps, strength))[0]
    assert db >= LEAST_DB, f"{db:.1f} dB, at least {LEAST_DB}"
    is_plain = np.abs(found.astype(int) - pipe([PROMPT], noise=noise)).max() <= 1
    assert is_plain == (run == steps), "a start from noise alone is the plain picture, another is not"


def test_what_cannot_be_is_one_line(made: Made, tmp_path: Path) -> None:
    _, student = made
    pipe = open_torch(specialize_student(student))
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "half.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR")
    pixels = np.zeros((8, 8, 3), np.uint8)
    for given, message in (
        (tmp_path / "none.png", r"image .*none\.png: there is no such file; expected a picture, e\.g\. a PNG"),
        (tmp_path / "text.png", r"image .*text\.png is no picture that can be read; expected e\.g\. a PNG or a JPEG"),
        (tmp_path / "half.png", r"image .*half\.png is (a damaged|no) picture"),
        (pixels[0], r"image: found uint8 \[8, 3\]; expected a file, a PIL image or uint8 \[height, width, 3\]"),
        (pixels.astype(np.float32), r"image: found float32 \[8, 8, 3\]"),
        ([pixels, pixels], "image: 2 pictures for 1 prompts; expected one for all, or one for each"),
    ):
        with pytest.raises(InputError, match=message):
            pipe([PROMPT], image=given)
    for strength in (0.0, 1.5, float("nan")):
        with pytest.raises(InputError, match=f"strength={strength}: expected more than 0, the picture itself, and at most 1"):
            pipe([PROMPT], image=pixels, strength=strength)
    with pytest.raises(InputError, match=r"control: no network here takes a control picture; .* ControlNet"):
        pipe([PROMPT], control=pixels)
    with pytest.raises(InputError, match="image: no network here encodes pictures; export the student with --image-to-image"):
        open_torch(specialize_student(tiny()))([PROMPT], image=pixels)


def test_an_autoencoder_without_its_encoder_takes_no_picture(made: Made) -> None:
    _, student = made
    decoder = student.components["vae_decoder"]
    half = {name: handle for name, handle in decoder.weights.items() if name.startswith("decoder.")}
    halved = replace_components(student, dataclasses.replace(decoder, weights=half))
    with pytest.raises(RefusedError, match="its vae has no encoder, so no picture can be given"):
        FAMILY.add_encoder(halved)


def test_a_bundle_draws_it_at_every_size(made: Made, tmp_path: Path) -> None:
    """From files alone, by the command too; the bundle is validated with the student as it was loaded, without the encoder."""
    stock, student = made
    assert student.folder is not None
    folder, picture = tmp_path / "bundle", Image.fromarray(np.random.default_rng(5).integers(0, 256, (48, 80, 3), np.uint8))
    convert(student.folder, "onnx-fp32", folder, image_to_image=True, dynamic=True, steps=4, count=1)
    assert read_rows(folder)["vae_encoder", "converter_psnr_db"]["value"] > LEAST_DB
    pipe, noise = open_bundle(folder), make_noise(3, 3, 1, student.latent_shape)
    found = pipe([PROMPT], noise=noise, image=picture)
    db = psnr_images(found, draw_stock(stock, picture, noise, 4, 0.6))[0]
    assert db >= LEAST_DB, f"{db:.1f} dB, at least {LEAST_DB}"
    picture.save(tmp_path / "a.png")
    asked = ("run", folder, PROMPT, "--image", "a.png", "--height", 32, "--width", 96)
    assert run_command(*asked, folder=tmp_path).returncode == 0
    with Image.open(tmp_path / "out.png") as drawn:
        assert drawn.size == (96, 32)
    for more, message in (
        (("--image", "none.png"), "image none.png: there is no such file; expected a picture, e.g. a PNG"),
        (("--strength", "0.5"), "--strength 0.5: says how a picture is used; give --image too"),
        (("--control", "a.png"), "control: no network here takes a control picture; export a student with a ControlNet"),
    ):
        check_refused(run_command("run", folder, PROMPT, *more, folder=tmp_path), 2, message)
