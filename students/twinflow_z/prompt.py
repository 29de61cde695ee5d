r"""Z-Image's prompt as ids: Qwen3's chat template around it, read from the tokenizer's files alone.

    <|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n        cut to 1,024 tokens, padded right
The template stands here and not in the checkpoint: a chat template is a program, and none of a checkpoint's is run. It is what
Qwen3's own gives for one user's message with thinking enabled (tests/students/twinflow_z/test_prompt.py renders that one). All
tokens of the template count, as in the stock pipeline. Prompts are neither stripped nor lower-cased.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers

from sprint_export.errors import InputError, SprintExportError
from sprint_export.libraries import hush
from sprint_export.nouns.student import PromptPlan, Student
from sprint_export.prompt_reader import PromptReader, encode_text, open_tokenizer
from sprint_export.students.covered import show
from sprint_export.students.twinflow_z.published import TOKENS

CHAT_TOKENIZER = Path(__file__).parents[1] / "chat_tokenizer"  # of students with random weights
BEFORE, BEHIND = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
TEMPLATE = (  # the same for transformers' chat templates, of one message
    "{{- '<|im_start|>' + messages[0].role + '\\n' + messages[0].content + '<|im_end|>\\n' -}}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
ODD_PROMPTS = ("", " ", "  A Red\tCIRCLE ", "ein grüner Kreis über dem 青い四角 🙂 İstanbul ﬁ é", 'red, (blue) - 3d: 50% "x"')


def plan_prompt(tokenizer: Path, settings: Mapping[str, Any], vocabulary: int, tokens: int = TOKENS) -> PromptPlan:
    """The template around the prompt, right padding to `tokens` positions, all of which are rows of the text.

    Args:
        tokenizer: a folder with a `tokenizer.json`.
        settings: the student's `tokenizer_config.json`.
        vocabulary: how many rows the embedding has.
        tokens: of the longest text, its template among them.

    Raises:
        InputError: the tokenizer is damaged, has no pad token or no words of the template, or ids beyond the embedding.
    """
    file = tokenizer / "tokenizer.json"
    reader = open_tokenizer(file)
    words = reader.get_vocab()
    largest = max(words.values(), default=0)
    if largest >= vocabulary:
        raise InputError(
            f"{file} has ids up to {largest}, expected less than {vocabulary}: the text encoder has no more embeddings"
        )
    for word in ("<|im_start|>", "<|im_end|>"):
        if word not in words:
            raise InputError(f"{file} has no token {word}; expected Qwen3's tokenizer, whose chat template begins with it")
    pad = settings.get("pad_token")
    pad = pad.get("content") if isinstance(pad, dict) else pad
    number = words.get(pad) if isinstance(pad, str) else None
    if number is None:
        raise InputError(
            f"{tokenizer} names no pad token that its tokenizer.json has (found {show(pad)}); expected one, as Qwen3's tokenizer "
            "has (tokenizer_config.json: pad_token)"
        )
    before = len(encode_text(reader, BEFORE).ids)
    return PromptPlan(
        prefix=BEFORE,
        lower=False,
        tokens=tokens,
        keep=tokens - before,
        pad_id=number,
        vocabulary=vocabulary,
        suffix=BEHIND,
        strips=False,
        keeps_first=False,
    )


def open_stock_tokenizer(student: Student) -> Any:
    """The tokenizer that stock diffusers would use, with the template of this file; nothing of the folder is executed.

    Raises:
        InputError: transformers cannot read it.
    """
    folder = CHAT_TOKENIZER if student.folder is None else student.folder / "tokenizer"
    try:
        with hush():
            stock = transformers.Qwen2TokenizerFast.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # tokenizers' panics are no Exception
        raise InputError(
            f"{folder}: Qwen2TokenizerFast of transformers {transformers.__version__} cannot read it "
            f"({' '.join(str(error).split())[:300]}); save the pipeline's tokenizer there"
        ) from error
    stock.padding_side = "right"
    stock.chat_template = TEMPLATE
    return stock


def check_tokenizer(student: Student) -> None:
    """Whether the ids that a bundle will make of prompts are those of the stock tokenizer.

    Raises:
        InputError: they are not; the message shows the first difference.
    """
    plan, stock = student.prompt, open_stock_tokenizer(student)
    reader = PromptReader(plan, student.tokenizer / "tokenizer.json")
    long = "a red circle above a blue square " * plan.tokens
    try:
        for prompt in (*student.calibration_prompts, *ODD_PROMPTS, long):
            wanted = stock(BEFORE + prompt + BEHIND, padding="max_length", max_length=plan.tokens, truncation=True).input_ids
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
