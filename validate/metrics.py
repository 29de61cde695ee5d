"""Every metric a report can have, and when it has it: so that a gate's name is checked before any work. No torch.

A new row of a report needs a line here; tests/validate/test_metrics.py holds the list against the reports of all targets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sprint_export.errors import InputError, unknown_choice
from sprint_export.nouns.target import Target
from sprint_export.students.judge import list_judges

ENGINE, OPENVINO, COREML, COREAI = "onnx+engine", "openvino", "mlpackage", "aimodel"  # formats of targets


@dataclass(frozen=True)
class Metric:
    """A row's name; a name that ends in * stands for all that begin so.

    `formats` are the target formats whose reports can have it, empty for all. `needs` says in words what else it takes.
    """

    name: str
    formats: tuple[str, ...] = ()
    needs: str = ""

    def fits(self, name: str) -> bool:
        """Whether a row of this name is one of this metric's."""
        return name.startswith(self.name[:-1]) and len(name) >= len(self.name) if self.name.endswith("*") else name == self.name


SEARCHED = "a recipe that was searched (--recipe auto)"
SMALL = "pictures of up to 128 px"
ON_A_MAC = "a Mac that runs it"

METRICS = (
    *map(Metric, ("psnr_db", "psnr_worst_db", "ssim", "converter_image_psnr_db", "recipe_image_psnr_db")),
    *map(Metric, ("converter_psnr_db", "converter_relative_error", "denoised_relative_error", "quantized_share", "disk_mb")),
    *map(Metric, ("latency_p50_ms", "latency_p90_ms", "pytorch_latency_p50_ms", "pytorch_latency_p90_ms")),
    *(Metric(name, needs=SEARCHED) for name in ("searched_psnr_db", "recipe_cost")),
    *(Metric(name, (ENGINE,)) for name in ("engine_mb", "kernels", "priced_ms", "moved_mb", "gflop", "fused_attention")),
    Metric("kernels_*", (ENGINE, OPENVINO)),
    Metric("load_s", (OPENVINO, COREML)),
    *(Metric(name, (COREML,)) for name in ("infinities", "nans", "largest_magnitude")),
    Metric("departures", (COREML,), SMALL),
    *(Metric(name, (COREML,)) for name in ("ne_rank_above_4", "ne_long_axis", "ne_float32", "ne_on_cpu", "transposes")),
    Metric("largest_weight_file_mb", (COREML,)),
    Metric("ops_on_*", (COREML,), ON_A_MAC),
)


def list_metrics() -> tuple[Metric, ...]:
    """METRICS, and those of the judges."""
    return (*METRICS, *(Metric(name, needs=judge.needs) for judge in list_judges() for name in judge.metrics))


def find_metric(name: str) -> Metric | None:
    """The declared metric that a row's name belongs to, or None."""
    return next((metric for metric in list_metrics() if metric.fits(name)), None)


def check_metrics(names: Iterable[str], target: Target, is_searched: bool = False) -> None:
    """Refuse gates on rows that no report of this target has, before any work.

    Raises:
        InputError: no report has such a row, or none of this target's; the message names those that can be asked for.
    """
    fitting = [m for m in list_metrics() if not m.formats or target.format in m.formats]
    possible = [m for m in fitting if m.needs != SEARCHED or is_searched]
    for name in names:
        metric = find_metric(name)
        if metric is None:
            raise unknown_choice("gate metric", name, (m.name for m in possible))
        if metric not in possible:
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
