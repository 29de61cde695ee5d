"""`write_page`: report.html of one bundle, from its manifest, its report and the pictures that were drawn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from markupsafe import Markup

from sprint_export.bundle_files import PAGE
from sprint_export.export.bundle import read_manifest
from sprint_export.files import write_text
from sprint_export.noise import VALIDATION_SEED
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.report import Report
from sprint_export.quantize.schemes.scheme import load_scheme
from sprint_export.registry import load_target
from sprint_export.runtimes.makings import name_student
from sprint_export.validate.blocks.gates import GATES
from sprint_export.validate.page.costs import render_costs
from sprint_export.validate.page.document import Section, render_document
from sprint_export.validate.page.embedding import amplify_difference, choose_gain
from sprint_export.validate.page.error_profile import name_origin, render_profiles
from sprint_export.validate.page.histogram import render_distributions
from sprint_export.validate.page.making import render_making
from sprint_export.validate.page.precision_map import render_map
from sprint_export.validate.page.templates import render
from sprint_export.validate.page.tiles import Tile, rank_rows, render_tiles
from sprint_export.validate.page.verdicts import WORDS, render_gates, render_head
from sprint_export.validate.rows import Rows, take_row
from sprint_export.validate.unchecked import list_unchecked

TIMED = "Times were taken while pictures were compared, one call at a time; the verb bench measures latency alone."


def write_page(folder: Path, report: Report, reference: Rows, exported: Rows) -> None:
    """Write report.html into a bundle: whole, or not at all.

    Args:
        folder: of the bundle; its manifest is read.
        report: `pictures` has a row of each picture, in their order.
        reference: PyTorch's pictures, [B, H, W, 3].
        exported: the bundle's.

    Raises:
        BundleError: the manifest is damaged. OSError: the disk is full.
    """
    write_text(folder / PAGE, describe_page(read_manifest(folder), report, reference, exported))


def describe_page(bundle: Bundle, report: Report, reference: Rows, exported: Rows) -> str:
    """The page's text; otherwise as `write_page`."""
    title = f"{name_student(bundle)}, {report.target}"
    height, width = exported.shape[1:3]
    about = (
        f"{report.prompts:,} pictures of {width} \u00d7 {height}, the same prompts and noise in PyTorch (float32) and in the "
        f"exported files, on {report.runtime}; {report.machine}."
    )
    sections = [
        *_judge(bundle, report),
        *_show_pictures(report, reference, exported),
        *_show_figures(report),
        *_explain_errors(report),
        Section("network", "Precision", render_map(bundle), _tell_recipe(bundle)),
        Section("costs", "Size and time", render_costs(report.rows, load_target(bundle.target)), TIMED),
        Section("made", "How it was made", render_making(bundle, report)),
        Section("unchecked", "What was not checked", render("points.html", points=list_unchecked(bundle, report))),
    ]
    return render_document(f"{title}: {report.verdict}", render_head(report, title, about), sections)


def _judge(bundle: Bundle, report: Report) -> Iterator[Section]:
    if any(row.verdict is not None for row in report.rows):
        yield Section("gates", "Gates", render_gates(report, find_reasons(bundle)))


def _show_pictures(report: Report, reference: Rows, exported: Rows) -> Iterator[Section]:
    rows = report.pictures
    if not rows:
        return
    gain = choose_gain(exported, reference)

    def make_tile(i: int) -> Tile:
        theirs, ours = take_row(reference, i), take_row(exported, i)
        difference = amplify_difference(ours, theirs, gain)
        shots = {"PyTorch": theirs, "exported": ours, f"difference \u00d7{gain}": difference}
        return Tile(rows[i], VALIDATION_SEED, shots)

    caption = f"PyTorch in float32, the exported files, and where they differ, {gain} times as bright."
    yield Section("pictures", "Pictures", render_tiles(map(make_tile, rank_rows(rows)), len(rows), caption))


def _show_figures(report: Report) -> Iterator[Section]:
    """How each figure is spread over the pictures, and all that was measured of whole pictures."""
    rows = [row for row in report.rows if not row.component]
    plots = render_distributions(report.pictures, rows) if any(row.figures for row in report.pictures) else Markup("")
    if rows or plots:
        yield Section("figures", "Figures", plots + render("figures.html", rows=rows, words=WORDS))


def _explain_errors(report: Report) -> Iterator[Section]:
    if report.blocks:
        yield Section("origin", "Where the error is born", render_profiles(report.blocks), name_origin(report.blocks))


def find_reasons(bundle: Bundle) -> dict[str, str]:
    """Why there is a gate, by its text: of the scheme's, the target's and the blocks' own; any other one was asked for."""
    target = load_target(bundle.target)
    gates = (*load_scheme(target.offers[bundle.precision].scheme).gates, *target.gates, *GATES)
    return {gate.text: gate.reason for gate in gates}


def _tell_recipe(bundle: Bundle) -> str:
    if bundle.recipe is None:
        return "Nothing is quantized: all layers are float."
    meaning = f": {bundle.recipe.meaning}" if bundle.recipe.meaning else ""
    return f"Recipe {bundle.recipe.name}{meaning}"
