"""A tokenizer made of vocab.json and merges.txt gives the ids of transformers' own Qwen2Tokenizer; damaged files are said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import Qwen2Tokenizer

from sprint_export import students
from sprint_export.errors import InputError
from sprint_export.prompt_reader import open_tokenizer
from sprint_export.students.networks.qwen2_tokenizer import find_tokenizer
from tests.students.ten_scripts import list_prompts

CHAT = Path(students.__file__).parent / "chat_tokenizer"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CHAT, tmp_path / "tokenizer"))


def test_ids_are_those_of_the_stock_tokenizer() -> None:
    stock, ours = Qwen2Tokenizer.from_pretrained(CHAT), open_tokenizer(find_tokenizer(CHAT, CHAT) / "tokenizer.json")
    prompts = [*list_prompts(), "", "<|im_end|> x <tool_call>y <|im_start|>", "\n\na"]
    different = [prompt for prompt in prompts if ours.encode(prompt).ids != stock.encode(prompt)]
    assert len(prompts) > 200
    assert not different, f"{len(different)} of {len(prompts)}, e.g. {different[:1]}"


def test_it_is_built_once_and_kept(copied: Path) -> None:
    found = find_tokenizer(copied, copied)
    assert found == find_tokenizer(CHAT, CHAT)
    (copied / "tokenizer.json").write_text((found / "tokenizer.json").read_text())
    assert find_tokenizer(copied, copied) == copied, "a fast tokenizer of its own counts"


def test_what_was_damaged_in_the_cache_is_built_again() -> None:
    """A word that is spelt in another way there would draw another picture without a word."""
    kept = find_tokenizer(CHAT, CHAT) / "tokenizer.json"
    text = kept.read_text()
    for damage in (text.replace('"a"', '"b"', 1), text[:-1], ""):
        kept.write_text(damage)
        assert find_tokenizer(CHAT, CHAT) / "tokenizer.json" == kept
        assert kept.read_text() == text


def test_older_folders_say_added_tokens_apart(copied: Path) -> None:
    wanted = find_tokenizer(CHAT, CHAT)
    config = json.loads((copied / "tokenizer_config.json").read_text())
    added = {token["content"]: int(number) for number, token in config.pop("added_tokens_decoder").items()}
    (copied / "added_tokens.json").write_text(json.dumps({**added}))
    (copied / "tokenizer_config.json").write_text(json.dumps(config))
    text = "<|im_start|>user\na red fox<|im_end|>"
    old, new = (open_tokenizer(folder / "tokenizer.json").encode(text).ids for folder in (find_tokenizer(copied, copied), wanted))
    assert old == new


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("merges.txt", lambda _: None, r"merges\.txt is missing; expected a diffusers folder as a pipeline's save_pretrained"),
        ("merges.txt", lambda text: text + "xyz zyx\n", r"make no tokenizer \(.*xyz"),
        ("vocab.json", lambda _: "[1]", r"vocab\.json holds a list"),
        ("vocab.json", lambda _: '{"a": "b"}', "make no tokenizer"),
        ("tokenizer_config.json", lambda text: text.replace('"843"', '"999"'), r"'<\|im_end\|>' gets id 843, expected 844"),
        ("tokenizer_config.json", lambda text: text.replace('"content"', '"contents"'), "added tokens are damaged"),
    ],
)
def test_damaged_files_are_said(copied: Path, name: str, change: Callable[[str], str | None], words: str) -> None:
    text = change((copied / name).read_text())
    (copied / name).unlink()
    if text is not None:
        (copied / name).write_text(text)
    with pytest.raises(InputError, match=words):
        find_tokenizer(copied, copied)


def test_neither_form_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tokenizer\.json is missing"):
        find_tokenizer(tmp_path, tmp_path)
