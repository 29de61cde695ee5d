"""Bias correction: the mean of a layer's rounding error is a constant, and a bias can take it out.

    b' = b - E[W_q x_q - W x] = b - (W_q - W) E[x]        summed over a convolution's kernel
W_q is what the exported graph multiplies by, E[x] the mean input of each channel over the calibration rows. The input's own
rounding is taken to be right on average (E[x_q] = E[x]): true within its range, not of what is clipped. At a picture's border,
where a kernel meets zeros, the correction is as large as inside and so a little too large. Source: arXiv 1906.04721 section 4.2.
Not covered: layers without a bias; a bias of their own would be one more operation. Weights that GPTQ replaced
(quantize/mend/fit.py) are what W is here, so their rounding is not seen.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from sprint_export.nouns.student import Component
from sprint_export.progress import Progress, Step, quiet, track
from sprint_export.quantize.scales import find_error


def correct_biases(
    component: Component, means: Mapping[str, torch.Tensor], progress: Progress = quiet
) -> dict[str, torch.Tensor]:
    """What to add to the biases of quantized layers, as edits; one weight is in memory at a time.

    Args:
        component: quantized, and smoothed where it will be.
        means: by layer name, the mean of each input channel as this component computes it, float64 [C].
        progress: is told (step, done, total).
    """
    edits = {}
    for name, layer in track(component.layers.items(), Step("correcting biases", component.role), progress):
        if f"{name}.bias" not in component.weights or name not in means:
            continue
        weight = component.weights[f"{name}.weight"].load().float()
        error = find_error(weight, layer).reshape(*weight.shape[:2], -1).sum(2, dtype=torch.float64)
        groups = getattr(component.module.get_submodule(name), "groups", 1)
        mean = means[name].reshape(groups, 1, -1)
        shift = (error.unflatten(0, (groups, -1)) * mean).sum(2).flatten()
        edits[f"{name}.bias/added"] = -shift.float()
    return edits
