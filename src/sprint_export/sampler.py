"""One sampler for flow students, in flow time s in (0, 1], 1 = noise; which times is the family's business.

    start  x = s_0 eps, or eps itself where the student was trained to start from there (StepPlan.starts_from_noise),
           or, from a clean state z of a given picture, x = (1 - s_0) z + s_0 eps
    step   x0 = x - s_i v(x, s_i);  next  x = (1 - s_{i+1}) x0 + s_{i+1} eps'

TrigFlow with time t is the same with s = sin t / (sin t + cos t); sigma_data cancels. One step is x0 = eps - v. Noise has unit
variance everywhere in this package.
Source: arXiv 2503.09641 section 3; derivation checked against diffusers' SCMScheduler in tests/test_sampler.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def sample(
    denoise: Callable[[Any, int], Any],
    noise: Sequence[Any],
    times: Sequence[float],
    starts_from_noise: bool = False,
    start: Any = None,
) -> Any:
    """Run the steps.

    Args:
        denoise: (x, step index) -> x0, both [B, ...]; numpy arrays or torch tensors alike.
        noise: one unit-variance array per step.
        times: flow times, noise first.
        starts_from_noise: whether the first x is eps and not s_0 eps; they differ where s_0 is not 1.
        start: a state without noise to start from; None: noise alone.

    Returns:
        The last x0.
    """
    if start is not None:
        x = (1 - times[0]) * start + times[0] * noise[0]
    else:
        x = noise[0] if starts_from_noise else noise[0] * times[0]
    for step, _ in enumerate(times):
        x0 = denoise(x, step)
        if step + 1 < len(times):
            x = (1 - times[step + 1]) * x0 + times[step + 1] * noise[step + 1]
    return x0
