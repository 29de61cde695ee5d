"""The verb `compare`: several bundles, and outputs of other programs, beside stock PyTorch on the same prompts and noise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sprint_export.cli import options as o
from sprint_export.cli.bars import progress_bars
from sprint_export.cli.screen import complain, note, show, stderr, stdout, verbosity
from sprint_export.cli.signature import takes_options
from sprint_export.cli.source import find_source
from sprint_export.compute import check_compute, choose_compute
from sprint_export.errors import InputError
from sprint_export.libraries import DRAWING, EXPORTING, REPORTING, check_installed
from sprint_export.nouns.option import Option
from sprint_export.paths import resolve_path

if TYPE_CHECKING:
    from sprint_export.validate.comparing.comparison import Comparison

OUT = Path("comparison")
COMPARE_OPTIONS = (
    Option("student", "The student whose stock PyTorch is the reference; default: the first bundle's, where that is embedded."),
    Option("prompts", "A file, one prompt a line; - for stdin.", Path, None, None, (), "FILE"),
    Option("count", "How many prompts; default all of --prompts, else 64, or 8 of pictures larger than 128 px.", int),
    Option("seed", "Seed of the first prompt's noise; prompt i has this plus i.", int, 0),
    Option("steps", "Sampling steps of every entry; default: the first bundle's, else 1.", int),
    Option("rank_by", "The metric that entries are ranked by; any of the table's.", str, "psnr_db"),
    Option("metrics", "Image metrics to measure too, with commas: lpips,dists,..."),
    Option("metric_weights", "A folder with the metrics' weights.", Path, None, None, (), "FOLDER"),
    Option("one_at_a_time", "Open an entry when those before it have drawn; latency is then not in turn.", bool, False),
    Option("allow_undecided", "Exit status 0 also where so few pictures leave a gate undecided.", bool, False),
    Option("out", "The folder for comparison.html and comparison.json.", Path, OUT),
)
Entries = Annotated[
    list[str],
    typer.Argument(
        metavar="[NAME=]FOLDER",
        help="Bundles (or hub ids), diffusers folders (SDNQ, torchao), optimum-intel folders, folders of pictures and prompts.",
    ),
]


@takes_options(*o.pick_options("variant", "gates", "compute"), *COMPARE_OPTIONS)
def compare(
    entries: Entries,
    as_json: o.Json = False,
    *,
    student: str | None,
    out: Path,
    allow_undecided: bool,
    variant: str | None,
    gates: list[str] | None,
    **asked: Any,
) -> None:
    """Rank bundles and other programs' outputs on the same prompts and noise: quality, latency, size; pictures side by side.

    Example: sprint-export compare my-bundle theirs=FOLDER
    """
    from sprint_export.run_checks import load_libraries
    from sprint_export.students.source import check_source
    from sprint_export.validate.gates import read_gates

    folders = name_entries(entries)
    demands, given = read_gates(gates or []), o.read_prompts(asked["prompts"])
    check_compute(asked["compute"])
    if student is not None:
        check_source(student)
    check_installed((*EXPORTING, *DRAWING, *REPORTING))
    folders = {name: find_source(str(folder)) for name, folder in folders.items()}
    with progress_bars(stderr, verbosity.is_quiet, verbosity.is_verbose) as progress:
        load_libraries(progress)
        from sprint_export.students import load_student
        from sprint_export.validate.comparing.compare import compare_entries
        from sprint_export.validate.image_metrics.measuring import read_metric_names

        loaded = None if student is None else load_student(student, variant)
        asked["metrics"] = read_metric_names(asked["metrics"])
        asked |= {"compute": choose_compute(asked["compute"], note), "gates": demands, "prompts": given}
        found = compare_entries(folders, out, loaded, progress, **asked)
    show_comparison(found, out, as_json, allow_undecided)


def name_entries(entries: Sequence[str]) -> dict[str, Path]:
    """Folders by name: that of NAME=FOLDER, else the folder's own, with more of its path where two are alike.

    Raises:
        InputError: two have one name, or a folder is there twice.
    """
    pairs = [_read_entry(text) for text in entries]
    real = {folder: resolve_path("entry", folder) for _, folder in pairs}
    found: dict[str, Path] = {}
    for name, folder in pairs:
        shown = name or real[folder].name
        if not name and sum(not other and real[each].name == shown for other, each in pairs) > 1:
            shown = f"{real[folder].parent.name}/{shown}"
        if shown in found:
            raise InputError(f"two entries are called {shown!r}: {found[shown]} and {folder}; name them: NAME=FOLDER")
        found[shown] = folder
    return found


def _read_entry(text: str) -> tuple[str, Path]:
    """Name, "" where none is given, and folder; a folder whose own name has a = in it is taken whole."""
    name, sign, folder = text.partition("=")
    if not sign or not name or Path(text).exists():
        return "", Path(text)
    return name, Path(folder)


def show_comparison(found: Comparison, out: Path, as_json: bool, allow_undecided: bool = False) -> None:
    """The table, or JSON; leaves with status 1 where an entry's gates are not met, or not decided and that is not allowed."""
    from sprint_export.validate.comparing.compare import PAGE, format_comparison
    from sprint_export.validate.comparing.table import list_complaints, render_table

    if as_json:
        stdout.print_json(format_comparison(found))
    else:
        stdout.print(render_table(found))
        for sentence in found.unchecked:
            show(sentence)
        show(f"page: {out / PAGE}")
    for complaint in list_complaints(found):
        complain(complaint)
    verdicts = {each.verdict for each in found.entries} - {"met"}
    if verdicts - ({"not decided"} if allow_undecided else set()):
        raise typer.Exit(1)
