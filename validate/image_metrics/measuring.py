"""Which metrics a validation measures beside those of every report, and what they give: rows, a figure a picture, sentences.

A metric is asked for by its name (--metrics) or by a gate on one of its rows. What cannot be measured here is said in a sentence,
never left out in silence; where a gate asks for it, it is refused before anything is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sprint_export.compute import CPU, Compute
from sprint_export.errors import InputError, MachineError, unknown_choice
from sprint_export.nouns.report import Measurement, Metric
from sprint_export.progress import Progress, Step, quiet
from sprint_export.registry import list_members
from sprint_export.validate.image_metrics.metric import (
    Comparison,
    ImageMetric,
    Scores,
    Setting,
    UnmeasuredError,
    list_image_metrics,
    load_image_metric,
)
from sprint_export.validate.image_metrics.weight_files import check_weight_folder

if TYPE_CHECKING:
    from sprint_export.validate.image_metrics.metric import Float64

Interval = tuple[float, float] | None


@dataclass(frozen=True)
class MetricChoice:
    """What a validation is asked to measure of its pictures.

    Args:
        names: of metrics, beside those that every report has.
        weights: a folder of the user's with the metrics' weights.
    """

    names: Sequence[str] = ()
    weights: Path | None = None


@dataclass
class Measured:
    """What became of it.

    Args:
        rows: of a report.
        figures: float64 [B] by row: a picture's own, for rows that are a mean over pictures.
        unchecked: a sentence for each metric that could not be measured.
    """

    rows: list[Measurement] = field(default_factory=list)
    figures: dict[str, Float64] = field(default_factory=dict)
    unchecked: list[str] = field(default_factory=list)


def declare_metrics() -> list[Metric]:
    """The rows of all image metrics that not every report has, for the list of what a gate may be on."""
    optional = [metric for metric in list_image_metrics() if not metric.is_always]
    return [Metric(row, needs=f"--metrics {metric.name}") for metric in optional for row in metric.rows]


def choose_metrics(choice: MetricChoice, gated: Iterable[str] = ()) -> tuple[ImageMetric, ...]:
    """The metrics that are asked for by name, and those with rows that gates speak about; each once.

    Args:
        choice: what was asked for.
        gated: names of rows.

    Raises:
        InputError: there is no such metric, or the folder of weights is none. MachineError: a gate asks for one that cannot be
            measured here.
    """
    check_weight_folder(choice.weights)
    names = [name.strip() for name in choice.names if name.strip()]
    known = list_members("metric")
    for name in names:
        if name not in known:
            raise unknown_choice("metric", name, known)
    rows, setting = set(gated), Setting(choice.weights)
    for metric in list_image_metrics():
        if asked := sorted(rows.intersection(metric.rows)):
            if (fault := metric.find_fault(setting)) is not None:
                raise MachineError(f"gate metric {asked[0]!r}: {fault}")
            names.append(metric.name)
    chosen = [load_image_metric(name) for name in dict.fromkeys(names)]
    return tuple(metric for metric in chosen if not metric.is_always)


def measure_pictures(
    metrics: Sequence[ImageMetric],
    comparison: Comparison,
    find_interval: Callable[[Float64], Interval],
    weights: Path | None = None,
    compute: Compute = CPU,
    progress: Progress = quiet,
) -> Measured:
    """Measure each of the metrics on the pictures of a comparison.

    Args:
        metrics: as `choose_metrics` gives them.
        comparison: the pictures.
        find_interval: where the mean of such values [B] lies with 95 % confidence.
        weights: a folder of the user's.
        compute: where networks run.
        progress: is told of each metric.
    """
    measured, setting = Measured(), Setting(weights, compute)
    for i, metric in enumerate(metrics):
        progress(Step("measuring", metric.name), i, len(metrics))
        _measure(metric, comparison, setting, measured, find_interval)
    if metrics:
        progress(Step("measuring", metrics[-1].name), len(metrics), len(metrics))
    return measured


def _measure(
    metric: ImageMetric,
    comparison: Comparison,
    setting: Setting,
    measured: Measured,
    find_interval: Callable[[Float64], Interval],
) -> None:
    """Add the metric's rows and figures, or the sentence that says why it has none."""
    fault = metric.find_fault(setting)
    try:
        scores = metric.measure(comparison, setting) if fault is None else []
    except UnmeasuredError as error:
        fault, scores = str(error), []
    if fault is not None:
        measured.unchecked.append(f"{metric.name}: {fault}")
    for each in scores:
        measured.rows.append(make_row(each, find_interval))
        if not each.is_of_set:
            measured.figures[each.row] = each.values


def make_row(scores: Scores, find_interval: Callable[[Float64], Interval]) -> Measurement:
    """The row of a report: the mean with its interval, or the value of the set."""
    if scores.is_of_set:
        return Measurement(scores.row, float(scores.values[0]), scores.unit, note=scores.note)
    values = scores.values[scores.values == scores.values]  # without nan: a picture that has none
    note = f"{scores.note}; mean over {len(values)} picture{'s' if len(values) != 1 else ''}"
    return Measurement(scores.row, float(values.mean()), scores.unit, note=note, interval=find_interval(values))


def figures_of(measured: Mapping[str, Float64], place: int) -> dict[str, float]:
    """A picture's own figures, by row; without those that it has none of."""
    return {row: float(values[place]) for row, values in measured.items() if values[place] == values[place]}


def read_metric_names(text: str | Sequence[str] | None) -> tuple[str, ...]:
    """Names of `lpips,clip_score`; a sequence is taken as it is.

    Raises:
        InputError: there is no name in it.
    """
    if text is None:
        return ()
    names = tuple(part.strip() for part in (text.split(",") if isinstance(text, str) else text))
    if not all(names):
        raise InputError(
            f"metrics={text!r}: expected names with commas between them; choose from: {', '.join(list_members('metric'))}"
        )
    return names
