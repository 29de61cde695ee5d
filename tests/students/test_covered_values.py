"""Every key of every config takes values of every type: the picture is stock diffusers', or one line refuses it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sprint_export.errors import InputError
from tests.students.flips import ENOUGH_DB, compare, copy_linked, draw_ours, draw_theirs, list_flips, set_value

CONFIGS = (
    "transformer/config.json",
    "text_encoder/config.json",
    "vae/config.json",
    "scheduler/scheduler_config.json",
    "model_index.json",
)


@pytest.mark.parametrize("file", CONFIGS)
def test_a_flipped_value_draws_what_stock_draws_or_is_refused_in_one_line(made_folder: Path, tmp_path: Path, file: str) -> None:
    faults, drawn = [], 0
    for i, (_, key, value) in enumerate(list_flips(made_folder, (file,))):
        folder = copy_linked(made_folder, tmp_path / str(i), file)
        set_value(folder / file, key, value)
        found = judge(folder)
        drawn += found == "right"
        if found not in ("right", "refused"):
            faults.append(f"{file}: {key}={value!r}: {found}")
    assert not faults, "\n".join(faults)
    assert drawn or file == "model_index.json"


def judge(folder: Path) -> str:
    """Right, refused, or in words what is wrong."""
    try:
        ours = draw_ours(folder)
    except InputError as error:
        return "refused" if "\n" not in str(error) and len(str(error)) < 2000 else f"not one line: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    try:
        theirs = draw_theirs(folder)
    except Exception as error:
        return f"drawn where stock refuses ({type(error).__name__}: {str(error)[:200]})"
    decibels = compare(ours, theirs)
    return "right" if decibels >= ENOUGH_DB else f"{decibels:.1f} dB from stock"
