"""The held prefix beside stock Gemma-2 in float64, where it comes from, and the prompts that cannot follow it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from tokenizers import Tokenizer
from transformers.models.gemma2 import modeling_gemma2

from sprint_export.errors import InputError
from sprint_export.nouns.student import Component, Student
from sprint_export.prompt_reader import PromptReader
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.students.networks.gemma2_prefix import PrefixCache
from sprint_export.weights import Handle, LazyHandle, materialize

EXACT = 1e-12  # float64 against float64, of rows of magnitude 3
TEXTS = ("a red circle above a blue square", "", "a small green square on the left of")


@pytest.fixture(scope="module", params=["made", "sprint-tiny"])
def student(request: pytest.FixtureRequest, made: Student) -> Student:
    """A tokenizer with a prefix of 196 tokens and a window that ends within it; and one that drops the prefix."""
    return double(made if request.param == "made" else load_student("sprint-tiny"))


@pytest.fixture
def all_double() -> Iterator[None]:
    """Gemma-2 without its float32 islands, which would hide a mistake below 1e-7."""
    softmax, single = torch.nn.functional.softmax, torch.Tensor.float
    with (
        mock.patch.object(modeling_gemma2.Gemma2RMSNorm, "forward", lambda self, x: self._norm(x) * (1.0 + self.weight)),
        mock.patch.object(torch.nn.functional, "softmax", lambda x, dim, dtype: softmax(x, dim=dim)),
        mock.patch.object(torch.Tensor, "float", lambda self: self if self.dtype == torch.float64 else single(self)),
    ):
        yield


def double(student: Student) -> Student:
    text = student.components["text_encoder"]

    def wide(handle: Handle) -> Handle:
        return LazyHandle(handle.shape, torch.float64, lambda: handle.load().double())

    weights = {name: wide(handle) for name, handle in text.weights.items()}
    return with_text(student, dataclasses.replace(text, weights=weights))


def with_text(student: Student, text: Component) -> Student:
    return dataclasses.replace(student, components={**student.components, "text_encoder": text})


def stock_rows(student: Student, ids: torch.Tensor, keep: int) -> torch.Tensor:
    """Stock Gemma2Model over all positions, and diffusers' choice of rows."""
    text = student.components["text_encoder"]
    real: Any = materialize(text.module, text.weights, torch.float64)
    if hasattr(real.embed_tokens, "embed_scale"):  # transformers 5 holds it in float32
        real.embed_tokens.embed_scale = torch.tensor(real.config.hidden_size**0.5, dtype=torch.float64)
    rows = real(ids).last_hidden_state
    return torch.cat([rows[:, :1], rows[:, 1 - keep :]], dim=1)


@pytest.mark.parametrize("choice", [{}, {"prefix_cache": False}, {"prompt_tokens": 20}], ids=str)
def test_rows_are_stock_gemmas_in_float64(student: Student, choice: dict[str, Any], all_double: None) -> None:
    specialized = specialize_student(student, **choice)
    encoder, file = specialized.components["text_encoder"], student.tokenizer / "tokenizer.json"
    real = materialize(encoder.module, encoder.weights, torch.float64)
    ids, mask = PromptReader(specialized.prompt, file).read(TEXTS)
    whole, _ = PromptReader(student.prompt, file).read(TEXTS)
    with torch.no_grad():
        found = torch.cat([real(row[None]) for row in torch.from_numpy(ids)])
        wanted = stock_rows(student, torch.from_numpy(whole), student.prompt.keep)[:, : found.shape[1]]
    valid = torch.from_numpy(mask).bool()
    assert found.dtype == wanted.dtype == torch.float64
    assert found.shape == (3, specialized.prompt.keep, encoder.outputs[0].shape[2])
    deviation = (found - wanted)[valid].abs().max().item()
    assert deviation <= EXACT, f"rows deviate by {deviation:.1e} of {wanted[valid].abs().max():.1f}, tolerance {EXACT}"


def test_the_prompt_alone_is_computed(made: Student) -> None:
    """With 197 + 299 keys where the prefix has 196 tokens: the one more is hidden, and makes a multiple of 8."""
    specialized = specialize_student(made)
    encoder, prompt = specialized.components["text_encoder"], specialized.prompt
    assert len(prompt.prefix_ids) == prompt.before == made.prompt.tokens - 299 == 196
    assert [(spec.name, spec.shape) for spec in encoder.inputs] == [("input_ids", (1, 299))]
    assert encoder.outputs[0].shape == (1, 300, 40)
    assert encoder.weights["model.layers.1.self_attn.prefix_keys"].shape == (1, 1, 197, 24)
    assert encoder.notes[-1] == "prefix: keys and values of 196 tokens are constants, 299 are computed"
    whole = specialize_student(made, prefix_cache=False)
    assert whole.prompt == made.prompt
    assert whole.components["text_encoder"].inputs[0].shape == (1, 495)
    assert whole.components["text_encoder"].notes[-1] == "prefix: all 495 positions are computed"


def test_the_prefix_is_run_once_when_it_is_asked_for_one_layer_at_a_time(made: Student) -> None:
    text, loaded = made.components["text_encoder"], []

    def watched(name: str, handle: Handle) -> Handle:
        return LazyHandle(handle.shape, handle.dtype, lambda: loaded.append(name) or handle.load())  # type: ignore[func-returns-value]

    weights = {name: watched(name, handle) for name, handle in text.weights.items()}
    cache = PrefixCache(text.module, weights, range(2, 9))
    handles = cache.handles()
    assert loaded == []
    values = {name: handle.load() for name, handle in handles.items()}
    assert all(values[name].shape == handle.shape and values[name].dtype == handle.dtype for name, handle in handles.items())
    assert sorted(loaded) == sorted(weights), "each weight once"
    layers = [name.split(".")[1] for name in loaded if name.startswith("layers.")]
    assert layers == sorted(layers)


@pytest.fixture
def joining(made: Student, tmp_path: Path) -> Student:
    """The made student with a tokenizer that reads ": 3d" as one token."""
    value = json.loads((made.tokenizer / "tokenizer.json").read_text("utf-8"))
    value["normalizer"] = {"type": "Replace", "pattern": {"String": "Prompt: 3d"}, "content": "circle"}
    path = tmp_path / "tokenizer.json"
    Tokenizer.from_str(json.dumps(value)).save(str(path))
    shutil.copy(made.tokenizer / "tokenizer_config.json", tmp_path)
    return dataclasses.replace(made, tokenizer=tmp_path)


def test_a_prompt_that_changes_the_prefix_is_refused(joining: Student) -> None:
    """Not computed with constants of other tokens: without the cache it is what diffusers makes of it."""
    file = joining.tokenizer / "tokenizer.json"
    reader = PromptReader(specialize_student(joining).prompt, file)
    assert reader.read(["a 3d circle"])[0].shape == (1, 299)
    words = r"prompt '3d circle': the tokenizer joins it to the instruction before it: token 195 of 196 is \d+, expected \d+"
    with pytest.raises(InputError, match=f"{words}.*export with --no-prefix-cache"):
        reader.read(["3d circle"])
    assert PromptReader(specialize_student(joining, prefix_cache=False).prompt, file).read(["3d circle"])[0].shape == (1, 495)
    with pytest.raises(InputError, match=words):
        specialize_student(dataclasses.replace(joining, calibration_prompts=("a circle", "3d circle")))


def test_a_prompt_longer_than_a_shortened_encoder_is_refused(made: Student) -> None:
    prompt = specialize_student(made, prompt_tokens=8).prompt
    reader = PromptReader(prompt, made.tokenizer / "tokenizer.json")
    assert reader.read(["a red circle on the left"])[1].tolist() == [[1] * 8]
    with pytest.raises(InputError, match=r"takes 8 tokens, expected at most 7: .* export with a larger --prompt-tokens"):
        reader.read(["a red circle on the left a"])
    assert PromptReader(specialize_student(made).prompt, made.tokenizer / "tokenizer.json").read(["a " * 999])[1].all()


@pytest.mark.parametrize("rows", [1, 301])
def test_an_impossible_number_of_rows_is_refused(made: Student, rows: int) -> None:
    with pytest.raises(InputError, match=f"prompt_tokens={rows}: expected 2 .* to 300"):
        specialize_student(made, prompt_tokens=rows)
