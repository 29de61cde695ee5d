"""Texts in C++ are Python's: ids of each kind of tokenizer.json in use, lower case, NFC; other kinds are refused by name."""

from __future__ import annotations

import json
import random
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from sprint_export import students
from sprint_export.students.networks.qwen2_tokenizer import find_tokenizer
from tests.runtimes.cpp.make_unicode_tables import CODES, FOLDER, make_tables
from tests.runtimes.cpp.programs import ask_probe
from tests.students.ten_scripts import list_prompts

STUDENTS = Path(students.__file__).parent
ODD = ["", " ", "<|im_end|> x <tool_call>y <|im_start|>", "\n\na", "a'ſ b'Ll c'RE d'x", "<bos>a<eos> <unk>", "x" * 500]
ODD += ["\u3000 a\u0085b"]
LETTERS = "a'ſsSlLvEre1٣ \n\r\t\u0085\u3000.,é\u0301́中🙂▁"


def train_gemmas_kind() -> Tokenizer:
    """As Gemma's: blanks become ▁, the whole text is one word, and bytes stand for characters that are no token."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "\n\n", "▁▁"]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=special, limit_alphabet=150, show_progress=False)
    tokenizer.train_from_iterator(list_prompts(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    return tokenizer


def open_kind(kind: str) -> Tokenizer:
    if kind == "gemma":
        return train_gemmas_kind()
    folder = STUDENTS / {"chat": "chat_tokenizer", "words": "words_tokenizer", "sprint-tiny": "sprint_tiny/tokenizer"}[kind]
    return Tokenizer.from_file(str((find_tokenizer(folder, folder) if kind == "chat" else folder) / "tokenizer.json"))


def check_ids(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    """The library's ids, which are C++'s."""
    wanted = [tokenizer.encode(text).ids for text in texts]
    found = ask_probe("tokens", {"tokenizer": tokenizer.to_str(), "texts": texts})
    different = [text for text, ids, right in zip(texts, found, wanted, strict=True) if ids != right]
    assert not different, f"{len(different)} of {len(texts)}, e.g. {different[:1]}"
    return wanted


@pytest.mark.parametrize("kind", ["words", "sprint-tiny", "chat", "gemma"])
def test_ids_are_those_of_the_tokenizers_library(kind: str) -> None:
    tokenizer, draw = open_kind(kind), random.Random(0)
    noise = ["".join(draw.choices(LETTERS, k=draw.randrange(1, 25))) for _ in range(2000)]
    texts = [*list_prompts(), *ODD, *noise]
    assert len(list_prompts()) == 200
    wanted = check_ids(tokenizer, texts)
    if kind == "gemma":
        bytes_ = {tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in range(256)}
        assert len(bytes_ & {each for ids in wanted for each in ids}) > 30


def test_flags_of_added_tokens_are_obeyed() -> None:
    vocabulary = {letter: i for i, letter in enumerate(["<unk>", "a", "b", " ", "x", "é", "[", "]"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("x"), normalizers.NFC(), normalizers.Replace("b", "a")])
    tokenizer.add_tokens([AddedToken("ab", single_word=True, normalized=False), AddedToken("bé", lstrip=True, rstrip=True)])
    tokenizer.add_special_tokens([AddedToken("[x]", lstrip=True), AddedToken("[x]a", rstrip=True, normalized=False)])
    draw = random.Random(1)
    parts = ["ab", "bé", "be\u0301", "[x]", "[x]a", " ", "  ", "b", "é", "q", "zz"]
    check_ids(tokenizer, ["".join(draw.choices(parts, k=6)) for _ in range(3000)])


@pytest.mark.parametrize("behavior", ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"])
@pytest.mark.parametrize("invert", [False, True])
def test_a_text_is_cut_as_the_library_cuts_it(behavior: str, invert: bool) -> None:
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1, ",": 2, ",,": 3, "a,": 4, ",a": 5, "a,,": 6, ",,a": 7}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(",", behavior, invert)
    check_ids(tokenizer, ["a,a", ",a", "a,", "a,,a", ",,", "a,,,a,", "aa,,", ",", "a"])


def pattern_of(value: Any) -> Any:
    """Of the expression that cuts texts."""
    return value["pre_tokenizer"]["pretokenizers"][0]["pattern"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda value: value["model"].update(type="Unigram"), 'model.type is "Unigram", expected one of "BPE", "WordLevel"'),
        (lambda value: value.update(normalizer={"type": "Strip"}), 'normalizer.type is "Strip", expected one of "NFC"'),
        (lambda value: pattern_of(value).update(Regex="a+"), 'pattern.Regex is "a+", expected'),
        (lambda value: value["post_processor"].update(type="BertProcessing"), 'post_processor.type is "BertProcessing"'),
        (lambda value: value["model"].update(continuing_subword_prefix="##"), 'continuing_subword_prefix is "##", expected none'),
        (lambda value: value["model"]["merges"].append(["xyz", "zyx"]), "expected tokens of its vocabulary"),
        (lambda value: value["model"]["vocab"].update(a=-1), "vocab.a is -1, expected a whole number from 0"),
        (lambda value: value["added_tokens"][0].update(id=7), "added_tokens[0].id is 7, expected 842, the id that"),
        (lambda value: value.pop("model"), 'tokenizer.json has no "model"'),
    ],
)
def test_a_kind_that_is_not_covered_is_refused_by_name(change: Callable[[Any], object], said: str) -> None:
    value = json.loads(open_kind("chat").to_str())
    change(value)
    with pytest.raises(AssertionError) as error:
        ask_probe("tokens", {"tokenizer": json.dumps(value), "texts": [""]})
    assert said in str(error.value)


def test_lower_case_and_composition_are_pythons() -> None:
    if make_tables()["unicode_forms.inc"].partition("\n")[0] not in (FOLDER / "unicode_forms.inc").read_text("utf-8"):
        pytest.skip(f"the tables are of another version of Unicode than this Python's, {unicodedata.unidata_version}")
    draw, characters = random.Random(0), [chr(code) for code in CODES]
    odd = [each for each in characters if unicodedata.combining(each) or unicodedata.decomposition(each) or each.lower() != each]
    texts = ["".join(draw.choices([*odd, *"Σ" * 2000], k=12)) for _ in range(5000)]
    texts += ["".join(draw.choices("AΣ'\u0301.ﬁ1 \u0345ªⒶ", k=8)) for _ in range(2000)]
    hangul = [chr(code) for code in (*range(0x1100, 0x1200), *range(0xAC00, 0xD7A4, 7))]
    texts += ["".join(draw.choices(hangul, k=6)) for _ in range(2000)]
    texts += [unicodedata.normalize("NFD", text) for text in texts[:2000]] + characters
    assert ask_probe("lower", texts) == [text.lower() for text in texts]
    assert ask_probe("compose", texts) == [unicodedata.normalize("NFC", text) for text in texts]


def test_the_tables_are_what_the_script_writes() -> None:
    tables = make_tables()
    if tables["unicode_forms.inc"].partition("\n")[0] not in (FOLDER / "unicode_forms.inc").read_text("utf-8"):
        pytest.skip(f"the tables are of another version of Unicode than this Python's, {unicodedata.unidata_version}")
    assert {name: (FOLDER / name).read_text("utf-8") for name in tables} == tables
