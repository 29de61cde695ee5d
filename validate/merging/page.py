"""Many devices' results as one page: verdict, figures, latency, pictures, what ran, what was not checked."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from sprint_export.errors import BundleError, InputError
from sprint_export.runtimes.checking import read_further, read_pixels, read_reference
from sprint_export.validate.merging.merge import Merged
from sprint_export.validate.merging.table import WHOLE, Table, find_value, list_tables
from sprint_export.validate.page.document import Section, render_document
from sprint_export.validate.page.embedding import Embedded, embed_picture
from sprint_export.validate.page.scatter import Point, Scale, render_scatter
from sprint_export.validate.page.templates import render

LEADS = {
    "devices": "Drawn from the bundle's own files and compared with what they drew where the bundle was finished.",
    "latency by network, p50 / p90 in ms": "Of the device's own clock; each device measured by itself.",
    "pictures of reference/": "PSNR and the largest difference of two pixels' values from the reference's picture.",
    "what ran": "As the devices say.",
}
NOT_COMPARED = "no picture was compared with the reference's"
MOST_PIXELS = 256  # of a shown picture's side; larger ones are shown smaller


def render_page(merged: Merged) -> str:
    """The text of an HTML file that needs nothing else."""
    bundle, count = merged.bundle, len(merged.results)
    title = f"{bundle.folder.resolve().name} on {count} device{'s' * (count != 1)}"
    counts = {verdict: sum(r.report.verdict == verdict for r in merged.results) for verdict in ("met", "not met", "not decided")}
    about = f"{bundle.target}-{bundle.precision} of {bundle.source}; identity {bundle.identity[:16]}"
    head = render("devices_head.html", title=title, verdict=merged.verdict, counts=counts, about=about)
    sections = [
        Section(f"part-{i}", table.title.capitalize(), _render_table(merged, table), LEADS[table.title])
        for i, table in enumerate(list_tables(merged))
    ]
    if plot := _plot(merged):
        sections.insert(1, Section("plot", "Quality and speed", plot))
    sections.append(
        Section("unchecked", "What was not checked", render("devices_unchecked.html", groups=_list_unchecked(merged)))
    )
    return render_document(title, head, sections)


def _render_table(merged: Merged, table: Table) -> Markup:
    pictures = list(_embed_reference(merged)) if table.columns[0] == "prompt" else []
    return render("devices_table.html", table=table, pictures=pictures)


def _embed_reference(merged: Merged) -> Iterator[Embedded]:
    """The reference's own pictures, in the order of the drawings; none where the bundle has no reference, or a damaged one."""
    import numpy as np

    bundle = merged.bundle
    try:
        known = [*read_reference(bundle), *read_further(bundle)]
        for drawing in known:
            height, width = drawing["picture"]["size"]
            picture = read_pixels(bundle, drawing, (height, width, 3)).astype(np.uint8)
            step = max(1, -(-max(height, width) // MOST_PIXELS))
            yield embed_picture(np.ascontiguousarray(picture[::step, ::step]))
    except (InputError, BundleError, KeyError, TypeError, ValueError):
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
        points, Scale("ms a picture, p50"), Scale("PSNR to the reference, worst, dB", is_more_better=True), "Devices"
    )


def _list_unchecked(merged: Merged) -> list[tuple[str, tuple[str, ...]]]:
    """Sentences with the devices they hold for."""
    found: dict[str, list[str]] = {}
    for result in merged.results:
        for sentence in result.report.unchecked or (() if result.checks else ("no picture was compared with the reference's",)):
            found.setdefault(sentence, []).append(result.label)
    return [(sentence, tuple(labels)) for sentence, labels in found.items()]
