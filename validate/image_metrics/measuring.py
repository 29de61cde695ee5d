"""Which metrics a validation measures beside those of every report, and what they give: rows, a figure a picture, sentences.

A metric is asked for by its name (--metrics) or by a gate on one of its rows. What cannot be measured here is said in a sentence,
never left out in silence; where a gate asks for it, it is refused before anything is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sprint_export.compute import CPU, Compute
from sprint_export.errors import InputError, MachineError, unknown_choice
from sprint_export.nouns.report import Measurement, Metric
from sprint_export.progress import Progress, Step, quiet
from sprint_export.registry import list_members
from sprint_export.validate.confidence.decisions import CONFIDENCE
from sprint_export.validate.confidence.evidence import Evidence, Loss, Mean, Share
from sprint_export.validate.confidence.jackknife import jackknife_interval
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
from sprint_export.validate.prompt_sets.prompt_set import PromptSet
from sprint_export.validate.sampled import Sampled
from sprint_export.validate.scorers.command import ScorerCommand, read_scorers
from sprint_export.validate.scorers.scorer import Scorer

if TYPE_CHECKING:
    from sprint_export.validate.image_metrics.metric import Float64
    from sprint_export.validate.rows import Rows

Interval = tuple[float, float] | None


@dataclass(frozen=True)
class MetricChoice:
    """What a validation is asked to measure of its pictures.

    Args:
        names: of metrics, beside those that every report has.
        weights: a folder of the user's with the metrics' weights.
        scorers: processes that score pictures.
    """

    names: Sequence[str] = ()
    weights: Path | None = None
    scorers: Sequence[ScorerCommand] = ()


@dataclass
class Measured:
    """What became of it.

    Args:
        scores: what each row is made of.
        rows: of a report, with intervals at 95 %.
        figures: float64 [B] by row: a picture's own, for rows that are not of the whole set.
        unchecked: a sentence for each metric that could not be measured.
    """

    scores: list[Scores] = field(default_factory=list)
    rows: list[Measurement] = field(default_factory=list)
    figures: dict[str, Float64] = field(default_factory=dict)
    unchecked: list[str] = field(default_factory=list)

    @property
    def samples(self) -> list[Sampled]:
        """Of rows that are not of the whole set: what they stand on."""
        return [sample_scores(each) for each in self.scores if each.kind != "set"]

    def list_sets(self, confidence: float = CONFIDENCE) -> list[Measurement]:
        """The other rows."""
        return [make_set_row(each, confidence) for each in self.scores if each.kind == "set"]


def declare_metrics(choice: MetricChoice | None = None) -> list[Metric]:
    """The rows of all image metrics that not every report has, and of the scorers, for the list of what a gate may be on."""
    optional = [metric for metric in list_image_metrics() if not metric.is_always]
    scorers = [Scorer(command) for command in (choice.scorers if choice else ())]
    return [row for metric in (*optional, *scorers) for row in declare_rows(metric)]


def choose_metrics(choice: MetricChoice, gated: Iterable[str] = ()) -> tuple[ImageMetric, ...]:
    """The metrics that are asked for by name, those with rows that gates speak about, each once, and the scorers.

    Args:
        choice: what was asked for.
        gated: names of rows.

    Raises:
        InputError: there is no such metric, or the folder of weights is none. MachineError: a gate asks for one that cannot be
            measured here.
    """
    names = list(read_choice(choice.names, choice.weights, choice.scorers).names)
    rows, setting = set(gated), Setting(choice.weights)
    for metric in list_image_metrics():
        if asked := sorted(rows.intersection(metric.rows)):
            if (fault := metric.find_fault(setting)) is not None:
                raise MachineError(f"gate metric {asked[0]!r}: {fault}")
            names.append(metric.name)
    chosen = [load_image_metric(name) for name in dict.fromkeys(names)]
    return (*(metric for metric in chosen if not metric.is_always), *map(Scorer, choice.scorers))


def list_faults(metrics: Iterable[ImageMetric], weights: Path | None) -> list[str]:
    """A sentence on each of the metrics that cannot be measured here, as it will stand in the report."""
    faults = ((metric.name, metric.find_fault(Setting(weights))) for metric in metrics)
    return [f"{name}: {fault}" for name, fault in faults if fault is not None]


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


def pair_pictures(prompts: Sequence[str], exported: Rows, reference: Rows) -> Comparison:
    """Pictures uint8 [B, H, W, 3] of both sides with their prompts, and with what a PromptSet has beside these."""
    if not isinstance(prompts, PromptSet):
        return Comparison(exported, reference, prompts)
    return Comparison(exported, reference, prompts, prompts.originals, prompts.scenes, prompts.questions)


def check_gated(measured: Measured, gated: Iterable[str], metrics: Sequence[ImageMetric]) -> None:
    """Say why a row that a gate speaks about is not there, where its metric could not be measured.

    Raises:
        MachineError: there is such a gate; what was drawn is kept.
    """
    there = {row.metric for row in measured.rows}
    for name in gated:
        metric = next((each for each in metrics if any(row.fits(name) for row in declare_rows(each))), None)
        if metric is not None and name not in there:
            said = [sentence for sentence in measured.unchecked if sentence.startswith(f"{metric.name}: ")]
            why = said[0] if said else f"{metric.name} gave {', '.join(sorted(there)) or 'nothing'}"
            raise MachineError(
                f"gate metric {name!r} could not be measured: {why}. The pictures are kept; the same command goes on"
            )


def declare_rows(metric: ImageMetric) -> tuple[Metric, ...]:
    """The rows of a metric, as gates name them."""
    if isinstance(metric, Scorer):
        return metric.declare()
    return tuple(Metric(row, needs=f"--metrics {metric.name}") for row in metric.rows)


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
    measured.scores += scores
    for each in scores:
        measured.rows.append(make_row(each, find_interval))
        if each.kind != "set":
            measured.figures[each.row] = each.values


def make_row(scores: Scores, find_interval: Callable[[Float64], Interval]) -> Measurement:
    """The row of a report: the mean or rate with its interval, or the value of the set."""
    if scores.kind == "set":
        return make_set_row(scores)
    row = sample_scores(scores).as_row()
    return replace(row, interval=find_interval(_drop_nan(scores.values))) if scores.kind == "mean" else row


def make_set_row(scores: Scores, confidence: float = CONFIDENCE) -> Measurement:
    """The row of a value of the whole set, with its interval."""
    value = float(scores.values[0])
    interval = jackknife_interval(value, scores.without, confidence)
    return Measurement(scores.row, value, scores.unit, note=scores.note, interval=interval)


def sample_scores(scores: Scores) -> Sampled:
    """What a mean, a rate or the difference of two rates stands on; pictures that have no value are left out."""
    values, note = _drop_nan(scores.values), f"{scores.note.replace('{', '(').replace('}', ')')}; mean over {{}}"
    right, wrong, count = int((values > 0).sum()), int((values < 0).sum()), len(values)
    evidence: Evidence = Mean(values)
    if scores.kind == "rate":
        evidence = Share(right, count)
    elif scores.kind == "loss":
        evidence = Loss(right, wrong, count)
    return Sampled(scores.row, scores.unit, note, evidence, scores.values)


def _drop_nan(values: Float64) -> Float64:
    found: Float64 = values[values == values]
    return found


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


def read_choice(
    metrics: str | Sequence[str] | None = None, weights: Path | None = None, scorers: Sequence[str | ScorerCommand] | None = None
) -> MetricChoice:
    """What the options --metrics, --metric-weights and --scorer ask for.

    Raises:
        InputError: there is no such metric, the folder is none, or a scorer is misspelt, not here, or named like a metric's row.
    """
    names, commands = read_metric_names(metrics), read_scorers(scorers or ())
    taken = {row for metric in list_image_metrics() for row in (metric.name, *metric.rows)}
    for command in commands:
        if command.name in taken:
            raise InputError(f"--scorer {command.name}=...: a metric of this package has that name; choose another")
    for name in names:
        if name not in list_members("metric"):
            raise unknown_choice("metric", name, list_members("metric"))
    check_weight_folder(weights)
    return MetricChoice(names, weights, commands)
