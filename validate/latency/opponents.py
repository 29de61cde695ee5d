"""What a bundle is timed against, as the user names it: `pytorch`, `pytorch-compile:bf16`, or the folder of another bundle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sprint_export.errors import InputError, unknown_choice
from sprint_export.export.bundle import read_bundle
from sprint_export.nouns.bundle import Bundle
from sprint_export.paths import is_folder
from sprint_export.progress import Progress, quiet
from sprint_export.runtimes.hub import find_bundle
from sprint_export.validate.latency.bundle_side import BundleSide, Where
from sprint_export.validate.latency.turns import Side
from sprint_export.validate.own_source import load_own_source

if TYPE_CHECKING:
    from sprint_export.compute import Compute
    from sprint_export.nouns.student import Student

EAGER, COMPILED = "pytorch", "pytorch-compile"
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # torch's names
FORM = f"{EAGER}, {COMPILED}, either with :{', :'.join(DTYPES)}, or another bundle's folder or hub id"


@dataclass(frozen=True)
class Opponent:
    """PyTorch in one type, or another bundle.

    Args:
        text: as the user names it.
        is_compiled: through torch.compile.
        dtype: one of DTYPES.
        folder: of a bundle, in place of PyTorch.
    """

    text: str
    is_compiled: bool = False
    dtype: str = "fp32"
    folder: Path | None = None


def is_pytorch(text: str) -> bool:
    """Whether `--against` names PyTorch."""
    return text.partition(":")[0] in (EAGER, COMPILED)


def read_opponent(text: str, progress: Progress = quiet) -> Opponent:
    """What `--against` names.

    Raises:
        InputError: it is none of FORM. MachineError: a hub id's bundle cannot be fetched.
    """
    name, _, dtype = text.partition(":")
    if is_pytorch(text):
        if ":" in text and dtype not in DTYPES:
            raise unknown_choice(f"type in --against {text}:", dtype, DTYPES)
        return Opponent(text, name == COMPILED, dtype or "fp32")
    folder = find_bundle(text, progress)
    if not is_folder(folder):
        raise InputError(f"--against {text}: expected {FORM}")
    read_bundle(folder, verify=False)
    return Opponent(text, folder=folder)


def open_opponent(
    opponent: Opponent,
    bundle: Bundle,
    student: Student | None,
    compute: Compute,
    where: Where,
    count: int,
) -> Side:
    """A side that draws `count` pictures at once.

    Args:
        opponent: what.
        bundle: that is timed against it.
        student: that it was made from; default: its source, where that is embedded or random.
        compute: where PyTorch computes.
        where: what runs another bundle, its runtime left open where its target is another; threads of PyTorch.
        count: pictures at once.
    """
    if opponent.folder is not None:
        other = read_bundle(opponent.folder, verify=False)
        side = BundleSide.open(other, where if other.target == bundle.target else replace(where, runtime=None), count)
        side.label = opponent.text
        return side
    from sprint_export.validate.latency.torch_side import open_torch

    return open_torch(bundle, student or load_own_source(bundle.source), opponent, compute, count, where.threads)
