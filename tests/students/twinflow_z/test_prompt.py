"""Prompt ids beside the stock pipeline's own, with Qwen3's published template; and tokenizers that cannot be Qwen3's."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline

from sprint_export.errors import InputError
from sprint_export.prompt_reader import PromptReader
from sprint_export.specialize import specialize_student
from sprint_export.students.chat_prompt import CHAT_TOKENIZER, ChatTemplate, check_ids, open_stock_tokenizer, plan_chat
from sprint_export.students.twinflow_z.presets import tiny
from sprint_export.students.twinflow_z.published import BEFORE, BEHIND, TEMPLATE
from tests.students.ten_scripts import list_prompts

# What Qwen3's template says of one user's message; of its 89 lines the others are about tools, thoughts and longer talks.
QWEN3 = (
    "{%- for message in messages %}{%- if message.role == 'user' %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
    "{%- endif %}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    "{%- endif %}"
)
CHAT = ChatTemplate(BEFORE, BEHIND, 3)


def test_ids_are_the_stock_pipelines_in_ten_scripts() -> None:
    """The stock pipeline's own encode_prompt, listened to where it hands ids and mask to its text encoder."""
    student, heard = tiny(tokens=160, axes_lens=(256, 32, 32)), []

    def encode(input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: Any) -> Any:
        heard.append((input_ids[0], attention_mask[0]))
        return SimpleNamespace(hidden_states=[torch.zeros(1, input_ids.shape[1], 4)] * 2)

    tokenizer = open_stock_tokenizer(student)
    for template in (TEMPLATE, QWEN3):
        tokenizer.chat_template = template
        message = [{"role": "user", "content": " a\nfox "}]
        text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True, enable_thinking=True)
        assert text == f"{BEFORE} a\nfox {BEHIND}"
    pipeline = ZImagePipeline(FlowMatchEulerDiscreteScheduler(), None, None, tokenizer, None)
    pipeline.text_encoder = encode
    reader = PromptReader(student.prompt, student.tokenizer / "tokenizer.json")
    prompts = [*list_prompts(), "", "a " * 500, "<|im_end|> x"]
    lengths = set()
    for prompt in prompts:
        pipeline.encode_prompt(prompt, "cpu", do_classifier_free_guidance=False, max_sequence_length=student.prompt.tokens)
        ids, mask = heard.pop()
        found, kept = reader.read([prompt])
        assert found[0].tolist() == ids.tolist(), prompt
        assert kept[0].tolist() == mask.long().tolist()[student.prompt.before :], prompt
        lengths.add(int(mask.sum()))
    assert len(prompts) > 200
    assert len(lengths) > 20, "all of about one length"
    assert max(lengths) == student.prompt.tokens


def test_the_beginning_is_held_and_prompts_that_change_it_are_refused() -> None:
    student = tiny()
    specialized = specialize_student(student)
    assert len(specialized.prompt.prefix_ids) == student.prompt.before == student.prompt.tokens - student.prompt.keep
    file = student.tokenizer / "tokenizer.json"
    assert PromptReader(specialized.prompt, file).read(["a fox"])[0].shape == (1, student.prompt.keep)
    whole = specialize_student(student, prefix_cache=False)
    assert PromptReader(whole.prompt, file).read(["\n a fox"])[0].shape == (1, student.prompt.tokens)
    ids = [PromptReader(whole.prompt, file).read([text])[0][0, : student.prompt.before].tolist() for text in ("a", "\n\na")]
    if ids[0] != ids[1]:  # Qwen's joins the newlines
        with pytest.raises(InputError, match="joins it to the instruction before it"):
            PromptReader(specialized.prompt, file).read(["\n\na"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pad_token": None}, "names no pad token that its tokenizer.json has"),
        ({"pad_token": "<nothing>"}, r"found '<nothing>'"),
    ],
)
def test_settings_that_cannot_be_qwens(change: dict[str, Any], words: str) -> None:
    student = tiny()
    settings = json.loads((CHAT_TOKENIZER / "tokenizer_config.json").read_text()) | change
    with pytest.raises(InputError, match=words):
        plan_chat(student.tokenizer, settings, 1024, CHAT, 80)


def test_a_tokenizer_that_is_not_qwens(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no token <\|im_start\|>; expected Qwen's tokenizer"):
        plan_chat(CHAT_TOKENIZER.parent / "words_tokenizer", {"pad_token": "<pad>"}, 1024, CHAT, 80)
    with pytest.raises(InputError, match=r"has ids up to .*, expected less than 100"):
        plan_chat(tiny().tokenizer, {"pad_token": "<|endoftext|>"}, 100, CHAT, 80)


def test_a_tokenizer_that_says_two_things_is_refused(tmp_path: Path) -> None:
    """Its tokenizer.json, all that a bundle holds, cuts other pieces than its vocabulary."""
    student = tiny()
    value = json.loads((student.tokenizer / "tokenizer.json").read_text("utf-8"))
    value["normalizer"] = {"type": "Lowercase"}
    shutil.copytree(CHAT_TOKENIZER, tmp_path / "tokenizer")
    (tmp_path / "tokenizer.json").write_text(json.dumps(value))
    check_ids(student)
    with pytest.raises(InputError, match=r"the stock Qwen2Tokenizer gives ids .* from place .* on; the tokenizer.json of"):
        check_ids(dataclasses.replace(student, tokenizer=tmp_path))
