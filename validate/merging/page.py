"""Many devices' results as one page: verdict, figures, latency, pictures, what ran, what was not checked."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from sprint_export.errors import BundleError
from sprint_export.runtimes.checking import read_pixels
from sprint_export.sizes import find_sizes
from sprint_export.validate.merging.merge import Merged, list_drawings
from sprint_export.validate.merging.table import WHOLE, Table, find_value, list_facts, list_tables
from sprint_export.validate.page.document import Section, render_document
from sprint_export.validate.page.embedding import Embedded, embed_picture
from sprint_export.validate.page.scatter import Point, Scale, render_scatter
from sprint_export.validate.page.templates import render
from sprint_export.validate.report import format_number

LEADS = {
    "devices": "Drawn from the bundle's own files and compared with what they drew where the bundle was finished.",
    "a whole picture": "By each device's own clock, one after the other; memory is the most that a fresh process held.",
    "networks, p50 / p90 in ms": "Of the same drawings.",
    "pictures of reference/": "PSNR and the largest difference of two pixels' values from the reference's picture.",
}
NOT_COMPARED = "no picture was compared with the reference's"
MOST_PIXELS = 256  # of a shown picture's side; larger ones are shown smaller


def render_page(merged: Merged) -> str:
    """The text of an HTML file that needs nothing else."""
    bundle, count = merged.bundle, len(merged.results)
    title = f"{bundle.folder.resolve().name} on {count} device{'s' * (count != 1)}"
    about = [
        f"{bundle.target}-{bundle.precision} of {bundle.source}; identity {bundle.identity[:16]}",
        _describe_validation(merged),
    ]
    head = render("devices_head.html", title=title, verdict=merged.verdict, counts=_count_verdicts(merged), about=about)
    sections = [
        Section(f"part-{i}", table.title.capitalize(), _render_table(merged, table), LEADS[table.title])
        for i, table in enumerate(list_tables(merged))
    ]
    if plot := _plot(merged):
        sections.insert(2, Section("plot", "Quality and speed", plot))
    facts = [(result.label, list(list_facts(result))) for result in merged.results]
    sections.append(Section("machines", "What ran", render("devices_facts.html", devices=facts), "As the devices say."))
    unchecked = render("devices_unchecked.html", groups=_list_unchecked(merged))
    sections.append(Section("unchecked", "What was not checked", unchecked))
    return render_document(title, head, sections)


def _count_verdicts(merged: Merged) -> dict[str, int]:
    """How many devices have which; one on which no gate was is none of them."""
    judged = [r.report for r in merged.results if any(row.verdict is not None for row in r.report.rows)]
    return {verdict: sum(report.verdict == verdict for report in judged) for verdict in ("met", "not met", "not decided")}


def _describe_validation(merged: Merged) -> str:
    """What the bundle's own report says."""
    if merged.validation is None:
        return "The bundle has no report of a validation beside PyTorch."
    found = next((row for row in merged.validation.rows if row.metric == "psnr_db"), None)
    figure, report = "" if found is None else f", psnr_db {format_number(found.value)}", merged.validation
    return f"Beside PyTorch, {report.prompts} pictures on {report.machine}: {report.verdict}{figure}."


def _render_table(merged: Merged, table: Table) -> Markup:
    pictures = list(_embed_reference(merged)) if table.columns[0] == "prompt" else []
    return render("devices_table.html", table=table, pictures=pictures)


def _embed_reference(merged: Merged) -> Iterator[Embedded]:
    """The reference's own pictures, in the order of the drawings; none where the bundle has no reference, or a damaged one."""
    import numpy as np

    bundle = merged.bundle
    try:
        for drawing in list_drawings(bundle):
            height, width = find_sizes(bundle).pixels
            picture = read_pixels(bundle, drawing, (height, width, 3)).astype(np.uint8)
            step = max(1, -(-max(height, width) // MOST_PIXELS))
            yield embed_picture(np.ascontiguousarray(picture[::step, ::step]))
    except (BundleError, KeyError, TypeError, ValueError):
        return


def _plot(merged: Merged) -> Markup | None:
    """Milliseconds a picture against the worst PSNR, where two devices or more have both."""
    points = [
        Point(
            name=result.label,
            x=find_value(result, "latency_p50_ms", WHOLE),
            y=find_value(result, "reference_psnr_worst_db"),
            note=result.report.runtime,
        )
        for result in merged.results
    ]
    if sum(point.is_drawn for point in points) < 2:
        return None
    return render_scatter(
        points, Scale("ms"), Scale("worst PSNR, dB", is_more_better=True), "Milliseconds a picture, and the worst picture"
    )


def _list_unchecked(merged: Merged) -> list[tuple[str, tuple[str, ...]]]:
    """Sentences with the devices they hold for."""
    found: dict[str, list[str]] = {}
    for result in merged.results:
        for sentence in (*result.report.unchecked, *(() if result.checks else (NOT_COMPARED,))):
            found.setdefault(sentence, []).append(result.label)
    return [(sentence, tuple(labels)) for sentence, labels in found.items()]
