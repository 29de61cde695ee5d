"""Every key of a student's configs with every value to try, in a seeded order: stock diffusers' picture, or one line."""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path

from tests.attack.forks import run_forked
from tests.attack.outcomes import CLEAN, RIGHT, WRONG, Tally
from tests.made_student import make_pipeline
from tests.students.sana_sprint.flips import copy_linked, draw_ours, draw_theirs, judge, list_flips, set_value

NAME = "flips"
CONFIGS = (
    "transformer/config.json",
    "text_encoder/config.json",
    "vae/config.json",
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer_config.json",
    "model_index.json",
)


def run(count: int, seed: int, tally: Tally) -> None:
    """Try `count` of the flips, or all where there are fewer."""
    with tempfile.TemporaryDirectory() as place:
        base = Path(place) / "base"
        make_pipeline().save_pretrained(base)
        draw_ours(base)  # warms what every fork then has
        draw_theirs(base)
        flips = list(list_flips(base, CONFIGS))
        random.Random(seed).shuffle(flips)
        for i, (file, key, value) in enumerate(flips[:count]):
            folder = copy_linked(base, Path(place) / str(i), file)
            set_value(folder / file, key, value)
            ended = run_forked(lambda folder=folder: judge(folder), 60.0)  # type: ignore[misc]
            shutil.rmtree(folder)
            found = ended.text if ended.kind == "returned" else ended.kind
            outcome = {"right": RIGHT, "refused": CLEAN}.get(found, WRONG if ended.kind == "returned" else ended.kind)
            tally.add(file, outcome, f"{key}={value!r}: {ended.text}")
