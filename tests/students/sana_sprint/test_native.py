"""Native checkpoints: the same student as its diffusers folder, read lazily, and nothing in the file is ever run."""

from __future__ import annotations

import json
import os
import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sprint_export.conversion import convert
from sprint_export.errors import InputError
from sprint_export.export.bundle import read_bundle
from sprint_export.nouns.parts import NO_PARTS, Parts
from sprint_export.nouns.student import Student
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student, torch_file
from sprint_export.students.sana_sprint.times import SCHEDULES
from sprint_export.students.source import check_source
from sprint_export.students.torch_file import TorchHandle, open_torch_file, read_pickle
from sprint_export.validate import validate_bundle
from tests.bundles import read_rows
from tests.made_student import TRANSFORMER

Tensors = dict[str, torch.Tensor]
# diffusers' names, NVlabs': what scripts/convert_sana_to_diffusers.py undoes
NAMES = (
    (r"transformer_blocks\.", "blocks."),
    (r"attn1\.norm_([qk])", r"attn.\1_norm"),
    (r"attn1\.to_out\.0", "attn.proj"),
    (r"attn2\.norm_([qk])", r"cross_attn.\1_norm"),
    (r"attn2\.to_out\.0", "cross_attn.proj"),
    (r"attn2\.to_q", "cross_attn.q_linear"),
    (r"ff\.conv_(inverted|depth|point)", lambda match: f"mlp.{match[1]}_conv.conv"),
    (r"patch_embed\.proj", "x_embedder.proj"),
    (r"caption_projection\.linear_", "y_embedder.y_proj.fc"),
    (r"caption_norm", "attention_y_norm"),
    (r"time_embed\.timestep_embedder\.linear_([12])", lambda match: f"t_embedder.mlp.{2 * int(match[1]) - 2}"),
    (r"time_embed\.guidance_embedder\.linear_([12])", lambda match: f"cfg_embedder.mlp.{2 * int(match[1]) - 2}"),
    (r"time_embed\.linear", "t_block.1"),
    (r"^scale_shift_table", "final_layer.scale_shift_table"),
    (r"proj_out", "final_layer.linear"),
)
SAID = {
    key: TRANSFORMER[key] for key in ("num_attention_heads", "attention_head_dim", "num_cross_attention_heads", "sample_size")
}


def to_native(weights: Tensors) -> Tensors:
    """Weights as NVlabs' SanaMSCM names and fuses them, with what training has beside."""
    native: Tensors = {}
    for name in [name for name in weights if ".attn1.to_q." in name]:
        block = name.split(".attn1.")[0].replace("transformer_blocks", "blocks")
        parts = [weights.pop(name.replace("to_q", side)) for side in ("to_q", "to_k", "to_v")]
        native[f"{block}.attn.qkv.weight"] = torch.cat(parts)
    for name in [name for name in weights if ".attn2.to_k." in name]:
        block, leaf = name.split(".attn2.")[0].replace("transformer_blocks", "blocks"), name.rpartition(".")[2]
        native[f"{block}.cross_attn.kv_linear.{leaf}"] = torch.cat([weights.pop(name), weights.pop(name.replace("to_k", "to_v"))])
    for name, value in weights.items():
        for pattern, other in NAMES:
            name = re.sub(pattern, other, name)
        native[name] = value
    unused = {
        "pos_embed": (1, 256, 48),
        "y_embedder.y_embedding": (300, 40),
        "logvar_linear.weight": (1, 48),
        "logvar_linear.bias": (1,),
    }
    return native | {name: torch.zeros(shape) for name, shape in unused.items()}


@pytest.fixture
def native(made: Student) -> Tensors:
    return to_native({name: handle.load().clone() for name, handle in made.components["transformer"].weights.items()})


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Save a value as `epoch_1.pth`, and what has to be said beside it."""

    def save(value: object, said: object = SAID, name: str = "epoch_1") -> Path:
        torch.save(value, tmp_path / f"{name}.pth")
        (tmp_path / f"{name}.json").write_text(json.dumps(said))
        return tmp_path / f"{name}.pth"

    return save


def trained(state: Tensors) -> dict[str, Any]:
    """As NVlabs' save_checkpoint writes one."""
    ema = {name: torch.full_like(value, 9.0) for name, value in state.items()}
    states = {"torch": torch.get_rng_state(), "numpy": np.random.get_state(), "python": random.getstate()}
    return {"state_dict": state, "state_dict_ema": ema, "scheduler": {"last_epoch": 1}, "epoch": 1, "rng_state": states}


def test_it_is_the_student_of_the_diffusers_folder(
    made: Student, made_folder: Path, native: Tensors, save: Callable[..., Path]
) -> None:
    path = save(trained(native))
    student = load_student(path, parts=Parts(vae=made_folder, text_encoder=made_folder))
    assert (student.family, student.source, student.folder) == (made.family, str(path), None)
    for role, component in made.components.items():
        found = student.components[role].weights
        assert set(found) == set(component.weights)
        for name, handle in component.weights.items():
            assert torch.equal(found[name].load(), handle.load()), name
    config, wanted = ({k: v for k, v in each.configs["transformer"].items() if k[0] != "_"} for each in (student, made))
    assert config == wanted
    assert student.prompt == made.prompt
    assert student.latent_shape == made.latent_shape
    said = specialize_student(student).components["transformer"].notes
    assert "weights: state_dict of epoch_1.pth, not state_dict_ema; 4 cross-attention heads as said beside it" in said


def test_a_bare_dictionary_and_the_folders_of_single_networks(
    made: Student, made_folder: Path, native: Tensors, save: Callable[..., Path]
) -> None:
    """As the FSDP form and published files are; a text encoder's tokenizer may lie beside its weights."""
    parts = Parts(vae=made_folder / "vae", text_encoder=made_folder)
    first, second = (
        load_student(save(value, name=name), parts=parts) for name, value in (("a", {"state_dict": native}), ("b", native))
    )
    assert torch.equal(*(each.components["transformer"].weights["proj_out.weight"].load() for each in (first, second)))
    assert len({first.fingerprint, second.fingerprint, made.fingerprint}) == 3


def test_the_fingerprint_covers_file_config_and_parts(made_folder: Path, native: Tensors, save: Callable[..., Path]) -> None:
    parts = Parts(vae=made_folder, text_encoder=made_folder)
    plain = load_student(save(native), parts=parts).fingerprint
    assert load_student(save(native), parts=parts).fingerprint == plain, "torch.save writes the same bytes again"
    assert load_student(save(native, SAID | {"norm_eps": 1e-5}), parts=parts).fingerprint != plain
    assert load_student(save(native | {"pos_embed": torch.ones(1)}), parts=parts).fingerprint != plain


def test_a_mapping_is_given_up_after_some_bytes(
    native: Tensors, save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, opened = save({"state_dict": native}), []
    handles = open_torch_file(path, "state_dict")

    def read_again(path: Path) -> object:
        opened.append(path)
        return read_pickle(path)

    monkeypatch.setattr(torch_file, "MAPPED_BYTES", 10_000)
    monkeypatch.setattr(torch_file, "read_pickle", read_again)
    assert all(torch.equal(handle.load(), native[name]) for name, handle in handles.items())
    total = sum(value.nbytes for value in native.values())
    assert 3 <= len(opened) <= total / 10_000 + 1


def test_a_file_that_changes_is_noticed(native: Tensors, save: Callable[..., Path]) -> None:
    handle = open_torch_file(save({"state_dict": native}), "state_dict")["t_block.1.bias"]
    assert isinstance(handle, TorchHandle)
    save({"state_dict": {"t_block.1.bias": torch.zeros(3)}})
    with pytest.raises(InputError, match=r"'t_block\.1\.bias' has another shape than before; the file has changed"):
        handle.load()
    save({"state_dict": {"other": torch.full((3,), float("nan"))}})
    handle.file._mapped = None
    with pytest.raises(InputError, match=r"'t_block\.1\.bias' was there and is no more"):
        handle.load()
    with pytest.raises(InputError, match="tensor 'other' holds NaN"):
        open_torch_file(handle.file.path, "state_dict")["other"].load()


def test_from_a_file_with_a_lora_to_a_validated_bundle(
    native: Tensors, made_folder: Path, save: Callable[..., Path], tmp_path: Path
) -> None:
    """TBCM's two steps from the command's road; the reference is diffusers' pipeline with the merged weights at these times."""
    save_file(
        {
            f"transformer_blocks.0.attn1.to_v.lora_{side}.weight": torch.ones(shape) / 9
            for side, shape in (("A", (1, 48)), ("B", (48, 1)))
        },
        tmp_path / "style.safetensors",
    )
    asked: dict[str, Any] = {"vae": made_folder, "text_encoder": made_folder, "lora": [f"{tmp_path / 'style.safetensors'}:0.5"]}
    bundle = convert(save(trained(native)), "onnx-fp32", tmp_path / "out", times="tbcm", count=1, **asked)
    assert (bundle.plan.times, bundle.plan.guidance) == (SCHEDULES["tbcm"].times, 5.0)
    notes = next(record.notes for record in bundle.components if record.role == "transformer")
    assert "lora: style.safetensors x 0.5, 1 layers, merged in float32" in notes
    assert bundle.tools == read_bundle(tmp_path / "out").tools
    assert read_rows(tmp_path / "out")["", "psnr_db"]["value"] >= 75
    other = load_student(save(trained(native)), parts=Parts(vae=made_folder, text_encoder=made_folder))
    with pytest.raises(InputError, match="give the right one with --student, and the --lora or --decoder it was made with"):
        validate_bundle(bundle, other)


# ---- what is refused


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (os.system, "posix.system"),
        (eval, "eval"),
        (np.load, "numpy.load"),
        (np.dtype, None),
        (getattr, "getattr"),
    ],
)
def test_a_crafted_pickle_runs_nothing(save: Callable[..., Path], tmp_path: Path, function: Any, named: str | None) -> None:
    witness = tmp_path / "witness"
    command = {os.system: f"touch {witness}", eval: f"open({str(witness)!r}, 'w')"}.get(function, "u4")
    path = save({"state_dict": {"a": Call(function, command)}})
    with pytest.raises(InputError) as caught:
        open_torch_file(path, "state_dict")
    assert not witness.exists()
    said = f"epoch_1.pth names {named}, expected tensors only" if named else "in state_dict a is no ordinary tensor"
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1], "holds a list, expected a dictionary with state_dict"),
        ({"state_dict": {}}, "in state_dict there are no tensors; expected a dictionary of weights under state_dict"),
        ({"state_dict": [1]}, "in state_dict there are no tensors"),
        (
            {"state_dict_ema": {"a": torch.zeros(1)}},
            "state_dict_ema is no ordinary tensor; expected a dictionary of weights under state_dict, found: state_dict_ema",
        ),
        ({"state_dict": {"a": torch.zeros(1).expand(1 << 40)}}, "in state_dict a is no ordinary tensor"),
        ({"state_dict": {"a": torch.zeros(2).to_sparse()}}, "in state_dict a is no ordinary tensor"),
        ({"state_dict": {3: torch.zeros(2)}}, "in state_dict 3 is no ordinary tensor"),
    ],
)
def test_what_is_no_dictionary_of_weights(save: Callable[..., Path], value: object, said: str) -> None:
    with pytest.raises(InputError) as caught:
        open_torch_file(save(value), "state_dict")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("method", "size", "said"),
    [
        (zipfile.ZIP_DEFLATED, 1 << 20, "'x/data.pkl' in it is compressed, which torch.save never does"),
        (zipfile.ZIP_STORED, (16 << 20) + 1, r"its data.pkl has 16,777,217 bytes, expected at most 16,777,216"),
    ],
)
def test_an_archive_that_says_much_in_few_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: int, size: int, said: str
) -> None:
    """A pickle of ']' alone makes an empty list, and 64 bytes, of each byte."""
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch would unpack it"))
    with zipfile.ZipFile(tmp_path / "x.pth", "w", method) as archive:
        archive.writestr("x/data.pkl", b"]" * size)
    with pytest.raises(InputError, match=said):
        read_pickle(tmp_path / "x.pth")


def test_a_file_that_torch_cannot_read(native: Tensors, tmp_path: Path) -> None:
    torch.save(native, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.save(native, tmp_path / "cut.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "cut.pth").read_bytes()[:-50])
    for name, said in (
        ("old.pth", "torch's format of before 1.6: load and save it again"),
        ("cut.pth", "failed finding central"),
    ):
        with pytest.raises(InputError) as caught:
            open_torch_file(tmp_path / name, "state_dict")
        assert said in str(caught.value)


def lose(name: str) -> Callable[[Tensors], Tensors]:
    return lambda native: {key: value for key, value in native.items() if key != name}


BAD: dict[str, tuple[Callable[[Tensors], Tensors], object, list[str]]] = {
    "unknown": (
        lambda native: native | {"blocks.0.attn.rope": torch.zeros(1), "adapter.weight": torch.zeros(1)},
        SAID,
        ["has 2 weights that no SANA-Sprint has: blocks.0.attn.rope, adapter.weight; expected those of NVlabs' SanaMSCM"],
    ),
    "missing": (lose("t_block.1.bias"), SAID, ["1 missing: time_embed.linear.bias"]),
    "missing where shapes are read": (lose("x_embedder.proj.weight"), SAID, ["state_dict lacks x_embedder.proj.weight"]),
    "odd rows": (lambda native: native | {"blocks.1.attn.qkv.weight": torch.zeros(10, 48)}, SAID, ["blocks.1.attn.qkv.weight"]),
    "no heads": (
        dict,
        {"sample_size": 16},
        ["the heads of its cross-attention are not in the file, and its width 48 is none of 1152, 2240; say how many in "],
    ),
    "odd config": (dict, SAID | {"depth": 3}, ["depth=3: this key is not covered"]),
    "multi-step": (
        lambda native: {key: value for key, value in native.items() if not key.startswith("cfg_embedder")},
        SAID,
        ["guidance_embeds=False; expected true: this is a multi-step SANA"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_named(made_folder: Path, native: Tensors, save: Callable[..., Path], case: str) -> None:
    change, said, parts = BAD[case]
    path = save({"state_dict": change(native)}, said)
    with pytest.raises(InputError) as caught:
        load_student(path, parts=Parts(vae=made_folder, text_encoder=made_folder))
    for part in ("epoch_1.pth", *parts):
        assert part in str(caught.value)


def test_what_is_not_in_the_file_has_to_be_given(save: Callable[..., Path], made_folder: Path) -> None:
    path = save({})
    with pytest.raises(InputError) as caught:
        check_source(path, NO_PARTS)
    assert "epoch_1.pth holds the denoiser alone; give the rest beside it: --vae FOLDER or hub id (e.g. mit-han-lab/dc-ae" in str(
        caught.value
    )
    assert "--text-encoder FOLDER or hub id (e.g. Efficient-Large-Model/gemma-2-2b-it)" in str(caught.value)
    with pytest.raises(InputError, match=r"give the rest beside it: --text-encoder FOLDER or hub id \(e\.g\. Eff"):
        check_source(path, Parts(vae=made_folder))
