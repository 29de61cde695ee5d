"""Qwen2's tokenizer (Qwen2.5-VL, Qwen3) from `vocab.json` and `merges.txt`, for folders that come without `tokenizer.json`.

Byte-level BPE without an unknown token: text is brought to NFC, cut by one expression, each piece's bytes are merged. The added
tokens, `<|im_start|>` and its like, stand in `tokenizer_config.json` or `added_tokens.json`. Nothing is executed; that the ids
are those of the stock tokenizer is what `Family.check_tokenizer` asks.
Source: transformers/models/qwen2/tokenization_qwen2.py and convert_slow_tokenizer.py (Qwen2Converter).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from sprint_export.cache import clear_cache_errors, open_cache
from sprint_export.errors import InputError
from sprint_export.files import write_text
from sprint_export.students.covered import show
from sprint_export.students.folder import check_file, read_json, read_text

PIECES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")  # of an added token
Added = dict[int, dict[str, Any]]


def find_tokenizer(tokenizer: Path, folder: Path) -> Path:
    """The folder of a `tokenizer.json`: the student's own or, where that has none, one in the cache that says what it says.

    Args:
        tokenizer: the student's tokenizer folder.
        folder: the student's.

    Raises:
        InputError: neither form is there, or a file is damaged. MachineError: the cache cannot be written to.
    """
    whole = tokenizer / "tokenizer.json"
    if whole.exists() or whole.is_symlink() or not (tokenizer / "vocab.json").exists():
        check_file(whole, folder)
        return tokenizer
    text = build_tokenizer(tokenizer, folder).to_str()
    found = open_cache("tokenizers") / hashlib.sha256(text.encode()).hexdigest()
    if not is_whole(found / "tokenizer.json", text):
        with clear_cache_errors(found):
            found.mkdir(exist_ok=True)
            write_text(found / "tokenizer.json", text)
    return found


def is_whole(kept: Path, text: str) -> bool:
    """Whether a file that was kept says what it should: a disk may have damaged it since."""
    return kept.is_file() and kept.stat().st_size == len(text.encode()) and kept.read_bytes() == text.encode()


def build_tokenizer(tokenizer: Path, folder: Path) -> Tokenizer:
    """The tokenizer that `vocab.json`, `merges.txt` and the added tokens describe.

    Raises:
        InputError: a file is missing or damaged, or an added token does not get the id that it is said to have.
    """
    words, rules = tokenizer / "vocab.json", tokenizer / "merges.txt"
    lines = [line.strip() for line in read_text(rules, folder).splitlines()]
    pairs = [tuple(line.split()) for line in lines if line and not line.startswith("#version:")]
    try:
        built = Tokenizer(models.BPE(vocab=read_json(words, folder), merges=pairs))
    except Exception as error:  # tokenizers raises plain Exception, and TypeError for what is no number
        raise InputError(
            f"{tokenizer}: vocab.json and merges.txt make no tokenizer ({' '.join(str(error).split())[:300]}); download it again"
        ) from error
    built.normalizer = normalizers.NFC()
    pieces = pre_tokenizers.Split(Regex(PIECES), behavior="isolated", invert=False)
    built.pre_tokenizer = pre_tokenizers.Sequence([pieces, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    built.decoder, built.post_processor = decoders.ByteLevel(), processors.ByteLevel(trim_offsets=False)
    for number, said in sorted(_read_added(tokenizer, folder).items()):
        token = AddedToken(said["content"], **{flag: bool(said[flag]) for flag in FLAGS if flag in said})
        (built.add_special_tokens if token.special else built.add_tokens)([token])
        if (found := built.token_to_id(token.content)) != number:
            raise InputError(
                f"{tokenizer}: {token.content!r} gets id {found}, expected {number}: the files do not fit each other"
            )
    return built


def _read_added(tokenizer: Path, folder: Path) -> Added:
    """Id -> content and flags of the added tokens.

    Raises:
        InputError: they are not what transformers writes.
    """
    config, added = tokenizer / "tokenizer_config.json", tokenizer / "added_tokens.json"
    said = read_json(config, folder).get("added_tokens_decoder") if config.exists() else None
    if said is None and added.exists():
        said = {number: {"content": text, "special": True} for text, number in read_json(added, folder).items()}
    try:
        found = {int(number): dict(token) for number, token in (said or {}).items()}
        if not all(isinstance(token["content"], str) and token["content"] for token in found.values()):
            raise ValueError("a token without content")
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{tokenizer}: added tokens are damaged ({error!r}); found {show(said)}") from error
    return found
