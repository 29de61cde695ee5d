"""A TwinFlow-Z folder as it is published: loaded, told from a plain Z-Image's, drawn as its random twin; and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sprint_export.errors import InputError
from sprint_export.noise import make_noise
from sprint_export.nouns.parts import NO_PARTS, Lora, Parts
from sprint_export.nouns.student import Student
from sprint_export.quantize.torch_session import open_torch
from sprint_export.specialize import specialize_student
from sprint_export.students import checkpoints, load_student
from sprint_export.students.checkpoints import FOLDERS
from sprint_export.students.family import Draws
from sprint_export.students.source import check_source
from sprint_export.students.twinflow_family import Preset
from sprint_export.students.twinflow_z.family import FAMILY
from sprint_export.students.twinflow_z.presets import build_preset, tiny
from sprint_export.weights import materialize
from tests.students.published_folders import write_z

LEAST_DB = 75.0  # float32 beside float32


def psnr(found: np.ndarray, wanted: np.ndarray) -> float:
    """In dB, of the wanted values' range."""
    return float(20 * np.log10(np.ptp(wanted) / np.sqrt(np.mean(np.square(found - wanted)))))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 1024 px by name only: the tiny twin's networks have sides of 2 pixels a latent."""
    return write_z(small(), tmp_path_factory.mktemp("z") / "student")


def small() -> Student:
    """The tiny twin with a decoder of 256 pixels a latent, so that 1024 px are 4 x 4 latents, and texts of 1,024 tokens."""
    twin = tiny()
    transformer = dict(twin.configs["transformer"]) | {"axes_lens": (1536, 32, 32)}
    levels = 9
    vae = dict(twin.configs["vae_decoder"]) | {
        "block_out_channels": (4,) * levels,
        "norm_num_groups": 4,
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
    }
    return build_preset(Preset("small", transformer, vae, twin.configs["text_encoder"]), "small", 0)


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    """To be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "student"))


def test_the_stock_classes_load_it_and_draw_the_same(whole: Path) -> None:
    student = load_student(whole)
    assert (student.family, student.latent_shape, student.folder) == ("twinflow_z", (4, 4, 4), whole)
    noise, prompts = make_noise(3, 2, 1, student.latent_shape), ["a red circle above a blue square"]
    wanted = FAMILY.draw_reference(student, Draws(prompts, noise, FAMILY.guidance))
    assert wanted.pictures.shape == (1, 1024, 1024, 3)
    assert wanted.pictures.std() > 10, "a flat picture proves nothing"
    (table,) = open_torch(specialize_student(student, 2)).draw(prompts, noise=noise)
    found = psnr(table["latents"], wanted.latents)
    assert found >= LEAST_DB, f"latents {found:.1f} dB, at least {LEAST_DB}"


def drop_second(folder: Path) -> None:
    """Make it a plain Z-Image's."""
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    values = {name: value for name, value in load_file(file).items() if not name.startswith("t_embedder_2.")}
    assert len(values) == len(load_file(file)) - 4
    save_file(values, file, {"format": "pt"})


def test_a_plain_z_image_is_not_read_and_a_loras_is(copied: Path) -> None:
    """The four tensors tell them apart; a student of a LoRA has one embedder."""
    drop_second(copied)
    with pytest.raises(InputError, match=r"pipeline class in .*model_index.json: .*ZImagePipeline"):
        check_source(copied)
    assert not FAMILY.reads(copied, NO_PARTS)
    assert FAMILY.reads(copied, Parts(lora=(Lora(Path("a.safetensors")),)))
    student = FAMILY.load(copied, "here", None)
    assert not hasattr(student.components["transformer"].module, "t_embedder_2")
    noise = make_noise(3, 2, 1, student.latent_shape)
    wanted = FAMILY.draw_reference(student, Draws(["a"], noise, 0.0)).latents
    (table,) = open_torch(specialize_student(student, 2)).draw(["a"], noise=noise)
    assert psnr(table["latents"], wanted) >= LEAST_DB


def test_an_autoencoder_without_its_encoder_and_a_whole_language_model(copied: Path) -> None:
    vae, text = (copied / name / f"{stem}.safetensors" for name, stem in (FOLDERS["vae_decoder"], FOLDERS["text_encoder"]))
    save_file({name: value for name, value in load_file(vae).items() if name.startswith("decoder.")}, vae)
    model = {f"model.{name}": value for name, value in load_file(text).items()}
    save_file(model | {"lm_head.weight": model["model.embed_tokens.weight"].clone()}, text, {"format": "pt"})
    student = load_student(copied)
    assert set(student.components["text_encoder"].weights) == set(small().components["text_encoder"].weights)


def edit(folder: Path, name: str, change: dict[str, Any]) -> None:
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | change))


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("transformer/config.json", {"all_patch_size": [1]}, r"all_patch_size=\[1\] is not covered; expected \[2\] or"),
    ("transformer/config.json", {"siglip_feat_dim": 1152}, "siglip_feat_dim=1152 is not covered; expected null"),
    ("transformer/config.json", {"n_layers": 3}, "n_layers=3: the config does not fit its weights, which are of 2 layers"),
    ("transformer/config.json", {"axes_dims": [8, 4]}, "axes_dims' sum is 12, expected 16: the channels of a head"),
    ("transformer/config.json", {"axes_lens": [1024, 32, 32]}, "expected three axes, of at least 1026"),
    ("transformer/config.json", {"cap_feat_dim": 64}, "cap_feat_dim is 64, expected 48: the text encoder's hidden_size"),
    ("transformer/config.json", {"auto_map": {}}, "names code of the checkpoint; it is never run"),
    ("text_encoder/config.json", {"use_sliding_window": True}, "use_sliding_window=true is not covered; expected false"),
    ("text_encoder/config.json", {"hidden_act": "gelu"}, "hidden_act='gelu' is not covered; expected 'silu'"),
    ("vae/config.json", {"latents_mean": [0.0] * 4}, "latents_mean=.* is not covered; expected null"),
    ("vae/config.json", {"scaling_factor": "much"}, "scaling_factor='much' is not covered"),
    ("model_index.json", {"vae": ["diffusers", "AutoencoderDC"]}, r"vae=\['diffusers', 'AutoencoderDC'\] is not covered"),
]


@pytest.mark.parametrize(("name", "change", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_is_not_covered_is_refused(copied: Path, name: str, change: dict[str, Any], words: str) -> None:
    edit(copied, name, change)
    with pytest.raises(InputError, match=words):
        load_student(copied)


@pytest.mark.parametrize("name", ["t_embedder_2.mlp.0.bias", "layers.1.feed_forward.w2.weight"])
def test_a_missing_tensor_is_named(copied: Path, name: str) -> None:
    file = copied / "transformer" / "diffusion_pytorch_model.safetensors"
    values = load_file(file)
    del values[name]
    save_file(values, file, {"format": "pt"})
    with pytest.raises(InputError, match="the config does not fit its weights: 1 missing: " + name):
        load_student(copied)


def test_a_streamed_network_is_the_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Larger networks of the reference are read when they run."""
    component = tiny().components["vae_decoder"]
    latents = torch.randn(1, 4, 12, 12, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(checkpoints, "LARGE", 1000)
    streamed: Any = checkpoints.stream_stock(component.module, component.weights, "cpu")
    whole: Any = materialize(component.module, component.weights)
    with torch.no_grad():
        assert torch.equal(streamed.decode(latents).sample, whole.decode(latents).sample)
    assert any(value.is_meta for value in streamed.decoder.state_dict().values()), "freed again"


def test_a_lora_on_a_plain_z_image_at_times_of_ones_own(copied: Path) -> None:
    """As TwinFlow's trainer makes it: one embedder, changed itself, and attention; drawn as the stock classes draw it."""
    drop_second(copied)
    random = torch.Generator().manual_seed(0)
    shapes = {"layers.1.attention.to_q": (64, 64), "noise_refiner.0.feed_forward.w2": (64, 170), "t_embedder.mlp.0": (1024, 256)}
    pairs = {
        name: (torch.randn(4, inner, generator=random), torch.randn(outer, 4, generator=random))
        for name, (outer, inner) in shapes.items()
    }
    tensors = {
        f"{name}.lora_{half}.weight": value * 0.1 for name, pair in pairs.items() for half, value in zip("AB", pair, strict=True)
    }
    save_file(tensors, copied.parent / "lora.safetensors")
    student = load_student(copied, parts=Parts(lora=(Lora(copied.parent / "lora.safetensors"),)))
    assert student.family == "twinflow_z"
    times, noise = (0.995, 0.3), make_noise(3, 2, 1, student.latent_shape)
    wanted = FAMILY.draw_reference(student, Draws(["a"], noise, 0.0, times=times)).latents
    (table,) = open_torch(specialize_student(student, times=times)).draw(["a"], noise=noise)
    assert psnr(table["latents"], wanted) >= LEAST_DB
    plain = FAMILY.load(copied, "here", None)
    assert psnr(FAMILY.draw_reference(plain, Draws(["a"], noise, 0.0, times=times)).latents, wanted) < LEAST_DB / 2
