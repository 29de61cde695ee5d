"""Folders from anywhere: nothing in them is executed, only regular files inside them are opened, and mistakes are one line."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sprint_export.errors import InputError
from sprint_export.nouns.student import Student
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.students.folder import has_tensor
from tests.students.sana_sprint.flips import ENOUGH_DB, compare, draw_ours, draw_theirs, set_value

Damage = Callable[[Path], object]


@pytest.fixture
def copied(made_folder: Path, tmp_path: Path) -> Path:
    """The made student's folder, to be damaged."""
    return Path(shutil.copytree(made_folder, tmp_path / "student"))


def refuse(folder: Path) -> str:
    """The one line that a folder is refused with."""
    with pytest.raises(InputError) as raised:
        specialize_student(load_student(folder))
    assert "\n" not in str(raised.value)
    return str(raised.value)


def change_weight(folder: Path, part: str, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    file = next((folder / part).glob("*.safetensors"))
    values = load_file(file)
    values[name] = change(values[name].clone())
    save_file(values, file, {"format": "pt"})


# ---- code


CODE: dict[str, tuple[str, dict[str, Any]]] = {
    "tokenizer": (
        "tokenizer/tokenizer_config.json",
        {"auto_map": {"AutoTokenizer": [None, "evil.Evil"]}, "tokenizer_class": "Evil"},
    ),
    "tokenizer class alone": ("tokenizer/tokenizer_config.json", {"tokenizer_class": "Evil"}),
    "text encoder": ("text_encoder/config.json", {"auto_map": {"AutoModel": "evil.Evil"}}),
    "transformer": ("transformer/config.json", {"auto_map": {"AutoModel": "evil.Evil"}}),
    "transformer class": ("transformer/config.json", {"_class_name": "Evil"}),
    "vae": ("vae/config.json", {"auto_map": {"AutoModel": "evil.Evil"}}),
    "scheduler": ("scheduler/scheduler_config.json", {"_class_name": "Evil"}),
    "index": ("model_index.json", {"vae": ["evil", "Evil"]}),
    "index, another component": ("model_index.json", {"guard": ["evil", "Evil"]}),
    "index, custom pipeline": ("model_index.json", {"_class_name": ["evil", "Evil"]}),
}


@pytest.mark.parametrize("case", CODE)
def test_code_of_a_checkpoint_never_runs(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """Whatever standard input would answer."""
    name, values = CODE[case]
    for folder in [copied, *(path for path in copied.iterdir() if path.is_dir())]:
        (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    for key, value in values.items():
        set_value(copied / name, key, value)
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    message = refuse(copied)
    assert not (tmp_path / "ran").exists()
    assert Path(name).name in message or "pipeline class" in message
    assert "evil" in message.lower()


def test_pickles_are_not_read(copied: Path) -> None:
    (copied / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({"x": torch.ones(1)}, copied / "vae" / "diffusion_pytorch_model.bin")
    assert "diffusion_pytorch_model.bin: pickles can hold code and are not read" in refuse(copied)


# ---- files


def fifo(name: str) -> Damage:
    def act(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return act


def link(name: str, target: str) -> Damage:
    def act(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return act


def link_folder(folder: Path) -> None:
    shutil.move(folder / "vae", folder.parent / "vae")
    (folder / "vae").symlink_to(folder.parent / "vae")


FILES: dict[str, tuple[Damage, str]] = {
    "a FIFO nobody asks for": (fifo("x.json"), "x.json is no regular file"),
    "a FIFO as a config": (fifo("transformer/config.json"), "config.json is no regular file"),
    "a FIFO as weights": (fifo("vae/diffusion_pytorch_model.safetensors"), "is no regular file"),
    "a FIFO as a tokenizer": (fifo("tokenizer/tokenizer.json"), "tokenizer.json is no regular file"),
    "a FIFO beside the tokenizer": (fifo("tokenizer/tokenizer.model"), "tokenizer.model is no regular file"),
    "a FIFO as prompts": (fifo("calibration_prompts.txt"), "calibration_prompts.txt is no regular file"),
    "a FIFO as the model card": (fifo("README.md"), "README.md is no regular file"),
    "a folder": (lambda folder: (folder / "x.json").mkdir(), "x.json is no regular file"),
    "a device": (link("x.safetensors", "/dev/zero"), "x.safetensors is no regular file"),
    "a link to nothing": (link("x.json", "gone"), "x.json is a link to gone, which is not there"),
    "a link to itself": (link("x.json", "x.json"), "x.json cannot be opened"),
    "a link out of the folder": (link("vae/config.json", "/etc/passwd"), "config.json is a link out of the student's folder"),
    "a linked folder": (link_folder, "out of the student's folder"),
    "prompts that are no text": (
        lambda folder: (folder / "calibration_prompts.txt").write_bytes(b"\xff\xfe"),
        "calibration_prompts.txt is not readable text in UTF-8",
    ),
    "a model card that is no text": (lambda folder: (folder / "README.md").write_bytes(b"\xff"), "README.md is not readable"),
}


@pytest.mark.parametrize("case", FILES)
def test_only_regular_files_of_the_folder_are_opened(copied: Path, case: str) -> None:
    damage, message = FILES[case]
    damage(copied)
    assert message in refuse(copied)


def test_the_hub_caches_links_are_followed(made: Student, made_folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "models--owner--name"
    snapshot = root / "snapshots" / "0123abc"
    (root / "blobs").mkdir(parents=True)
    for i, path in enumerate(sorted(path for path in made_folder.rglob("*") if path.is_file())):
        shutil.copyfile(path, root / "blobs" / str(i))
        target = snapshot / path.relative_to(made_folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(os.path.relpath(root / "blobs" / str(i), target.parent))
    student = load_student(snapshot)
    assert student.fingerprint == made.fingerprint
    assert torch.equal(*(one.components["transformer"].weights["proj_out.weight"].load() for one in (student, made)))


def test_a_bundle_that_is_made_in_the_folder_is_none_of_its_files(copied: Path) -> None:
    """`--student .` puts it there: the same command would find another student the second time, and a killed one start anew."""
    before = load_student(copied).fingerprint
    for name in (
        "student-onnx-fp32/bundle.json",
        "student-onnx-fp32/transformer/x.json",
        ".x.partial/bundle/a.json",
        ".cache/b.json",
    ):
        (copied / name).parent.mkdir(parents=True, exist_ok=True)
        (copied / name).write_text("{}")
        assert load_student(copied).fingerprint == before, name
    for name in ("more/x.json", "transformer/bundle.json"):  # a network's folder is no bundle, whatever lies in it
        (copied / name).parent.mkdir(exist_ok=True)
        (copied / name).write_text("{}")
        after = load_student(copied).fingerprint
        assert after != before, name
        before = after


def test_names_of_weights_are_read_from_headers_alone(copied: Path, tmp_path: Path) -> None:
    """Which family a folder is must not be decided by reading weights, and never by a file that is none."""
    file = copied / "transformer" / "diffusion_pytorch_model.safetensors"
    assert has_tensor(copied, "transformer/proj_out.")
    assert not has_tensor(copied, "transformer/time_embed_2.")
    whole = file.read_bytes()
    header = int.from_bytes(whole[:8], "little")
    file.write_bytes(whole[: 8 + header])
    assert has_tensor(copied, "transformer/proj_out."), "a truncated file's names are there; who loads it refuses it"
    for damaged in (whole[:20], b"", (1 << 60).to_bytes(8, "little") + whole[8:], whole[:8] + b"[" * header):
        file.write_bytes(damaged)
        assert not has_tensor(copied, "transformer/proj_out.")
    file.unlink()
    os.mkfifo(file)
    assert not has_tensor(copied, "transformer/proj_out.")
    (copied / "transformer" / "diffusion_pytorch_model.safetensors.index.json").write_text(
        '{"weight_map": {"proj_out.bias": "x"}}'
    )
    assert has_tensor(copied, "transformer/proj_out.")
    assert not has_tensor(copied, "nowhere/proj_out.")


def test_a_byte_order_mark_is_no_part_of_a_prompt(copied: Path) -> None:
    (copied / "calibration_prompts.txt").write_bytes(b"\xef\xbb\xbfa red circle\r\n")
    assert load_student(copied).calibration_prompts == ("a red circle",)


# ---- weights


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.uint8, torch.int64])
def test_weights_of_integers_are_refused(copied: Path, dtype: torch.dtype) -> None:
    change_weight(copied, "transformer", "proj_out.weight", lambda value: value.to(dtype))
    message = refuse(copied)
    assert "proj_out.weight holds " + str(dtype).removeprefix("torch.") in message
    assert "expected a real type" in message


@pytest.mark.parametrize(
    ("value", "said"), [(3e38, "holds 3.0e+38, expected at most 1e+18"), (float("inf"), "holds NaN or infinite")]
)
def test_a_weight_that_cannot_be_computed_with_is_named(copied: Path, value: float, said: str) -> None:
    change_weight(copied, "vae", "decoder.conv_in.weight", lambda weight: weight.index_fill(0, torch.tensor([1]), value))
    student = load_student(copied)
    with pytest.raises(InputError) as raised:
        student.components["vae_decoder"].weights["decoder.conv_in.weight"].load()
    assert f"tensor 'decoder.conv_in.weight' {said}" in str(raised.value)


@pytest.mark.parametrize(
    ("file", "key"), [("transformer/config.json", "num_layers"), ("text_encoder/config.json", "num_hidden_layers")]
)
def test_a_depth_without_weights_is_refused_before_it_is_built(copied: Path, file: str, key: str) -> None:
    start = time.monotonic()
    for depth in (999, 10**6):
        set_value(copied / file, key, depth)
        assert f"{key}={depth}" in refuse(copied)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("file", "depth"), [("decoder_layers_per_block", [1, 1, 10**9]), ("encoder_layers_per_block", [0, 1, 10**9])]
)
def test_a_deep_autoencoder_is_refused_too(copied: Path, file: str, depth: list[int]) -> None:
    set_value(copied / "vae/config.json", file, depth)
    assert f"vae/config.json: {file}=" in refuse(copied)


# ---- variants


def rename_variant(folder: Path, keep: bool) -> None:
    for part, stem in (("text_encoder", "model"), ("transformer", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model")):
        plain, variant = (folder / part / f"{stem}{mark}.safetensors" for mark in ("", ".fp16"))
        save_file({key: value.half() for key, value in load_file(plain).items()}, variant, {"format": "pt"})
        if not keep:
            plain.unlink()


def test_a_variant_that_is_alone_is_taken(copied: Path) -> None:
    rename_variant(copied, keep=False)
    assert compare(draw_ours(copied), draw_theirs(copied)) >= ENOUGH_DB


def test_among_several_the_plain_weights_are_taken_or_the_named_ones(copied: Path, made: Student) -> None:
    rename_variant(copied, keep=True)
    plain, half = load_student(copied), load_student(copied, variant="fp16")
    weights = [student.components["transformer"].weights["proj_out.weight"] for student in (plain, half)]
    assert [weight.dtype for weight in weights] == [torch.float32, torch.float16]
    assert plain.fingerprint == made.fingerprint != half.fingerprint, "a bundle of one is not a bundle of the other"
    with pytest.raises(
        InputError, match=r"has no variant 'bf16' of model\.safetensors; choose with --variant from: \(plain\), fp16"
    ):
        load_student(copied, variant="bf16")
    with pytest.raises(InputError, match=r"random:sana-sprint-0\.6b has no files to choose from"):
        load_student("random:sana-sprint-0.6b", variant="fp16")


def test_sharded_weights_and_sharded_variants(copied: Path) -> None:
    folder, stem = copied / "transformer", "diffusion_pytorch_model"
    values = load_file(folder / f"{stem}.safetensors")
    (folder / f"{stem}.safetensors").unlink()
    for mark in ("", ".fp16"):
        names = sorted(values)
        places: dict[str, str] = {}
        for i in (1, 2):
            shard = f"{stem}{mark}-0000{i}-of-00002.safetensors"
            save_file({key: values[key] for key in names[i - 1 :: 2]}, folder / shard, {"format": "pt"})
            places |= dict.fromkeys(names[i - 1 :: 2], shard)
        index = {"metadata": {"total_size": 1}, "weight_map": places}
        (folder / f"{stem}.safetensors.index{mark}.json").write_text(json.dumps(index))
    assert compare(draw_ours(copied), draw_theirs(copied)) >= ENOUGH_DB
    (folder / f"{stem}.safetensors.index.json").unlink()
    found = load_student(copied).components["transformer"].weights["proj_out.weight"].load()
    assert torch.equal(found, values["proj_out.weight"])


@pytest.mark.parametrize("number", ["1" * 400, "1e999", "-1e999"])
@pytest.mark.parametrize("file", ["transformer/config.json", "vae/config.json", "scheduler/scheduler_config.json"])
def test_numbers_beyond_float64_are_one_line(copied: Path, file: str, number: str) -> None:
    text = (copied / file).read_text("utf-8")
    key = next(name for name, value in json.loads(text).items() if isinstance(value, int | float) and value is not True)
    value = json.dumps(json.loads(text)[key])
    (copied / file).write_text(text.replace(f'"{key}": {value}', f'"{key}": {number}'), "utf-8")
    assert "is not readable JSON (the number " in refuse(copied)
