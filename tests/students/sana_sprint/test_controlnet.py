"""SANA-Sprint with a ControlNet: diffusers' SanaControlNetModel beside the stock transformer in the Sprint loop."""

from __future__ import annotations

import pytest

from sprint_export.students.sana_sprint.family import FAMILY
from sprint_export.students.sana_sprint.presets import tiny
from tests.students.contract import check_drawing


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_it_draws_what_diffusers_draws(steps: int) -> None:
    check_drawing(FAMILY, steps, tiny(control_layers=1))
