"""Every metric a report can have, and when it has it: so that a gate's name is checked before any work. No torch.

What only one target can measure it declares itself (Target.metrics); another row needs a line here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sprint_export.errors import InputError, unknown_choice
from sprint_export.nouns.report import Metric
from sprint_export.nouns.target import Target
from sprint_export.registry import list_members, load_target
from sprint_export.students.judge import list_judges
from sprint_export.validate.image_metrics.measuring import MetricChoice, declare_metrics

ON_PROVIDER = "a runtime's provider other than the CPU's (--provider)"
INSIDE = "a runtime that shows values inside networks"
READ = "a format whose weights can be read here"
UNPAID_DROPPED = "layers that were left in float because they do not pay (--drop-unpaid)"
SEARCHED = "a recipe that was searched (--recipe auto)"

METRICS = (
    *map(Metric, ("psnr_db", "psnr_worst_db", "ssim", "converter_image_psnr_db", "recipe_image_psnr_db")),
    *map(Metric, ("converter_psnr_db", "converter_relative_error", "denoised_relative_error", "quantized_share", "disk_mb")),
    *map(Metric, ("silent_rules", "planned_mb", "own_decoder_psnr_db", "differing_ids_percent")),
    Metric("departing_blocks", needs=INSIDE),
    Metric("differing_layers", needs=READ),
    *map(Metric, ("latency_p50_ms", "latency_p90_ms", "pytorch_latency_p50_ms", "pytorch_latency_p90_ms")),
    Metric("nodes_on_cpu", needs=ON_PROVIDER),
    Metric("unpaid_layers", needs=UNPAID_DROPPED),
    *(Metric(name, needs=SEARCHED) for name in ("searched_psnr_db", "recipe_cost")),
)


def list_metrics() -> list[Metric]:
    """All that any report can have: of every target, and of each target's own."""
    return [*_list_common(), *(metric for name in list_members("target") for metric in load_target(name).metrics)]


def _list_common(choice: MetricChoice | None = None) -> list[Metric]:
    """What a report of every target can have: METRICS, those of the judges, of image metrics and of the scorers asked for."""
    judged = (Metric(name, needs=judge.needs) for judge in list_judges() for name in judge.metrics)
    return [*METRICS, *judged, *declare_metrics(choice)]


def find_metric(name: str) -> Metric | None:
    """The declared metric that a row's name belongs to, or None."""
    return next((metric for metric in list_metrics() if metric.fits(name)), None)


def check_metrics(names: Iterable[str], target: Target, is_searched: bool = False, choice: MetricChoice | None = None) -> None:
    """Refuse gates on rows that no report of this target has, before any work; `choice` names the scorers beside it.

    Raises:
        InputError: no report has such a row, or none of this target's; the message names those that can be asked for.
    """
    possible = [metric for metric in (*_list_common(choice), *target.metrics) if metric.needs != SEARCHED or is_searched]
    for name in names:
        if any(metric.fits(name) for metric in possible):
            continue
        metric = find_metric(name)
        if metric is None:
            raise unknown_choice("gate metric", name, (m.name for m in possible))
        why = f"it takes {metric.needs}" if metric.needs == SEARCHED else f"{target.name} bundles have no such row"
        listed = ", ".join(sorted(m.name for m in possible))
        raise InputError(f"gate metric {name!r}: {why}; choose from: {listed}")


def check_judged(names: Iterable[str], prompts: Sequence[str], side: int | None = None) -> None:
    """Refuse gates on what a judge measures where it does not know the prompts, or pictures of this side in pixels.

    Raises:
        InputError: one is asked for.
    """
    for judge in list_judges():
        judged = [name for name in names if name in judge.metrics]
        if judged and not judge.knows(prompts, side):
            raise InputError(f"gate metric {judged[0]!r}: it takes {judge.needs}; leave the gate out, or give such --prompts")
