"""SmoothQuant: move outlier channels from activations, which share one scale, into weights (arXiv 2211.10438).

    y = W x = (W diag(s)) (x / s)        s_j = max|x_j|^a / max|W_j|^(1 - a)        a = the recipe's `smooth`
x / s costs nothing where the layer before can write it: its rows, or a norm's gain, are divided by s instead. Which places these
are is the family's business (nouns.student.Migration); all readers of a tensor get one s, so that they still share one Q/DQ. s is
divided by its median and rounded to a power of two, so a typical channel keeps its magnitude and the rewrite is exact to the bit.

A few prompts show the channels that are always large, and not how large the rare ones become: those would be left with a small s,
and cut off when they come. So below ENOUGH prompts s has a floor, the factor that TYPICAL of the channels stay below: outliers
are divided as ever, and the others alike (docs/decisions/0029-calibration-prompts.md).
Not covered: places without a linear producer (behind SiLU, or an affine-free norm), where x / s would be one more operation.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

import torch

from sprint_export.errors import InputError
from sprint_export.nouns.student import Component, Migration
from sprint_export.progress import Progress, Step, quiet, track
from sprint_export.quantize.measure.records import Record
from sprint_export.quantize.mend.edits import list_channels, scale_channels
from sprint_export.quantize.scales import find_largest

MAX_OCTAVES = 12  # of a channel's factor, up or down: a dead channel is not blown up without bound
ENOUGH = 16  # prompts; from as many a floor costs 0.3 to 0.6 dB, from 8 it gains 0.6 to 1
TYPICAL = 0.9  # of the channels; outliers are one in a hundred (the paper's section 3)


def check_smooth(alpha: float) -> None:
    """Refuse an alpha outside [0, 1).

    Raises:
        InputError: it is.
    """
    if not 0 <= alpha < 1:
        raise InputError(f"smooth={alpha}: expected 0 (off) to below 1; 0.5 shares an outlier evenly between input and weight")


def smooth_component(
    component: Component,
    migrations: Sequence[Migration],
    records: Mapping[str, Record],
    alpha: float,
    quantized: Container[str],
    prompts: int = ENOUGH,
    progress: Progress = quiet,
) -> tuple[Component, dict[str, torch.Tensor]]:
    """Scale channels wherever that helps an input that is rounded.

    Args:
        component: specialized.
        migrations: of the family; those whose consumers' inputs all stay float are left out.
        records: by layer name.
        alpha: in (0, 1): 0 leaves outliers in the input, 1 moves all of them.
        quantized: layers whose inputs are rounded.
        prompts: how many the records are of.
        progress: is told (step, done, total).

    Returns:
        The component with edited weights, and by layer name what its input's channels are divided by, float32 [C].
    """
    divisors: dict[str, torch.Tensor] = {}
    for migration in track(migrations, Step("smoothing", component.role), progress):
        if not any(layer in quantized for layer in migration.consumers):
            continue
        factors = _choose_factors(component, migration, records[migration.consumers[0]].amax, alpha, prompts)
        component = scale_channels(component, migration, 1 / factors)
        read = factors[list_channels(migration, len(factors))]
        divisors |= dict.fromkeys(migration.consumers, read)
    return component, divisors


def _choose_factors(component: Component, migration: Migration, seen: torch.Tensor, alpha: float, prompts: int) -> torch.Tensor:
    """s float32 [producer channels]; 1 where nothing reads a channel or it is always zero."""
    weighed = torch.stack([_column_amax(component, layer) for layer in migration.consumers]).amax(0)
    size = component.weights[migration.producers[0]].shape[0]
    place = list_channels(migration, size)
    made = torch.zeros(size).scatter_reduce(0, place, seen, "amax")
    weight = torch.zeros(size).scatter_reduce(0, place, weighed, "amax")
    is_used = (made > 0) & (weight > 0)
    octaves = alpha * made.log2() - (1 - alpha) * weight.log2()
    if not is_used.any():
        return torch.ones(size)
    if prompts < ENOUGH:
        octaves = octaves.clamp_min(octaves[is_used].quantile(TYPICAL, interpolation="lower"))
    octaves = (octaves - octaves[is_used].median()).round().clamp(-MAX_OCTAVES, MAX_OCTAVES)
    return torch.where(is_used, octaves, 0.0).exp2()


def _column_amax(component: Component, layer: str) -> torch.Tensor:
    weight = component.weights[f"{layer}.weight"].load()
    return find_largest(weight, (0, *range(2, weight.ndim)))
