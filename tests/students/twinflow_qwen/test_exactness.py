"""The specialized student draws what the stock classes draw at TwinFlow's times, in float32: 75 dB, and 1e-4 in the denoiser."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from diffusers import QwenImagePipeline

from sprint_export.noise import make_noise
from sprint_export.prompt_reader import PromptReader
from sprint_export.quantize.torch_session import open_torch
from sprint_export.specialize import specialize_student
from sprint_export.students.chat_prompt import open_stock_tokenizer
from sprint_export.students.family import Draws
from sprint_export.students.twinflow_qwen.family import FAMILY
from sprint_export.students.twinflow_qwen.reference import decode_stock, make_networks
from tests.students.ten_scripts import list_prompts

LEAST_DB = 75.0
OFF = 1e-4  # of the largest value
PROMPTS = ("a red fox", "a city street at night in the rain with neon signs reading OPEN", "青い四角 🙂")


@cache
def draw_stock(steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise, x0 and pictures [B, 3, H, W] in [-1, 1], not rounded; those of the reference itself are these, rounded."""
    student = FAMILY.tiny()
    noise = make_noise(3, steps, len(PROMPTS), student.latent_shape)
    found = FAMILY.draw_reference(student, Draws(PROMPTS, noise, FAMILY.guidance))
    vae = make_networks(student, ("vae_decoder",))["vae_decoder"]
    with torch.no_grad():
        pictures = decode_stock(QwenImagePipeline(None, vae, None, None, None), torch.from_numpy(found.latents)).numpy()
    rounded = np.rint((pictures / 2 + 0.5).clip(0, 1) * 255).transpose(0, 2, 3, 1)
    apart = np.abs(found.pictures - rounded)  # a decoder run again has other last bits, and a value halfway rounds the other way
    assert apart.max() <= 1 and (apart > 0).mean() < 1e-3
    return noise, found.latents, pictures


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("is_held", [True, False])
def test_states_and_pictures_are_the_references(steps: int, is_held: bool) -> None:
    noise, latents, pictures = draw_stock(steps)
    specialized = specialize_student(FAMILY.tiny(), steps, prefix_cache=is_held)
    names = specialized.chain.names
    tables = list(open_torch(specialized).draw(PROMPTS, noise=noise))
    found, drawn = (np.concatenate([table[name] for table in tables]) for name in (names.state, names.picture))
    off = float(np.abs(found - latents).max() / np.abs(latents).max())
    assert off <= OFF, f"{off:.1e} of the largest value, tolerance {OFF}"
    psnr = 10 * np.log10(4 / np.mean((drawn.clip(-1, 1) - pictures) ** 2))
    assert psnr >= LEAST_DB, f"{psnr:.1f} dB, at least {LEAST_DB}"
    assert pictures.std() > 0.1, "a flat picture proves nothing"


def test_float32s_times_start_from_the_noise_itself() -> None:
    times = FAMILY.schedules["float32-2"].times
    student, noise = FAMILY.tiny(), make_noise(3, 2, 1, FAMILY.tiny().latent_shape)
    found = FAMILY.draw_reference(student, Draws(PROMPTS[:1], noise, FAMILY.guidance, times=times))
    specialized = specialize_student(student, times="float32-2")
    (table,) = open_torch(specialized).draw(PROMPTS[:1], noise=noise)
    assert specialized.plan is not None and specialized.plan.starts_from_noise
    np.testing.assert_allclose(table[specialized.chain.names.state], found.latents, atol=OFF * np.abs(found.latents).max())


def test_a_longer_text_changes_nothing() -> None:
    """Rows behind the prompt are hidden, so networks of any number of rows compute what the trimmed text gives."""
    noise, latents, _ = draw_stock(1)
    for rows in (30, 40):
        specialized = specialize_student(FAMILY.tiny(), 1, prompt_tokens=rows)
        (table,) = open_torch(specialized).draw(PROMPTS[:1], noise=noise[:, :1])
        np.testing.assert_allclose(table[specialized.chain.names.state], latents[:1], atol=OFF * np.abs(latents).max())


def test_the_padding_is_not_read() -> None:
    specialized = specialize_student(FAMILY.tiny(), 1)
    pipeline = open_torch(specialized)
    ids, mask = pipeline.reader.read(PROMPTS[:1])
    noise = make_noise(0, 1, 1, specialized.latent_shape)
    states = []
    assert ids.shape == mask.shape
    for pad in (ids[0, -1], 7):
        changed = np.where(mask, ids, pad)
        table = pipeline.executor.start(changed, mask)
        for group in pipeline.executor.groups:
            table = pipeline.executor.run(group, table, noise)
        states.append(table[specialized.chain.names.state])
    assert not np.array_equal(ids, changed)
    np.testing.assert_array_equal(states[0], states[1])


def test_ids_are_the_stock_pipelines() -> None:
    """Token for token, on 200 prompts in ten scripts, as encode_prompt's tokenizer call gives them."""
    student = FAMILY.tiny()
    stock, pipeline = open_stock_tokenizer(student), QwenImagePipeline(None, None, None, None, None)
    start = pipeline.prompt_template_encode_start_idx
    reader = PromptReader(student.prompt, student.tokenizer / "tokenizer.json")
    prompts = list_prompts()
    ids, mask = reader.read(prompts)
    assert len(prompts) == 200
    for i, prompt in enumerate(prompts):
        text = pipeline.prompt_template_encode.format(prompt)
        wanted = stock([text], max_length=student.prompt.tokens, padding=True, truncation=True).input_ids[0]
        kept = int(mask[i].sum())
        assert ids[i, : start + kept].tolist() == wanted, prompt


def test_shifts_and_gates_are_not_computed() -> None:
    one, several = (specialize_student(FAMILY.tiny(), steps).components["transformer"] for steps in (1, (1, 2)))
    for network in (one, several):
        assert not [name for name in network.weights if "mod." in name or "time" in name.replace("times", "")]
        assert not [name for name in network.weights if name.startswith(("transformer_blocks.1.", "last_block.txt_mlp"))]
    assert several.weights["modulation"].shape == (3, 26, 48)
    assert torch.equal(several.weights["times"].load(), torch.tensor([1.0, 1.0, 0.6015625]))
