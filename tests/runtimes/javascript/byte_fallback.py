"""A tokenizer of Gemma's kind: BPE on words that begin with U+2581, what it has no piece for in bytes, <bos> in front."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def write_tokenizer(file: Path, texts: Sequence[str]) -> None:
    """Train 2,000 pieces on these texts; letters that occur only elsewhere come out as bytes."""
    from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer

    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    tokenizer = Tokenizer(BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("\u2581"), "merged_with_next")
    tokenizer.train_from_iterator(texts, BpeTrainer(vocab_size=2000, special_tokens=special + BYTES, show_progress=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")  # as in Gemma's file
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    tokenizer.save(str(file))


def write_letters(file: Path, texts: Sequence[str]) -> None:
    """Train 300 pieces on these texts, without bytes: letters that occur only elsewhere are unknown, one by one."""
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer

    tokenizer = Tokenizer(BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(texts, BpeTrainer(vocab_size=300, special_tokens=["<pad>", "<unk>"], show_progress=False))
    tokenizer.save(str(file))
