"""load_student: every kind of source, and every kind of bad one with the message it gets."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sprint_export.errors import InputError, MachineError
from sprint_export.nouns.student import Student
from sprint_export.paths import resolve_path
from sprint_export.specialize import specialize_student
from sprint_export.students import list_students, load_student
from sprint_export.students import source as sources
from sprint_export.students.checkpoints import GENERAL_PROMPTS
from sprint_export.students.sana_sprint.family import SanaSprint
from sprint_export.students.source import check_source
from tests.made_student import TEXT, TRANSFORMER, VAE
from tests.tree import ROLES


@pytest.fixture
def copied(made_folder: Path, tmp_path: Path) -> Path:
    """The made student's folder, to be damaged."""
    return Path(shutil.copytree(made_folder, tmp_path / "student"))


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_a_folder_becomes_a_student(made: Student, made_folder: Path) -> None:
    assert (made.family, made.source, made.revision) == ("sana_sprint", str(made_folder), None)
    assert tuple(made.components) == ROLES
    assert made.latent_shape == (4, 16, 16)
    assert made.prompt.keep == 300
    assert made.prompt.tokens > 400, "the prefix is part of the length"
    assert made.plan is None
    assert len(made.fingerprint) == 64
    assert made.licence == "not stated; see the model's page"
    for role, component in made.components.items():
        assert all(value.is_meta for value in component.module.state_dict().values()), role


def test_depths_and_widths_come_from_the_folder(made: Student) -> None:
    modules: list[Any] = [made.components[role].module for role in ROLES]
    text, transformer, vae = modules
    assert len(text.layers) == TEXT["num_hidden_layers"]
    assert len(transformer.transformer_blocks) == TRANSFORMER["num_layers"]
    assert tuple(vae.config.decoder_block_out_channels) == VAE["decoder_block_out_channels"]


def test_loaded_weights_are_the_files_bytes(made: Student, made_folder: Path) -> None:
    for folder, role, prefix in (
        ("transformer", "transformer", ""),
        ("vae", "vae_decoder", ""),
        ("text_encoder", "text_encoder", ""),
    ):
        for path in (made_folder / folder).glob("*.safetensors"):
            stored = load_file(path)
            assert stored
            for name in list(stored)[::7]:
                assert torch.equal(made.components[role].weights[prefix + name].load(), stored[name]), name


def test_a_path_and_its_text_are_one_source(made_folder: Path, made: Student) -> None:
    assert load_student(str(made_folder)).fingerprint == made.fingerprint


def test_the_embedded_student_by_name() -> None:
    student = load_student("sprint-tiny")
    assert (student.family, student.source, student.latent_shape[1]) == ("sana_sprint", "sprint-tiny", student.latent_shape[2])
    assert student.validation_prompts
    assert not set(student.validation_prompts) & set(student.calibration_prompts), "validation must be held out"


def test_a_working_directory_cannot_hide_the_embedded_student(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sprint-tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_student("sprint-tiny").source == "sprint-tiny"


def test_full_size_presets_take_no_memory() -> None:
    student = load_student("random:sana-sprint-0.6b")
    parameters = sum(p.numel() for p in student.components["transformer"].module.parameters())
    assert parameters == 593_501_216
    assert all(p.is_meta for c in student.components.values() for p in c.module.parameters())


def test_the_list_names_each_kind() -> None:
    found = list_students()
    assert {"sprint-tiny", "random:sana-sprint-0.6b", "Efficient-Large-Model/Sana_Sprint_0.6B_1024px_diffusers"} <= set(found)
    assert all(found.values())


def test_prompts_ship_with_a_student_or_are_the_general_ones(copied: Path) -> None:
    (copied / "calibration_prompts.txt").write_text("one\n\n  two \n")
    student = load_student(copied)
    assert student.calibration_prompts == ("one", "two")
    assert student.validation_prompts == tuple(GENERAL_PROMPTS.read_text().splitlines())


def test_the_licence_is_the_model_cards(copied: Path) -> None:
    (copied / "README.md").write_text("---\nlicense: other-1.0\n---\n")
    assert load_student(copied).licence == "other-1.0"


@pytest.mark.parametrize("file", ["transformer/config.json", "tokenizer/tokenizer.json"])
def test_the_fingerprint_covers_configs_weights_and_tokenizer(copied: Path, made: Student, file: str) -> None:
    (copied / file).write_text((copied / file).read_text() + "\n")
    assert load_student(copied).fingerprint != made.fingerprint


def test_the_fingerprint_does_not_depend_on_the_place(copied: Path, made: Student) -> None:
    assert load_student(copied).fingerprint == made.fingerprint


def test_configs_without_what_is_default_load_the_same(copied: Path, made: Student) -> None:
    """Checkpoints written by older diffusers lack the keys that came later."""
    keys = ("interpolation_scale", "timestep_scale", "norm_eps", "norm_elementwise_affine", "attention_bias", "patch_size")
    edit_json(copied / "transformer" / "config.json", lambda config: [config.pop(key) for key in keys])
    found, wanted = (specialize_student(student).components["transformer"] for student in (load_student(copied), made))
    assert set(found.module.state_dict()) == set(wanted.module.state_dict())


# ---- bad input: what was done, and what must be in the message


def drop(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def write(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


def change(name: str, **values: object) -> Callable[[Path], object]:
    return lambda folder: edit_json(folder / name, lambda config: config.update(values))


def cut(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-100])


def rename_weight(folder: Path) -> None:
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    values = load_file(path)
    values["proj_uot.weight"] = values.pop("proj_out.weight")
    save_file(values, path)


DENOISER = "transformer/config.json"
BAD = {
    "no index": (drop("model_index.json"), ["has no model_index.json", "text_encoder/"]),
    "index is not JSON": (write("model_index.json", "{"), ["model_index.json is not readable JSON"]),
    "index is a list": (write("model_index.json", "[]"), ["model_index.json holds a list, expected a JSON object"]),
    "another pipeline": (
        change("model_index.json", _class_name="StableDiffusionPipeline"),
        ["unknown pipeline class", "'StableDiffusionPipeline'", "SanaSprintPipeline"],
    ),
    "no config": (drop(DENOISER), ["transformer/config.json is missing", "save_pretrained"]),
    "config is not JSON": (write(DENOISER, '{"num_layers": '), ["transformer/config.json is not readable JSON"]),
    "config is a list": (write(DENOISER, "[1]"), ["transformer/config.json holds a list, expected a JSON object"]),
    "config of bytes": (
        lambda folder: (folder / DENOISER).write_bytes(b"\xff\xfe\x00"),
        ["is not readable text in UTF-8"],
    ),
    "config with a wrong type": (
        change(DENOISER, num_layers="three"),
        ["num_layers='three' is not covered; expected an integer"],
    ),
    "config with an impossible value": (change("vae/config.json", decoder_block_types=[]), ["vae/config.json describes no"]),
    "no weights": (drop("vae/diffusion_pytorch_model.safetensors"), ["no diffusion_pytorch_model.safetensors", "/vae;"]),
    "truncated weights": (
        cut("vae/diffusion_pytorch_model.safetensors"),
        ["vae/diffusion_pytorch_model.safetensors is truncated"],
    ),
    "truncated text encoder": (cut("text_encoder/model.safetensors"), ["text_encoder/model.safetensors is truncated"]),
    "no tokenizer": (drop("tokenizer/tokenizer.json"), ["tokenizer/tokenizer.json is missing"]),
    "tokenizer is not JSON": (write("tokenizer/tokenizer.json", "{"), ["/tokenizer holds no tokenizer that can be read (EOF"]),
    "no pad token": (
        lambda folder: edit_json(folder / "tokenizer" / "tokenizer_config.json", lambda config: config.pop("pad_token")),
        ["/tokenizer names no pad token"],
    ),
    "wider config": (
        change(DENOISER, mlp_ratio=2.25),
        ["transformer: the config does not fit", "conv_depth.bias has shape (192,)", "says (216,)"],
    ),
    "deeper config": (
        change(DENOISER, num_layers=4),
        ["num_layers=4", "weights, which are of 3 layers"],
    ),
    "shallower config": (
        change(DENOISER, num_layers=2),
        ["num_layers=2", "weights, which are of 3 layers"],
    ),
    "wider text config": (change("text_encoder/config.json", intermediate_size=80), ["text_encoder", "(40, 72)", "(40, 80)"]),
    "other vae": (
        change("vae/config.json", latent_channels=8),
        ["transformer in_channels is 4, expected 8: the vae's latent_channels"],
    ),
    "a renamed weight": (rename_weight, ["1 missing: proj_out.weight", "1 unexpected: proj_uot.weight"]),
    "no guidance": (change(DENOISER, guidance_embeds=False), ["guidance_embeds=False", "expected true", "multi-step SANA"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_damaged_folder_says_what_is_wrong_with_it(copied: Path, case: str) -> None:
    damage, parts = BAD[case]
    damage(copied)
    with pytest.raises(InputError) as caught:
        load_student(copied)
    assert caught.value.exit_status == 2
    for part in parts:
        assert part in str(caught.value)


def test_nan_is_found_when_the_weight_is_pulled(copied: Path) -> None:
    path = copied / "transformer" / "diffusion_pytorch_model.safetensors"
    values = load_file(path)
    values["transformer_blocks.1.attn1.to_q.weight"][0, 0] = float("nan")
    save_file(values, path)
    weights = specialize_student(load_student(copied)).components["transformer"].weights
    assert torch.isfinite(weights["transformer_blocks.0.attn1.to_q.weight"].load()).all()
    with pytest.raises(InputError, match=r"tensor 'transformer_blocks\.1\.attn1\.to_q\.weight' holds NaN"):
        weights["transformer_blocks.1.attn1.to_q.weight"].load()


@pytest.mark.parametrize("source", ["no-such-student", "./missing", "/missing/folder", "~/missing", "a/b/../c", "a//b"])
def test_an_unknown_source_lists_the_names(source: str) -> None:
    with pytest.raises(InputError) as caught:
        load_student(source)
    assert f"unknown student {source!r}; choose from: " in str(caught.value)
    for name in list_students():
        assert name in str(caught.value)


@pytest.mark.parametrize("letter", ["\n", "\x7f", "\x1b", "\u2028"])
def test_a_path_that_no_manifest_can_say_is_refused_before_any_work(tmp_path: Path, letter: str) -> None:
    folder = tmp_path / f"a{letter}student"
    folder.mkdir()
    with pytest.raises(InputError, match=r"expected a path without control characters; rename the folder") as raised:
        check_source(folder)
    assert letter not in str(raised.value)


def test_a_name_that_begins_like_a_home_is_what_lies_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~mine").mkdir()
    assert resolve_path("--student", Path("./~mine")) == tmp_path / "~mine", "pathlib drops what stands before it"
    with pytest.raises(InputError, match="cannot be a path"):
        resolve_path("--student", Path("./~nosuchuser"))


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"x")
    with pytest.raises(InputError, match=r"model\.safetensors is a file; expected a diffusers folder"):
        load_student(path)


def test_an_unknown_preset_lists_the_presets() -> None:
    with pytest.raises(InputError, match=r"unknown random preset 'x'; choose from: .*sana-sprint-0\.6b, .*sana-sprint-1\.6b"):
        load_student("random:x")


@pytest.mark.parametrize("source", ["nobody/nothing", "nobody/nothing@main"])
def test_a_hub_id_without_network_is_the_machines_lack(source: str) -> None:
    with pytest.raises(MachineError, match=r"cannot reach the Hugging Face hub for 'nobody/nothing' and it is not in the local"):
        load_student(source)
    assert MachineError.exit_status == 3


def test_a_hub_id_is_fetched_by_revision(made_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def snapshot_download(repo: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((repo, revision, tuple(allow_patterns)))
        return str(made_folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    student = load_student("owner/name@v1.0")
    assert (student.source, student.revision) == ("owner/name@v1.0", "v1.0")
    assert [call[:2] for call in asked] == [("owner/name", "v1.0")] * 2
    assert asked[0][2] == ("*model_index.json",), "so that nothing large is fetched in vain"
    assert not [pattern for pattern in asked[1][2] if "bin" in pattern or "pth" in pattern], "pickles are never fetched"


def test_a_hub_id_may_name_a_folder(made_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    root = tmp_path / "models--owner--name" / "snapshots" / "0123abc"
    shutil.copytree(made_folder, root / "papers" / "student")
    (root / "README.md").write_text("---\nlicense: apache-2.0\n---\n")

    def snapshot_download(repo: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(root)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    student = load_student("owner/name/papers/student@main")
    assert (student.source, student.revision, student.licence) == ("owner/name/papers/student@main", "main", "apache-2.0")
    assert {"papers/student/*.safetensors", "papers/student/*merges.txt", "README.md"} <= set(asked[1])
    assert all(name.startswith("papers/student/") or name in ("README.md", "LICENSE*") for name in asked[1])
    with pytest.raises(InputError, match=r"'owner/name' has no model_index\.json in its root; .*: owner/name/papers/student$"):
        load_student("owner/name")
    with pytest.raises(InputError, match=r"in 'paper'; folders that have one: owner/name/papers/student$"):
        load_student("owner/name/paper")


def test_weights_tell_families_of_one_pipeline_apart(made_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Marked(SanaSprint):
        marks = ("transformer/time_embed.guidance_embedder.", "vae/decoder.")

    class Other(SanaSprint):
        marks = ("transformer/time_embed_2.",)

    plain, marked, other = SanaSprint("plain"), Marked("marked"), Other("other")
    for families, found in (((plain, other), plain), ((plain, marked, other), marked)):
        monkeypatch.setattr(sources, "list_families", lambda families=families: families)
        assert sources.check_source(made_folder) is found
