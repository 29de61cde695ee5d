"""--decoder: another AutoencoderDC of the same latent space in place of the student's own, beside the stock pipeline with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderDC, SanaSprintPipeline

from sprint_export.conversion import convert
from sprint_export.errors import InputError, RefusedError
from sprint_export.noise import make_noise
from sprint_export.nouns.parts import Parts
from sprint_export.psnr import psnr_images
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.students.sana_sprint.family import FAMILY
from tests.bundles import read_rows
from tests.made_student import PROMPTS, VAE, draw_stock, make_pipeline, open_torch

LEAST_DB = 75
LIGHT = {"decoder_block_out_channels": (8, 16, 64), "upsample_block_type": "pixel_shuffle", "decoder_layers_per_block": (0, 1, 2)}


def save_decoder(folder: Path, **changes: Any) -> AutoencoderDC:
    torch.manual_seed(1)
    decoder = AutoencoderDC.from_config(VAE | LIGHT | changes).eval()
    decoder.save_pretrained(folder)
    return decoder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[SanaSprintPipeline, Path]:
    folder = tmp_path_factory.mktemp("made")
    pipeline = make_pipeline()
    pipeline.save_pretrained(folder / "student")
    return SanaSprintPipeline(**pipeline.components | {"vae": save_decoder(folder / "light")}), folder


def test_it_draws_what_the_stock_pipeline_draws_with_it(made: tuple[SanaSprintPipeline, Path]) -> None:
    stock, folder = made
    student = load_student(folder / "student", parts=Parts(decoder=folder / "light"))
    own = load_student(folder / "student")
    assert student.fingerprint != own.fingerprint
    noise = make_noise(0, 1, 1, student.latent_shape)
    _, wanted = draw_stock(stock, PROMPTS[0], noise, 64)
    found = open_torch(specialize_student(student))(PROMPTS[:1], noise=noise)
    db = psnr_images(found, wanted)[0]
    assert db >= LEAST_DB, f"{db:.1f} dB, at least {LEAST_DB}"
    assert psnr_images(open_torch(specialize_student(own))(PROMPTS[:1], noise=noise), wanted)[0] < 30, "it is another decoder"


def test_pictures_are_encoded_by_the_students_own(made: tuple[SanaSprintPipeline, Path]) -> None:
    _, folder = made
    picture = np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)
    encoded = []
    for parts in (Parts(), Parts(decoder=folder / "light")):
        pipe = open_torch(specialize_student(FAMILY.add_encoder(load_student(folder / "student", parts=parts))))
        encoded.append(pipe.executor.encode(picture))
    np.testing.assert_array_equal(encoded[0], encoded[1])


def test_the_report_says_how_far_from_the_students_own_it_is(made: tuple[SanaSprintPipeline, Path], tmp_path: Path) -> None:
    _, folder = made
    convert(folder / "student", "onnx-fp32", tmp_path / "light", decoder=folder / "light", count=2)
    rows = read_rows(tmp_path / "light")
    assert rows["", "psnr_db"]["value"] > LEAST_DB, "beside PyTorch with the same decoder"
    row = rows["", "own_decoder_psnr_db"]
    assert row["value"] < 30
    assert f"the other decoder alone, in float32: {row['value']:.1f} dB" in row["note"]
    convert(folder / "student", "onnx-fp32", tmp_path / "own", count=1)
    assert ("", "own_decoder_psnr_db") not in read_rows(tmp_path / "own")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent_channels": 8}, "latent_channels is 8, the student's own decoder has 4: another latent space"),
        ({"scaling_factor": 0.5}, r"scaling_factor is 0\.5, the student's own decoder has 0\.7: another latent space"),
        (
            {name: value[1:] for name, value in (VAE | LIGHT).items() if isinstance(value, tuple)},
            "pixels a latent is 2, the student's own decoder has 4: another latent space",
        ),
    ],
)
def test_another_latent_space_is_refused(
    made: tuple[SanaSprintPipeline, Path], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    save_decoder(tmp_path / "vae", **changes)
    with pytest.raises(RefusedError, match=f"--decoder: .*{message}"):
        load_student(made[1] / "student", parts=Parts(decoder=tmp_path))


def test_a_family_with_one_decoder_says_so(made: tuple[SanaSprintPipeline, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--decoder .*nowhere: there is no such folder"):
        load_student(made[1] / "student", parts=Parts(decoder=tmp_path / "nowhere"))
