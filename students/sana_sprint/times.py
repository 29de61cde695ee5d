"""Flow times of SanaSprintPipeline's schedule: TrigFlow time t is s = sin t / (sin t + cos t). Standard library only."""

from __future__ import annotations

from sprint_export.errors import InputError
from sprint_export.students.schedule import Schedule, find_flow_time

MAX_TIMESTEP = 1.57080  # SanaSprintPipeline's default, a hair over pi / 2
INTERMEDIATE_TIMESTEP = 1.3

TBCM_TIMESTEPS, TBCM_GUIDANCE = (1.57080, 1.0), 5.0  # of hustvl/TBCM train_scripts/train_tbcm.py's validation and its config
SCHEDULES = {"tbcm": Schedule(tuple(map(find_flow_time, TBCM_TIMESTEPS)), TBCM_GUIDANCE)}


def trigflow_times(steps: int) -> tuple[float, ...]:
    """Flow times of SanaSprintPipeline's default schedule for 1 to 4 steps.

    Raises:
        InputError: `steps` is not 1 to 4.
    """
    if steps not in (1, 2, 3, 4):
        raise InputError(f"steps={steps}: distilled students take 1 to 4 steps; choose one of 1, 2, 3, 4")
    angles = [MAX_TIMESTEP, INTERMEDIATE_TIMESTEP] if steps == 2 else [MAX_TIMESTEP * (1 - i / steps) for i in range(steps)]
    return tuple(map(find_flow_time, angles))
