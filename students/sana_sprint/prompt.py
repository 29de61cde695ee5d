"""SANA's prompt as ids: read from `tokenizer.json` alone, and held against the tokenizer that stock diffusers would use.

What stands in `tokenizer_config.json` (add_bos_token, truncation_side, a class that rebuilds the tokenizer) changes what the
stock one does, and a bundle carries none of it. So both read the student's calibration prompts, one that is too long and some
that are odd; where ids differ the student is refused. A class that a checkpoint brings itself is never imported.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers
from diffusers import SanaSprintPipeline

from sprint_export.errors import InputError, SprintExportError
from sprint_export.libraries import hush
from sprint_export.nouns.student import PromptPlan, Student
from sprint_export.prompt_reader import PromptReader, encode_text, open_tokenizer
from sprint_export.students.covered import TEXT, one_of, show
from sprint_export.students.folder import read_json
from sprint_export.students.sana_sprint.configs import TOKENIZERS

MAX_TOKENS = 300  # SanaSprintPipeline.__call__'s max_sequence_length
LONGEST_PREFIX = 4096  # tokens; Gemma-2's has 213
ODD_PROMPTS = ("", "  A Red\tCIRCLE \n above ", "ein grüner Kreis über dem 青い四角 🙂 İstanbul ﬁ é", 'red, (blue) - 3d: 50% "x"')
SETTINGS = ("tokenizer_class", "add_bos_token", "add_eos_token", "truncation_side", "split_special_tokens", "add_prefix_space")


def human_instruction() -> list[str]:
    """The lines that SanaSprintPipeline puts before every prompt."""
    lines: list[str] = inspect.signature(SanaSprintPipeline.__call__).parameters["complex_human_instruction"].default
    return lines


def read_settings(tokenizer: Path, folder: Path) -> dict[str, Any]:
    """What `tokenizer_config.json` says, as data; nothing where there is none.

    Raises:
        InputError: it is damaged, or names code or a class that does not come with transformers.
    """
    file = tokenizer / "tokenizer_config.json"
    if not file.exists() and not file.is_symlink():
        return {}
    settings = read_json(file, folder)
    if settings.get("auto_map") is not None:
        code = show(settings["auto_map"])
        raise InputError(f"{file}: auto_map={code} names code of the checkpoint; it is never run. Remove it")
    kind, known = settings.get("tokenizer_class"), one_of(None, *TOKENIZERS)
    if not known.holds(kind):
        raise InputError(f"{file}: tokenizer_class={show(kind)} is not covered; expected {known.said}")
    return settings


def plan_prompt(tokenizer: Path, settings: Mapping[str, Any], vocabulary: int) -> PromptPlan:
    """SANA's prompt: instruction prefix, lower case, right padding to len(prefix tokens) + 300 - 2 positions.

    Args:
        tokenizer: the folder.
        settings: as `read_settings` gives them.
        vocabulary: how many rows the embedding has.

    Raises:
        InputError: the tokenizer is damaged, has no pad token, or ids beyond the embedding.
    """
    file = tokenizer / "tokenizer.json"
    reader = open_tokenizer(file)
    prefix = "\n".join(human_instruction())
    ids = encode_text(reader, prefix).ids
    if not 2 <= len(ids) <= LONGEST_PREFIX:
        raise InputError(f"{file} makes {len(ids)} tokens of the instruction prefix, expected 2 to {LONGEST_PREFIX}")
    largest = max([*ids, *reader.get_vocab().values()])
    if largest >= vocabulary:
        raise InputError(
            f"{file} has ids up to {largest}, expected less than {vocabulary}: the text encoder has no more embeddings"
        )
    pad = settings.get("pad_token")
    pad = pad.get("content") if isinstance(pad, Mapping) else pad
    number = reader.token_to_id(pad) if TEXT.holds(pad) else None
    if number is None:
        raise InputError(
            f"{tokenizer} names no pad token that its tokenizer.json has (found {show(pad)}); expected one, as Gemma's tokenizer "
            "has (tokenizer_config.json: pad_token)"
        )
    length = len(ids) + MAX_TOKENS - 2
    return PromptPlan(prefix=prefix, lower=True, tokens=length, keep=MAX_TOKENS, pad_id=number, vocabulary=vocabulary)


def open_stock_tokenizer(student: Student) -> Any:
    """The tokenizer that stock diffusers would use; nothing of the folder is executed.

    Raises:
        InputError: transformers cannot read it.
    """
    name = student.configs.get("tokenizer", {}).get("class", "PreTrainedTokenizerFast")
    cls = getattr(transformers, _fast_name(name), transformers.PreTrainedTokenizerFast)
    try:
        with hush():
            stock = cls.from_pretrained(student.tokenizer, trust_remote_code=False, local_files_only=True)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # tokenizers' panics are no Exception
        raise InputError(
            f"{student.tokenizer}: {cls.__name__} of transformers {transformers.__version__} cannot read it "
            f"({' '.join(str(error).split())[:300]}); save the pipeline's fast tokenizer there"
        ) from error
    stock.padding_side = "right"  # as the pipeline sets it
    return stock


def _fast_name(name: str) -> str:
    """transformers 4 has two Gemma tokenizers; the slow one wants a file that fast ones do not come with."""
    return {"GemmaTokenizer": "GemmaTokenizerFast"}.get(name, name)


def check_tokenizer(student: Student) -> None:
    """Whether the ids that a bundle will make of prompts are those of the stock tokenizer.

    Raises:
        InputError: they are not; the message shows the first difference and the settings that may explain it.
    """
    plan = student.prompt
    reader, stock = PromptReader(plan, student.tokenizer / "tokenizer.json"), open_stock_tokenizer(student)
    known = open_tokenizer(student.tokenizer / "tokenizer.json")
    special = " ".join(token.content for token in known.get_added_tokens_decoder().values() if token.special)[:2000]
    long = " ".join(["a red circle above a blue square"] * MAX_TOKENS)
    try:
        length = len(stock.encode(plan.prefix)) + MAX_TOKENS - 2
        for prompt in (*student.calibration_prompts, *ODD_PROMPTS, f"a {special} b", long):
            text = plan.prefix + prompt.lower().strip()
            wanted = stock(text, padding="max_length", max_length=length, truncation=True, add_special_tokens=True).input_ids
            found = reader.read([prompt])[0][0].tolist()
            if found != wanted:
                raise InputError(_describe_difference(student, stock, prompt, found, wanted))
    except (KeyboardInterrupt, SystemExit, MemoryError, SprintExportError):
        raise
    except BaseException as error:
        raise InputError(
            f"{student.tokenizer}: the stock tokenizer cannot encode ({' '.join(str(error).split())[:300]})"
        ) from error


def _describe_difference(student: Student, stock: Any, prompt: str, found: list[int], wanted: list[int]) -> str:
    place = next(
        (i for i, pair in enumerate(zip(found, wanted, strict=False)) if pair[0] != pair[1]), min(len(found), len(wanted))
    )
    said = read_settings(student.tokenizer, student.tokenizer if student.folder is None else student.folder)
    settings = ", ".join(f"{key}={show(said[key])}" for key in SETTINGS if key in said)
    shown = prompt if len(prompt) <= 60 else prompt[:60] + "..."
    return (
        f"{student.tokenizer}: for {shown!r} the stock {type(stock).__name__} gives {len(wanted)} ids, "
        f"{wanted[place : place + 4]} from place {place} on; its tokenizer.json alone, which is all a bundle holds, gives "
        f"{len(found)}, {found[place : place + 4]}. Settings found: {settings or 'none'}. Save the tokenizer so that "
        "tokenizer.json says it all"
    )
