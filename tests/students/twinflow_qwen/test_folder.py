"""A folder as published: loaded, drawn beside the stock classes that load it themselves, and refused with what it lacks."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sprint_export.errors import InputError
from sprint_export.noise import make_noise
from sprint_export.nouns.parts import Lora, Parts
from sprint_export.quantize.torch_session import open_torch
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.students.family import Draws
from sprint_export.students.source import check_source
from sprint_export.students.twinflow_qwen.family import FAMILY
from tests.students.published_folders import write_qwen

FIRST = "time_text_embed.timestep_embedder"
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny student as the hub's folder has it."""
    return write_qwen(FAMILY.tiny(), tmp_path_factory.mktemp("hub") / "TwinFlow-Qwen-Image")


@pytest.fixture
def copied(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "student"))


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def drop_second(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    save_file({name: value for name, value in weights.items() if "_embed_2" not in name}, folder / WEIGHTS)


def test_it_draws_what_the_stock_classes_draw_that_load_it(published: Path) -> None:
    assert len([name for name in load_file(published / WEIGHTS) if name.startswith("time_text_embed_2.")]) == 4
    student = load_student(published)
    assert (student.family, student.revision, student.tokenizer == published / "tokenizer") == ("twinflow_qwen", None, False)
    assert student.latent_shape == (4, 512, 512), "1024 px of a decoder that doubles once: no config says another size"
    tiny = FAMILY.tiny()
    small = dataclasses.replace(student, latent_shape=tiny.latent_shape, prompt=tiny.prompt)
    noise = make_noise(1, 2, 1, small.latent_shape)
    draws = Draws(["a red fox"], noise, 0.0)
    found = FAMILY.draw_reference(small, draws)
    np.testing.assert_allclose(found.latents, FAMILY.draw_reference(tiny, draws).latents, atol=1e-5)
    drawn = open_torch(specialize_student(small, 2))(draws.prompts, noise=noise)
    assert int(np.abs(drawn.astype(int) - found.pictures).max()) <= 1


@pytest.mark.parametrize("part", ["model_index.json", "transformer/config.json"])
def test_the_wrappers_class_names_are_read_too(copied: Path, part: str) -> None:
    name = "QwenImageTransformer2DModelWrapper"
    key, value = ("transformer", ["diffusers", name]) if part == "model_index.json" else ("_class_name", name)
    edit(copied / part, lambda config: config.update({key: value}))
    assert load_student(copied).family == "twinflow_qwen"


def test_older_text_encoders_are_the_same(copied: Path, published: Path) -> None:
    """transformers before 4.52 wrote the language model's settings flat and its weights under `model.`."""
    config = copied / "text_encoder" / "config.json"
    edit(config, lambda c: c.update(c.pop("text_config"), model_type="qwen2_5_vl"))
    path = copied / "text_encoder" / "model.safetensors"
    older = load_file(path)
    for new, old in (("model.language_model.", "model."), ("model.visual.", "visual.")):
        older = {name.replace(new, old): value for name, value in older.items()}
    save_file(older, path, {"format": "pt"})
    found, wanted = (load_student(folder).components["text_encoder"] for folder in (copied, published))
    assert set(found.weights) == set(wanted.weights)
    modules: list[Any] = [found.module, wanted.module]
    assert modules[0].config.to_dict() == modules[1].config.to_dict()


def test_a_plain_qwen_image_is_refused_and_a_loras_base_is_not(copied: Path) -> None:
    drop_second(copied)
    with pytest.raises(InputError, match=r"no time_text_embed_2\.\*, .* a plain Qwen-Image, which takes tens of steps; expected"):
        load_student(copied)
    student = FAMILY.load(copied, "here", None, None, Parts(lora=(Lora(Path("x.safetensors")),)))
    assert not any("_embed_2" in name for name in student.components["transformer"].weights)
    assert check_source(copied) is FAMILY


def test_a_lora_makes_a_student_of_a_plain_qwen_image(copied: Path, tmp_path: Path) -> None:
    """TwinFlow's LoRAs know no second time: E1(t) alone, with changes that are folded like all else."""
    drop_second(copied)
    weights, changes = load_file(copied / WEIGHTS), {}
    for layer in (
        "transformer_blocks.1.attn.to_q",
        "transformer_blocks.0.img_mlp.net.2",
        f"{FIRST}.linear_1",
        f"{FIRST}.linear_2",
    ):
        rows, columns = weights[f"{layer}.weight"].shape
        changes[f"{layer}.lora_A.default.weight"] = torch.randn(4, columns) * columns**-0.5
        changes[f"{layer}.lora_B.default.weight"] = torch.randn(rows, 4)
    save_file(changes, tmp_path / "lora.safetensors")
    parts = Parts(lora=(Lora(tmp_path / "lora.safetensors"),))
    tiny = FAMILY.tiny()
    student = dataclasses.replace(load_student(copied, parts=parts), latent_shape=tiny.latent_shape, prompt=tiny.prompt)
    draws = Draws(["a red fox"], make_noise(1, 2, 1, tiny.latent_shape), 0.0)
    found = FAMILY.draw_reference(student, draws)
    drawn = open_torch(specialize_student(student, 2))(draws.prompts, noise=draws.noise)
    assert int(np.abs(drawn.astype(int) - found.pictures).max()) <= 1
    assert np.abs(found.latents - FAMILY.draw_reference(tiny, draws).latents).max() > 0.1, "it changes something"


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("transformer", {"guidance_embeds": True}, "guidance_embeds=true is not covered; expected false"),
        ("transformer", {"zero_cond_t": True}, "zero_cond_t=true is not covered"),
        ("transformer", {"patch_size": 1}, "patch_size=1 is not covered; expected 2"),
        ("transformer", {"axes_dims_rope": [4, 6, 8]}, "axes_dims_rope's sum is 18, expected 16: the channels of a head"),
        ("transformer", {"num_layers": 3}, "num_layers=3: the config does not fit its weights, which are of 2 layers"),
        ("transformer", {"in_channels": 12}, "in_channels is 12, expected 16: patches of the vae's z_dim"),
        ("transformer", {"auto_map": {"x": "y"}}, "names code of the checkpoint; it is never run"),
        ("vae", {"latents_mean": [0.0]}, "number of vae latents_mean is 1, expected 4"),
        ("vae", {"attn_scales": [1.0]}, "attn_scales=[1.0] is not covered"),
        ("vae", {"is_residual": True}, "is_residual=true: this key is not covered"),
        ("text_encoder", {"use_sliding_window": True}, "use_sliding_window=true is not covered"),
        ("text_encoder", {"rope_scaling": {"rope_type": "yarn"}}, "rope_scaling={'rope_type': 'yarn'} is not covered"),
        ("text_encoder", {"hidden_act": "gelu"}, "hidden_act='gelu' is not covered"),
    ],
)
def test_values_that_are_not_covered_are_refused(copied: Path, part: str, change: dict[str, Any], words: str) -> None:
    def apply(config: dict[str, Any]) -> None:
        (config["text_config"] if part == "text_encoder" else config).update(change)

    edit(copied / part / "config.json", apply)
    with pytest.raises(InputError) as caught:
        load_student(copied)
    assert words in str(caught.value)
