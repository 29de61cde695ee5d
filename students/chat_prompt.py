"""Prompts within a chat template, for families whose text encoder is a Qwen language model: ids from the tokenizer's files alone.

The template's text stands in a family and not in a checkpoint: a chat template is a program, and none of a checkpoint's is run.
Prompts are neither stripped nor lower-cased. What a bundle reads is held against the tokenizer that stock diffusers would use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers

from sprint_export.errors import InputError, SprintExportError
from sprint_export.libraries import hush
from sprint_export.nouns.student import PromptPlan, Student
from sprint_export.prompt_reader import PromptReader, open_tokenizer
from sprint_export.students.covered import show

CHAT_TOKENIZER = Path(__file__).parent / "chat_tokenizer"  # of students with random weights
ODD_PROMPTS = ("", " ", "  A Red\tCIRCLE ", "ein grüner Kreis über dem 青い四角 🙂 İstanbul ﬁ é", 'red, (blue) - 3d: 50% "x"')


@dataclass(frozen=True)
class ChatTemplate:
    """Text before and behind a prompt; `dropped` is how many of the ids, from the first on, no row is kept of."""

    before: str
    behind: str
    dropped: int


def plan_chat(tokenizer: Path, settings: Mapping[str, Any], vocabulary: int, template: ChatTemplate, tokens: int) -> PromptPlan:
    """The template around the prompt, right padding to `tokens` positions.

    Args:
        tokenizer: a folder with a `tokenizer.json`.
        settings: the student's `tokenizer_config.json`.
        vocabulary: how many rows the embedding has.
        template: what stands around prompts.
        tokens: of the longest text, all of its template among them.

    Raises:
        InputError: the tokenizer is damaged, has no pad token or no words of the template, or ids beyond the embedding.
    """
    file = tokenizer / "tokenizer.json"
    words = open_tokenizer(file).get_vocab()
    largest = max(words.values(), default=0)
    if largest >= vocabulary:
        raise InputError(
            f"{file} has ids up to {largest}, expected less than {vocabulary}: the text encoder has no more embeddings"
        )
    for word in ("<|im_start|>", "<|im_end|>"):
        if word not in words:
            raise InputError(f"{file} has no token {word}; expected Qwen's tokenizer, whose chat template begins with it")
    pad = settings.get("pad_token")
    pad = pad.get("content") if isinstance(pad, Mapping) else pad
    number = words.get(pad) if isinstance(pad, str) else None
    if number is None:
        raise InputError(
            f"{tokenizer} names no pad token that its tokenizer.json has (found {show(pad)}); expected one, as Qwen's tokenizer "
            "has (tokenizer_config.json: pad_token)"
        )
    return PromptPlan(
        prefix=template.before,
        lower=False,
        tokens=tokens,
        keep=tokens - template.dropped,
        pad_id=number,
        vocabulary=vocabulary,
        suffix=template.behind,
        strips=False,
        keeps_first=False,
    )


def open_stock_tokenizer(student: Student) -> Any:
    """The tokenizer that stock diffusers would use; nothing of the folder is executed.

    Raises:
        InputError: transformers cannot read it.
    """
    folder = CHAT_TOKENIZER if student.folder is None else student.folder / "tokenizer"
    try:
        with hush():
            stock = transformers.Qwen2Tokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # tokenizers' panics are no Exception
        raise InputError(
            f"{folder}: Qwen2Tokenizer of transformers {transformers.__version__} cannot read it "
            f"({' '.join(str(error).split())[:300]}); save the pipeline's tokenizer there"
        ) from error
    stock.padding_side = "right"
    return stock


def check_ids(student: Student) -> None:
    """Whether the ids that a bundle will make of prompts are those of the stock tokenizer.

    Raises:
        InputError: they are not; the message shows the first difference.
    """
    plan, stock = student.prompt, open_stock_tokenizer(student)
    reader = PromptReader(plan, student.tokenizer / "tokenizer.json")
    long = "a red circle above a blue square " * plan.tokens
    try:
        for prompt in (*student.calibration_prompts, *ODD_PROMPTS, long):
            text = plan.prefix + prompt + plan.suffix
            wanted = stock(text, padding="max_length", max_length=plan.tokens, truncation=True).input_ids
            found = reader.read([prompt])[0][0].tolist()
            if found != wanted:
                place = next((i for i, pair in enumerate(zip(found, wanted, strict=False)) if pair[0] != pair[1]), len(wanted))
                raise InputError(
                    f"{student.tokenizer}: for {prompt[:60]!r} the stock {type(stock).__name__} gives ids "
                    f"{wanted[place : place + 4]} from place {place} on; the tokenizer.json of a bundle gives "
                    f"{found[place : place + 4]}. Save the tokenizer so that tokenizer.json says it all"
                )
    except (KeyboardInterrupt, SystemExit, MemoryError, SprintExportError):
        raise
    except BaseException as error:
        raise InputError(
            f"{student.tokenizer}: the stock tokenizer cannot encode ({' '.join(str(error).split())[:300]})"
        ) from error
