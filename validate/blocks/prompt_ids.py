"""Whether a bundle reads prompts as its student does: what goes into the first network, before any of them runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sprint_export.bundle_files import TOKENIZER
from sprint_export.errors import BundleError
from sprint_export.export.bundle import locate
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.report import BlockError
from sprint_export.nouns.student import PromptPlan, Student
from sprint_export.prompt_reader import PromptReader
from sprint_export.psnr import CAP_DB
from sprint_export.validate.blocks.layout import Array
from sprint_export.validate.images import psnr_arrays

NETWORK, IDS = "prompt", "ids"  # what the row is called
AT_ONCE = 1024  # prompts whose ids are compared together


def compare_ids(bundle: Bundle, specialized: Student, prompts: Sequence[str]) -> BlockError:
    """The share of ids that differ, those of a held prefix among them; any that does departs.

    Prompts are read AT_ONCE at a time; the PSNR is of those that are furthest apart.
    """
    readers = (
        PromptReader(bundle.prompt, locate(bundle, TOKENIZER), BundleError),
        PromptReader(specialized.prompt, specialized.tokenizer / "tokenizer.json"),
    )
    worst, differing = CAP_DB, 0.0
    for start in range(0, len(prompts), AT_ONCE):
        some = prompts[start : start + AT_ONCE]
        ours, theirs = (_read(reader, some) for reader in readers)
        length = max(ours.shape[1], theirs.shape[1])
        ours, theirs = _extend(ours, length, bundle.prompt), _extend(theirs, length, specialized.prompt)
        worst = min(worst, psnr_arrays(ours, theirs))
        differing += float((ours != theirs).mean()) * len(some)
    share = differing / len(prompts)
    return BlockError(NETWORK, IDS, 0, worst, share, departs=share > 0)


def _read(reader: PromptReader, prompts: Sequence[str]) -> Array:
    ids, _ = reader.read(prompts)
    held = np.tile(np.array(reader.plan.prefix_ids, np.int64), (len(ids), 1))
    return np.concatenate([held, ids], axis=1)


def _extend(ids: Array, length: int, plan: PromptPlan) -> Array:
    return np.pad(ids, ((0, 0), (0, length - ids.shape[1])), constant_values=plan.pad_id)
