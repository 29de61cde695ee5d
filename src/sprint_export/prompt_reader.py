"""Prompts to token ids, from a PromptPlan and a `tokenizer.json` alone: no torch, no model code, nothing executed.

`open_tokenizer` and `encode_text` are the only places that call the tokenizers library. It raises plain Exception for a damaged
file and pyo3's PanicException, a BaseException, for what it stumbles over later; both become the error the caller names:
InputError for a student, BundleError for a bundle.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sprint_export.errors import InputError, SprintExportError
from sprint_export.nouns.student import PromptPlan

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

LARGEST_TOKENIZER = 64 << 20  # bytes; the largest vocabularies, of 262,000 words, have 33 million
PASSED_ON = (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError, SprintExportError)
Refusal = type[SprintExportError]


def open_tokenizer(file: Path, refusal: Refusal = InputError) -> Any:
    """The tokenizers.Tokenizer of a `tokenizer.json`, without padding and truncation.

    Raises:
        refusal: the file is missing, no regular file, larger than LARGEST_TOKENIZER, or holds no tokenizer.
    """
    from tokenizers import Tokenizer

    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):  # opening a FIFO waits for ever
            raise refusal(f"{file} is no regular file; expected a fast tokenizer's JSON")
        if found.st_size > LARGEST_TOKENIZER:
            raise refusal(f"{file} has {found.st_size:,} bytes, expected at most {LARGEST_TOKENIZER:,}: that is no tokenizer")
        text = file.read_text("utf-8")
    except FileNotFoundError as error:
        raise refusal(f"{file} is missing; save the pipeline's fast tokenizer there") from error
    except (OSError, ValueError, RuntimeError) as error:  # UnicodeDecodeError is a ValueError, a link loop a RuntimeError
        raise refusal(f"{file} cannot be read ({error}); save the pipeline's fast tokenizer there") from error
    with _refusing(f"{file.parent} holds no tokenizer that can be read", "save the pipeline's fast tokenizer there", refusal):
        tokenizer = Tokenizer.from_str(text)
        tokenizer.no_padding()
        tokenizer.no_truncation()
    return tokenizer


def encode_text(tokenizer: Any, text: str, refusal: Refusal = InputError) -> Any:
    """The tokenizers.Encoding of a text, special tokens among its ids.

    Raises:
        InputError: the text is not Unicode (a lone surrogate). refusal: the tokenizer cannot encode it.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"prompt {text[-80:]!r} is not Unicode text ({error}); write it in UTF-8") from error
    with _refusing(f"the tokenizer cannot encode {text[-80:]!r}", "its tokenizer.json is damaged", refusal):
        return tokenizer.encode(text)


def count_ending(file: Path, refusal: Refusal = InputError) -> int:
    """How many special tokens a `tokenizer.json` puts behind a text, e.g. 1 where it adds an end of the text."""
    tokenizer = open_tokenizer(file, refusal)
    if not tokenizer.num_special_tokens_to_add(False):
        return 0
    marks: list[int] = encode_text(tokenizer, "a", refusal).special_tokens_mask
    return next((i for i, mark in enumerate(reversed(marks)) if not mark), 0)


@contextmanager
def _refusing(what: str, advice: str, refusal: Refusal) -> Iterator[None]:
    try:
        yield
    except PASSED_ON:
        raise
    except BaseException as error:
        reason = " ".join(str(error).split())[:300]
        raise refusal(f"{what} ({reason}); {advice}") from error


class PromptReader:
    """Turns prompts into token ids exactly as the student's pipeline does.

    Args:
        plan: how a prompt becomes ids.
        tokenizer_file: a `tokenizer.json`.
        refusal: what is raised where that file is damaged.
    """

    def __init__(self, plan: PromptPlan, tokenizer_file: Path, refusal: Refusal = InputError) -> None:
        self.plan, self._refusal = plan, refusal
        self._tokenizer = open_tokenizer(tokenizer_file, refusal)
        if plan.cuts:
            with _refusing(f"{tokenizer_file} cannot cut texts to {plan.tokens} tokens", "it is damaged", refusal):
                self._tokenizer.enable_truncation(plan.tokens)

    def read(self, prompts: Sequence[str]) -> tuple[Array, Array]:
        """Token ids int64 [B, tokens], those of a held prefix left out, and the mask of the kept positions int64 [B, keep].

        Raises:
            InputError: a prompt changes the ids of the prefix that the encoder holds, or is longer than the encoder and not cut.
        """
        import numpy as np

        plan = self.plan
        ids = np.full((len(prompts), plan.tokens), plan.pad_id, np.int64)
        mask = np.zeros((len(prompts), plan.tokens), np.int64)
        for row, prompt in enumerate(prompts):
            tokens = self._encode(prompt)
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        kept = np.r_[: int(plan.keeps_first), plan.before : plan.tokens]
        return ids[:, len(plan.prefix_ids) :], mask[:, kept]

    def list_unknown(self, prompts: Sequence[str]) -> tuple[str, ...]:
        """Words of the prompts that the tokenizer does not know (its unknown token stands for them), each once, in order."""
        unknown = self._tokenizer.token_to_id(getattr(self._tokenizer.model, "unk_token", None) or "<unk>")
        found: dict[str, None] = {}
        for text in (self._arrange(prompt) for prompt in prompts):
            encoding = encode_text(self._tokenizer, text, self._refusal)
            spans = [span for token, span in zip(encoding.ids, encoding.offsets, strict=True) if token == unknown]
            found |= dict.fromkeys(word for start, end in _join_spans(spans) if (word := text[start:end].strip()))
        return tuple(found)

    def _arrange(self, prompt: str) -> str:
        text = prompt.lower() if self.plan.lower else prompt
        return text.strip() if self.plan.strips else text

    def _encode(self, prompt: str) -> list[int]:
        """All ids of a prompt, the prefix's among them; at most `plan.tokens`."""
        plan = self.plan
        tokens: list[int] = encode_text(self._tokenizer, plan.prefix + self._arrange(prompt) + plan.suffix, self._refusal).ids
        found, held = tokens[: len(plan.prefix_ids)], list(plan.prefix_ids)
        if found != held:
            place = next((i for i, pair in enumerate(zip(found, held, strict=False)) if pair[0] != pair[1]), len(found))
            raise InputError(
                f"prompt {prompt!r}: the tokenizer joins it to the instruction before it: token {place} of {len(held)} is "
                f"{found[place] if place < len(found) else 'missing'}, expected {held[place]}, for which this text encoder holds "
                "constants. Begin the prompt with another character, or export with --no-prefix-cache"
            )
        if len(tokens) > plan.tokens:
            raise InputError(
                f"prompt {prompt!r} takes {len(tokens) - plan.before} tokens, expected at most "
                f"{plan.tokens - plan.before}: that is what the networks are fixed to. Shorten it, or export with a larger "
                "--prompt-tokens"
            )
        return tokens


def _join_spans(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans of characters, touching ones as one: a tokenizer of letters marks each of a word it does not know."""
    joined: list[tuple[int, int]] = []
    for start, end in spans:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined
