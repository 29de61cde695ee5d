"""The bundle's model card, README.md: what the hub lists it by, what was measured, how to draw, what was not checked.

It stands beside the report and, like it, is not named by the manifest: it changes with every validation, no runtime reads it, and
what it says of the bundle is read from bundle.json and report.json. A README.md of somebody else is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from sprint_export.bundle_files import CARD, CARD_MARK, REPORT, SHEET, is_own_card
from sprint_export.export.bundle import read_manifest
from sprint_export.files import write_text
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.report import Measurement, Report
from sprint_export.paths import is_file
from sprint_export.runtimes.makings import name_student
from sprint_export.streams import clean_text
from sprint_export.validate.report import format_gate, format_number, format_range
from sprint_export.validate.report_file import read_report
from sprint_export.validate.unchecked import list_unchecked

TAG = "text-to-image"
LICENCE_ID = re.compile(r"[a-z0-9][a-z0-9.+-]{1,40}")  # as the hub writes them; other texts are its "other"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
EXAMPLE = "a red circle above a blue square"


def write_card(folder: Path) -> bool:
    """Write the card of a bundle, from its manifest and, where it has one, its report; False: another README.md is there.

    Raises:
        InputError, BundleError: there is no bundle, or one of the two is damaged.
    """
    if (folder / CARD).exists() and not is_own_card(folder / CARD):
        return False
    bundle = read_manifest(folder)
    report = read_report(folder) if is_file(folder / REPORT) else None
    card = describe_card(bundle, report, is_file(folder / SHEET))
    if not is_file(folder / CARD) or (folder / CARD).read_bytes() != card.encode():
        write_text(folder / CARD, card)
    return True


def describe_card(bundle: Bundle, report: Report | None, has_sheet: bool) -> str:
    """The card's text: Markdown behind a head in YAML."""
    student, source, family, licence = map(_plain, (name_student(bundle), _name_source(bundle), bundle.family, bundle.licence))
    steps = ", ".join(map(str, bundle.plan.counts or (len(bundle.plan.times),)))
    lines = [
        *_write_head(bundle),
        CARD_MARK,
        "",
        f"# {student}, {bundle.target}-{bundle.precision}",
        "",
        f"A distilled text-to-image student ({family}), made from {source} for the device {bundle.device}. Steps: {steps}.",
        f"Licence: {licence}.",
        "",
        *_write_uses(bundle),
        *_write_report(report, has_sheet),
        "## What was not checked",
        "",
        *(f"* {_plain(line)}" for line in list_unchecked(bundle, report)),
    ]
    return "\n".join([*lines, ""])


def _write_head(bundle: Bundle) -> Iterator[str]:
    licence = bundle.licence.strip()
    yield "---"
    if LICENCE_ID.fullmatch(licence):
        yield f"license: {licence}"
    else:
        yield "license: other"
    hub = HUB_ID.match(bundle.source)
    if hub is not None and not Path(bundle.source).is_absolute():
        yield f"base_model: {hub[0]}"
        yield "base_model_relation: quantized"
    yield f"pipeline_tag: {TAG}"
    yield "library_name: sprint-export"
    yield "tags:"
    formats = {artifact.format for artifact in bundle.artifacts if artifact.kind == "graph"}
    for tag in dict.fromkeys((TAG, "sprint-export", *sorted(formats), bundle.target, bundle.precision)):
        yield f"- {tag}"
    yield "---"


def _name_source(bundle: Bundle) -> str:
    """A hub id whole, of a folder its name alone."""
    source = name_student(bundle) if Path(bundle.source).is_absolute() else bundle.source
    return f"{source} at revision {bundle.revision}" if bundle.revision else source


def _write_uses(bundle: Bundle) -> Iterator[str]:
    yield from ("## Draw", "", "```sh", "pip install sprint-export")
    yield from (f'sprint-export run FOLDER "{EXAMPLE}" -o picture.png --seed 3', "```", "")
    yield from ("```python", "from sprint_export import open_bundle", "")
    yield from (f'pictures = open_bundle("FOLDER")(["{EXAMPLE}"], seed=3)  # uint8 [1, H, W, 3]', "```", "")
    if any(artifact.format == "onnx" for artifact in bundle.artifacts):
        yield from ("```js", 'import { openBundle } from "sprint-export";', 'const pipeline = await openBundle("FOLDER");')
        yield from (f'const picture = await pipeline.draw("{EXAMPLE}", {{ seed: 3 }});', "```", "")
        yield from ("```cpp", 'auto pipeline = sprint_export::Pipeline::open("FOLDER", sprint_export::Options{});')
        yield from (f'auto picture = pipeline.draw("{EXAMPLE}", {{.seed = 3}});', "```", "")
    oldest = ", ".join(f"{name} {version}" for name, version in bundle.runtimes.items())
    yield from (f"Opens with: {oldest or 'what it was built with'}. `app.json` says what an app of its own needs.", "")


def _write_report(report: Report | None, has_sheet: bool) -> Iterator[str]:
    if report is None:
        return
    yield from ("## Measured", "", f"{report.prompts} pictures beside PyTorch in float32, the same prompts and noise, on")
    verdict = report.verdict if report.passed else f"**{report.verdict}**"
    yield from (f"{_plain(report.runtime)}, {_plain(report.machine)}. Gates: {verdict}.", "")
    if has_sheet:
        yield from (f"![pictures of PyTorch and of the bundle]({SHEET})", "")
    yield from ("| row | value | 95 % | gate | what it is |", "|---|---|---|---|---|")
    for row in report.rows:
        yield _write_row(row)
    yield ""


def _write_row(row: Measurement) -> str:
    name = f"{row.metric} of {row.component}" if row.component else row.metric
    value = f"{format_number(row.value)} {row.unit}".strip()
    return "| " + " | ".join(_plain(cell) for cell in (name, value, format_range(row), format_gate(row), row.note)) + " |"


def _plain(text: str) -> str:
    """A name or note as one line that cannot steer Markdown or a table."""
    return re.sub(r"([|<>\[\]`*])", r"\\\1", " ".join(clean_text(text).split()))
