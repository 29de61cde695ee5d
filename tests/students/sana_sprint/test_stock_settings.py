"""What the stock pipeline obeys is obeyed or refused: rotary settings, tokenizer settings, biases, schedulers, other writers."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from diffusers import SanaSprintPipeline
from transformers import GemmaTokenizerFast

from sprint_export.errors import InputError
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.students.sana_sprint.reference import make_reference
from tests.made_student import draw_stock, make_pipeline, open_torch
from tests.students.sana_sprint.flips import ENOUGH_DB, compare, draw_ours, draw_theirs, set_value
from tests.tree import ROLES

IS_FIVE = int(transformers.__version__.split(".")[0]) >= 5
TEXT = "text_encoder/config.json"


@pytest.fixture
def copied(made_folder: Path, tmp_path: Path) -> Path:
    """The made student's folder, to be changed."""
    return Path(shutil.copytree(made_folder, tmp_path / "student"))


def forget_rotary(folder: Path) -> None:
    """As if no writer had said anything of rotary embeddings."""
    file = folder / TEXT
    file.write_text(
        json.dumps({key: value for key, value in json.loads(file.read_text()).items() if not key.startswith("rope_")})
    )


ROTARY: list[dict[str, Any]] = [
    {"rope_theta": 500.0},
    {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
    {"rope_theta": 500.0, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
    {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
    {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
]


@pytest.mark.parametrize("settings", ROTARY, ids=str)
def test_rotary_settings_are_the_stock_models_or_refused(copied: Path, settings: dict[str, Any]) -> None:
    """transformers 4 does not read rope_parameters, so another value there than its own is refused with it."""
    forget_rotary(copied)
    for key, value in settings.items():
        set_value(copied / TEXT, key, value)
    try:
        drawn = draw_ours(copied)
    except InputError as error:
        assert "rope_" in str(error) and "\n" not in str(error)
        assert "rope_parameters" in settings or settings["rope_scaling"]["rope_type"] not in ("default", "linear")
        assert not (IS_FIVE and list(settings) == ["rope_parameters"]), "transformers 5 reads it"
    else:
        assert compare(drawn, draw_theirs(copied)) >= ENOUGH_DB


def test_a_student_saved_by_transformers_5_draws_the_same(copied: Path) -> None:
    wanted = draw_ours(copied)
    settings = {"backend": "tokenizers", "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    (copied / "tokenizer/tokenizer_config.json").write_text(json.dumps(settings | {"tokenizer_class": "TokenizersBackend"}))
    set_value(copied / "model_index.json", "tokenizer", ["transformers", "TokenizersBackend"])
    forget_rotary(copied)
    set_value(copied / TEXT, "rope_parameters", {"rope_theta": 10000.0, "rope_type": "default"})
    np.testing.assert_array_equal(draw_ours(copied), wanted)


TOKENIZER: list[dict[str, Any]] = [
    {"add_bos_token": False},
    {"add_eos_token": True},
    {"truncation_side": "left"},
]


@pytest.mark.parametrize("settings", TOKENIZER, ids=str)
def test_a_tokenizer_setting_that_a_bundle_would_not_obey_is_refused_with_both_ids(
    copied: Path, settings: dict[str, Any]
) -> None:
    """Gemma's class obeys them, in its own way in each version of transformers."""
    set_value(copied / "tokenizer/tokenizer_config.json", "tokenizer_class", "GemmaTokenizerFast")
    set_value(copied / "model_index.json", "tokenizer", ["transformers", "GemmaTokenizerFast"])
    for key, value in settings.items():
        set_value(copied / "tokenizer/tokenizer_config.json", key, value)
    student = load_student(copied)
    with pytest.raises(InputError) as raised:
        specialize_student(student)
    message = str(raised.value)
    assert "its tokenizer.json alone, which is all a bundle holds, gives" in message
    assert "Settings found: tokenizer_class='GemmaTokenizerFast'" in message
    assert all(key in message for key in settings)


@pytest.mark.skipif(IS_FIVE, reason="transformers 5 rebuilds Gemma's tokenizer from its words, which this one's are not")
def test_gemmas_own_class_is_no_difference_by_itself(copied: Path) -> None:
    set_value(copied / "tokenizer/tokenizer_config.json", "tokenizer_class", "GemmaTokenizerFast")
    set_value(copied / "model_index.json", "tokenizer", ["transformers", "GemmaTokenizerFast"])
    assert isinstance(SanaSprintPipeline.from_pretrained(copied).tokenizer, GemmaTokenizerFast)
    assert compare(draw_ours(copied), draw_theirs(copied)) >= ENOUGH_DB


def test_ids_beyond_the_embedding_are_refused(copied: Path) -> None:
    file = copied / "tokenizer/tokenizer.json"
    value = json.loads(file.read_text())
    value["model"]["vocab"]["armadillo"] = 10**6
    file.write_text(json.dumps(value))
    with pytest.raises(InputError, match=r"tokenizer\.json has ids up to 1000000, expected less than \d+"):
        load_student(copied)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("prediction_type", "epsilon"),
        ("sigma_data", 1.0),
        ("num_train_timesteps", 50),
        ("_class_name", "DPMSolver"),
        ("shift", 3),
    ],
)
def test_another_scheduler_is_refused(copied: Path, key: str, value: Any) -> None:
    set_value(copied / "scheduler/scheduler_config.json", key, value)
    with pytest.raises(InputError, match=rf"scheduler_config\.json: {key}={value!r}.* expected "):
        load_student(copied)


@pytest.mark.parametrize("key", ["scheduler", "vae", "text_encoder", "tokenizer", "transformer"])
def test_an_index_without_a_part_or_with_another_class_is_refused(copied: Path, key: str) -> None:
    set_value(copied / "model_index.json", key, ["diffusers", "Other"])
    with pytest.raises(InputError, match=rf"model_index\.json: {key}=\['diffusers', 'Other'\] is not covered; expected \["):
        load_student(copied)
    value = json.loads((copied / "model_index.json").read_text())
    value.pop(key)
    (copied / "model_index.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match=rf"model_index\.json: {key} is missing"):
        load_student(copied)


VARIED: dict[str, dict[str, Any]] = {
    "qk_norm null": {"transformer": {"qk_norm": None}},
    "qk_norm across heads": {"transformer": {"qk_norm": "rms_norm_across_heads"}},
    "attention bias": {"transformer": {"attention_bias": True}},
    "Gemma with biases": {"text": {"attention_bias": True}},
    "batch norm": {"vae": {"decoder_norm_types": "batch_norm"}},
    "pixel shuffle": {"vae": {"upsample_block_type": "pixel_shuffle"}},
    "no soft cap": {"text": {"attn_logit_softcapping": None}},
    "other activations": {
        "text": {"hidden_activation": "silu"},
        "vae": {"decoder_act_fns": "relu", "decoder_conv_act_fn": "silu"},
    },
}


@pytest.mark.parametrize("case", VARIED)
def test_networks_with_covered_values_draw_what_stock_draws(case: str, tmp_path: Path) -> None:
    make_pipeline(0, **VARIED[case]).save_pretrained(tmp_path / "student")
    assert compare(draw_ours(tmp_path / "student"), draw_theirs(tmp_path / "student")) >= ENOUGH_DB


def test_the_reference_reads_the_folder_itself(copied: Path) -> None:
    """What our own reading makes of it is not asked."""
    student = load_student(copied)
    broken = {role: dataclasses.replace(student.components[role], weights={}) for role in ROLES}
    reference = make_reference(dataclasses.replace(student, components=broken))
    reference.set_progress_bar_config(disable=True)
    noise = np.random.default_rng(1).standard_normal((1, 1, *student.latent_shape), np.float32)
    found = open_torch(specialize_student(student))(["a red circle"], noise=noise)
    assert compare(found, draw_stock(reference, "a red circle", noise, 64)[1]) >= ENOUGH_DB
    only = make_reference(student, ("text_encoder",))
    assert (only.transformer, only.vae) == (None, None)
    assert only.text_encoder.dtype == torch.float32
