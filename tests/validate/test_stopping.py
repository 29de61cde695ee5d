"""When enough is drawn: every gate that the pictures can decide is decided, and a few near their limit decide nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from sprint_export.nouns.report import Gate
from sprint_export.students.sprint_tiny.world import read_caption, render_scene
from sprint_export.validate.confidence.decisions import is_enough, weigh
from sprint_export.validate.confidence.evidence import Loss, Mean
from sprint_export.validate.stopping import Stopping

CAPTION = "a small red circle above a large blue square"
DROP, PSNR = Gate("adherence_drop_points", "<=", 3, "why"), Gate("psnr_db", ">=", 25, "why")


def draw(count: int, error: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Pictures, and the same with an error of so many levels in every other row."""
    reference = np.repeat(render_scene(read_caption(CAPTION), np.random.default_rng(0))[None], count, axis=0)
    exported = reference.copy()
    exported[:, ::2] ^= error
    return exported, reference


@pytest.mark.parametrize(
    ("gates", "asked", "prompts", "drawn", "is_decided"),
    [
        ([PSNR], [], [CAPTION] * 64, 4, True),
        ([PSNR], [], [CAPTION] * 64, 1, False),  # one picture cannot meet a mean
        ([PSNR, DROP], [], [CAPTION] * 512, 64, False),  # 128 can
        ([PSNR, DROP], [], [CAPTION] * 512, 320, True),
        ([PSNR, DROP], [], [CAPTION] * 64, 64, True),  # a default that no picture more will decide is not waited for
        ([PSNR, DROP], [DROP], [CAPTION] * 64, 32, False),  # and what the user asked for is
        ([PSNR, DROP], [], ["a dog"] * 512, 64, True),  # nobody judges these
        ([PSNR, Gate("own_decoder_psnr_db", ">=", 9, "why")], [], [CAPTION] * 64, 32, False),  # measured at the end
        ([PSNR, Gate("disk_mb", "<=", 9, "why")], [], [CAPTION] * 64, 4, True),  # no sample
    ],
)
def test_a_validation_stops_once_its_gates_are_decided(
    gates: Sequence[Gate], asked: Sequence[Gate], prompts: Sequence[str], drawn: int, is_decided: bool
) -> None:
    exported, reference = draw(drawn)
    assert Stopping(gates, asked, prompts).is_decided(exported, reference, 0.98) is is_decided


def test_a_broken_bundle_is_known_at_once() -> None:
    exported, reference = draw(4, error=255)
    assert Stopping([PSNR, DROP], [], [CAPTION] * 64).is_decided(exported, reference, 0.99)


@pytest.mark.parametrize(("lowest", "count", "is_clear"), [(29.0, 8, True), (26.0, 8, False), (26.0, 40, True)])
def test_a_few_near_the_limit_do_not_stop_it(lowest: float, count: int, is_clear: bool) -> None:
    """A tail may lie where few pictures have none: each of them, and half their spread beyond, has to be clear of the limit."""
    values = np.array([lowest, *np.linspace(33, 34, count - 1)])
    assert weigh(PSNR, Mean(values)) == "met"
    assert is_enough(PSNR, Mean(values), 0.95) is is_clear


def test_counts_of_pictures_are_exact_already() -> None:
    assert is_enough(DROP, Loss(16, 0, 20), 0.95)
