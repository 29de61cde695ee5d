"""Tokenizer files as untrusted input, and words a student does not know."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from sprint_export.errors import BundleError, InputError, SprintExportError
from sprint_export.nouns.student import PromptPlan, Student
from sprint_export.prompt_reader import LARGEST_TOKENIZER, PromptReader, encode_text, open_tokenizer
from sprint_export.students import load_student

PLAN = PromptPlan(prefix="", lower=True, tokens=8, keep=8, pad_id=0)


@pytest.fixture
def content(made: Student) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((made.tokenizer / "tokenizer.json").read_text("utf-8"))
    return found


def _panic(content: dict[str, Any]) -> None:  # a template of a token that is nowhere: pyo3's PanicException at the first text
    content["post_processor"]["special_tokens"] = {}


def _bad_map(content: dict[str, Any]) -> None:
    content["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}


def _unknown_model(content: dict[str, Any]) -> None:
    content["model"] = {"type": "Oracle"}


def _no_unknown_token(content: dict[str, Any]) -> None:
    content["model"]["unk_token"] = "<nowhere>"


@pytest.mark.parametrize("refusal", [InputError, BundleError])
@pytest.mark.parametrize("damage", [_panic, _bad_map, _unknown_model, _no_unknown_token])
def test_a_damaged_tokenizer_is_one_line_of_the_callers_error(
    content: dict[str, Any], damage: Callable[[dict[str, Any]], None], refusal: type[SprintExportError], tmp_path: Path
) -> None:
    damage(content)
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(content))
    with pytest.raises(refusal) as raised:
        PromptReader(PLAN, file, refusal).read(["an armadillo"])
    assert type(raised.value) is refusal
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_a_file_that_is_no_tokenizer_is_said(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(raw)
    with pytest.raises(BundleError, match=r"tokenizer that can be read|cannot be read"):
        open_tokenizer(tmp_path / "tokenizer.json", BundleError)


def test_only_regular_files_of_a_tokenizers_size_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(LARGEST_TOKENIZER + 1)
    for name, message in (
        ("fifo", "no regular file"),
        ("zero", "no regular file"),
        ("loop", "cannot be read"),
        ("gone", "is missing"),
        ("huge", "expected at most 67,108,864"),
    ):
        with pytest.raises(InputError, match=message):
            open_tokenizer(tmp_path / name)
    with pytest.raises(InputError, match="no regular file"):
        open_tokenizer(tmp_path)


def test_a_lone_surrogate_is_the_users_mistake(made: Student) -> None:
    reader = PromptReader(made.prompt, made.tokenizer / "tokenizer.json", BundleError)
    with pytest.raises(InputError, match="is not Unicode text"):
        reader.read(["a \ud800 circle"])


def test_words_without_a_token_are_named_once_and_in_order() -> None:
    student = load_student()
    reader = PromptReader(student.prompt, student.tokenizer / "tokenizer.json")
    assert reader.list_unknown(["a red circle above a blue square"]) == ()
    assert reader.list_unknown(["a Red armadillo above a castle", "a small castle"]) == ("armadillo", "castle")


def test_a_tokenizer_of_letters_names_the_stretch_it_does_not_know(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    Tokenizer(models.BPE({"<unk>": 0, "a": 1, " ": 2}, [], unk_token="<unk>")).save(str(file))
    assert PromptReader(PLAN, file).list_unknown(["a zebra a"]) == ("zebr",)


def test_encoding_says_ids(made: Student) -> None:
    tokenizer = open_tokenizer(made.tokenizer / "tokenizer.json")
    assert encode_text(tokenizer, "a").ids == [2, tokenizer.token_to_id("a")]


def test_a_template_stands_around_the_prompt() -> None:
    """A chat template: something before and behind, no BOS among what is kept, letters and blanks as they come."""
    file = load_student().tokenizer / "tokenizer.json"
    plan = PromptPlan("a red ", False, 9, 6, 0, suffix=" square", strips=False, keeps_first=False)
    assert plan.before == 3
    ids, mask = PromptReader(plan, file).read(["blue", ""])
    for row, text in enumerate(("a red blue square", "a red  square")):
        wanted = encode_text(open_tokenizer(file), text).ids
        assert ids[row, : len(wanted)].tolist() == wanted
        assert mask[row].tolist() == [1] * (len(wanted) - 3) + [0] * (9 - len(wanted))
    held = dataclasses.replace(plan, prefix_ids=tuple(ids[0, :3].tolist()))
    np.testing.assert_array_equal(PromptReader(held, file).read(["blue"])[0], ids[:1, 3:])
