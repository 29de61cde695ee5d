"""comparison.html: the ranked table, what each entry is from the best, Pareto plots, and pictures prompt by prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from markupsafe import Markup

from sprint_export.nouns.report import Measurement, PictureRow
from sprint_export.validate.comparing.comparison import Comparison, EntryResult
from sprint_export.validate.comparing.figures import LATENCY, PSNR, SIZE
from sprint_export.validate.comparing.table import list_columns, name_difference
from sprint_export.validate.page.document import Section, render_document
from sprint_export.validate.page.scatter import Point, Scale, render_scatter
from sprint_export.validate.page.templates import render, show_number
from sprint_export.validate.page.tiles import Tile, rank_rows, render_tiles
from sprint_export.validate.rows import Rows, take_row

REFERENCE = "PyTorch float32"
LEAST = "least PSNR, dB"  # of the entries' pictures of a prompt, those that show nothing left out
QUALITY = Scale("PSNR, dB", is_more_better=True)
MOST_FAULTS = 6  # places in a sentence
PAIRED = (
    "This entry minus the best, picture by picture; latency ratio: its seconds over the best's, geometric mean over pairs drawn "
    "in turn; of judges: the best's pictures as the reference, which gets right what this entry does not."
)
TONES = {"met": "met", "not met": "not-met", "not decided": "not-decided"}


@dataclass(frozen=True)
class Cell:
    """One of a table: `sure` stands beside it small, `tone` is a verdict's class."""

    text: str
    is_value: bool = False
    sure: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Row:
    """Of a table: its name with a note, then the cells."""

    name: str
    note: str
    cells: tuple[Cell, ...]


def render_page(comparison: Comparison, reference: Rows, pictures: Mapping[str, Rows]) -> str:
    """The text of comparison.html.

    Args:
        comparison: what was found.
        reference: pictures uint8 [B, H, W, 3].
        pictures: likewise, by the entry's name.
    """
    entries, prompts = comparison.entries, len(comparison.prompts)
    title = f"{len(entries)} entries on {prompts} prompt{'s' if prompts > 1 else ''}"
    best = entries[0]
    said = f"Best by {name_difference(comparison.ranked_by)}: {best.name}" + (
        ", though it has blank pictures" if best.faults else ""
    )
    flagged = [describe_faults(each) for each in entries if each.faults]
    head = render("comparison_head.html", title=title, best=said, machine=comparison.machine, flagged=flagged)
    lead = (
        f"Against stock PyTorch in float32 of {comparison.student}: same prompts, same noise, {comparison.steps} "
        f"step{'s' if comparison.steps > 1 else ''}. Intervals hold at 95 %."
    )
    sections = [
        Section("ranking", "Ranking", _render_ranking(comparison), lead),
        Section("pareto", "Quality, latency, size", _render_plots(entries)),
        Section(
            "best",
            f"Each entry from {best.name}",
            _render_distances(entries),
            "Paired: the same prompts and noise on both sides.",
        ),
        Section("pictures", "Pictures", _render_pictures(comparison, reference, pictures)),
        Section("made", "How this was made", _render_making(comparison)),
    ]
    return render_document(f"Comparison: {title}", head, [section for section in sections if section.body])


def describe_faults(entry: EntryResult) -> str:
    """What is wrong with an entry's pictures, in a sentence."""
    kinds = {fault.kind: [each.place for each in entry.faults if each.kind == fault.kind] for fault in entry.faults}
    told = []
    for kind, places in kinds.items():
        more = f" and {len(places) - MOST_FAULTS} more" if len(places) > MOST_FAULTS else ""
        told.append(f"{kind} at {', '.join(map(str, places[:MOST_FAULTS]))}{more}")
    return f"{entry.name}: {len(entry.faults)} flagged; {'; '.join(told)}. First: {entry.faults[0].note}"


def _render_ranking(comparison: Comparison) -> Markup:
    columns = list_columns(comparison)
    rows = []
    for each in comparison.entries:
        figures = tuple(show_row(each.find(metric)) for metric, _ in columns)
        blank = f", {len(each.faults)} blank" if each.faults else ""
        front = Cell("on it" if each.is_on_front else "")
        cells = (Cell(f"{each.verdict}{blank}", tone=TONES.get(each.verdict, "")), *figures, front)
        rows.append(Row(f"{each.rank}. {each.name}", f"{each.kind}; {each.description}", cells))
    titles = [("entry", False), ("verdict", False), *((title, True) for _, title in columns), ("front", False)]
    caption = "Front: no other entry is as good in PSNR, latency and size together and better in one of them."
    return render("comparison_table.html", columns=titles, rows=rows, caption=caption)


def show_row(row: Measurement | None) -> Cell:
    """A measured value with its interval."""
    if row is None:
        return Cell("\u2013", is_value=True)
    sure = "" if row.interval is None else f"{show_number(row.interval[0])} to {show_number(row.interval[1])}"
    return Cell(show_number(row.value), is_value=True, sure=sure)


def _render_distances(entries: tuple[EntryResult, ...]) -> Markup:
    """A row an entry, a column a metric, of paired differences; nothing of a single entry."""
    others = [each for each in entries if each.against_best]
    units = {row.metric: row.unit for each in others for row in each.against_best}
    rows = []
    for each in others:
        found = {row.metric: row for row in each.against_best}
        cells = tuple(show_row(found.get(metric)) for metric in units)
        rows.append(Row(each.name, each.description, cells))
    titles = [(name_difference(metric), unit) for metric, unit in units.items()]
    columns = [("entry", False), *((f"{name}, {unit}" if unit and unit not in name else name, True) for name, unit in titles)]
    return render("comparison_table.html", columns=columns, rows=rows, caption=PAIRED) if rows else Markup("")


def _render_plots(entries: tuple[EntryResult, ...]) -> Markup:
    """Quality over latency and over size; entries with blank pictures are listed, not drawn."""
    plots = []
    for metric, scale, title in (
        (LATENCY, Scale("ms a picture, p50"), "Quality and latency"),
        (SIZE, Scale("MB on disk"), "Quality and size"),
    ):
        points = [_place(each, metric) for each in entries]
        if any(point.is_drawn for point in points):
            plots.append(render_scatter(points, scale, QUALITY, title))
    return Markup("").join(plots)


def _place(entry: EntryResult, metric: str) -> Point:
    x, y = entry.find(metric), entry.find(PSNR)
    if entry.faults or x is None or y is None:
        note = "blank pictures: not drawn" if entry.faults else ""
        return Point(entry.name, None if x is None else x.value, None, entry.kind, note=note)
    note = "" if entry.is_measured else "as its file says"
    return Point(entry.name, x.value, y.value, entry.kind, x.interval, y.interval, note)


def _render_pictures(comparison: Comparison, reference: Rows, pictures: Mapping[str, Rows]) -> Markup:
    entries = comparison.entries
    faults = {(each.name, fault.place): fault.kind for each in entries for fault in each.faults}
    flips = {each.name: set(each.flipped) for each in entries}
    rows = []
    for place, prompt in enumerate(comparison.prompts):
        figures = {each.name: each.figures[PSNR][place] for each in entries}
        shown = [value for name, value in figures.items() if (name, place) not in faults] or list(figures.values())
        flipped = tuple(each.name for each in entries if place in flips[each.name] and (each.name, place) not in faults)
        rows.append(PictureRow(place, prompt, {LEAST: min(shown), **{f"PSNR {name}": v for name, v in figures.items()}}, flipped))

    def make_tiles() -> Iterator[Tile]:
        for place in rank_rows(rows):
            shots = {REFERENCE: take_row(reference, place)}
            for each in entries:
                kind = faults.get((each.name, place))
                shots[each.name + (f" ({kind})" if kind else "")] = take_row(pictures[each.name], place)
            yield Tile(rows[place], comparison.seed + place, shots)

    caption = f"{REFERENCE} first, then the entries, best first."
    return Markup('<div class="many">') + render_tiles(make_tiles(), len(rows), caption) + Markup("</div>")


def _render_making(comparison: Comparison) -> Markup:
    row = next((found for each in comparison.entries if each.is_measured and (found := each.find(LATENCY))), None)
    measured = (
        f"Latency: the median of one picture a prompt, after one to warm up; {row.note if row else 'measured of no entry'}."
    )
    seeds = f"Noise: prompt i has seed {comparison.seed} + i."
    folders = [f"{each.name}: {each.folder}" for each in comparison.entries]
    return render("comparison_points.html", sentences=[measured, seeds, *comparison.unchecked, *folders])
