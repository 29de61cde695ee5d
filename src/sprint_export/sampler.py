"""One sampler for SANA-Sprint, TBCM and TwinFlow, in flow time s in (0, 1], 1 = noise.

    start  x = s_0 eps
    step   x0 = x - s_i v(x, s_i);  next  x = (1 - s_{i+1}) x0 + s_{i+1} eps'

TrigFlow (SANA-Sprint, TBCM; diffusers SCMScheduler) with time t is the same with s = sin t / (sin t + cos t); sigma_data
cancels. One step is x0 = eps - v. Noise has unit variance everywhere in this package.
Source: arXiv 2503.09641 section 3; derivation checked against SCMScheduler in tests/test_sampler.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from sprint_export.errors import InputError

MAX_TIMESTEP = 1.57080  # SanaSprintPipeline's default, a hair over pi / 2
INTERMEDIATE_TIMESTEP = 1.3


def trigflow_times(steps: int) -> tuple[float, ...]:
    """Flow times of SanaSprintPipeline's default schedule for 1 to 4 steps.

    Raises:
        InputError: `steps` is not 1 to 4.
    """
    if steps not in (1, 2, 3, 4):
        raise InputError(f"steps={steps}: distilled students take 1 to 4 steps; choose one of 1, 2, 3, 4")
    angles = [MAX_TIMESTEP, INTERMEDIATE_TIMESTEP] if steps == 2 else [MAX_TIMESTEP * (1 - i / steps) for i in range(steps)]
    return tuple(math.sin(t) / (math.sin(t) + math.cos(t)) for t in angles)


def sample(denoise: Callable[[Any, int], Any], noise: Sequence[Any], times: Sequence[float]) -> Any:
    """Run the steps.

    Args:
        denoise: (x, step index) -> x0, both [B, C, h, w]; numpy arrays or torch tensors alike.
        noise: one unit-variance array per step.
        times: flow times, noise first.

    Returns:
        The last x0.
    """
    x = noise[0] * times[0]
    for step, _ in enumerate(times):
        x0 = denoise(x, step)
        if step + 1 < len(times):
            x = (1 - times[step + 1]) * x0 + times[step + 1] * noise[step + 1]
    return x0
