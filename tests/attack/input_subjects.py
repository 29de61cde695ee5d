"""Files that verbs read beside bundles and students, whole, and what the verbs do with them: what mutate_inputs.py alters.

An act returns "" where all is well, or what is wrong with what it made; a page may hold no text of somebody else's as it is.
"""

from __future__ import annotations

import io
import json
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from sprint_export.bundle_files import REFERENCE
from sprint_export.cli.screen import CleanConsole
from sprint_export.export.bundle import read_bundle
from sprint_export.nouns.student import Student
from sprint_export.pictures import read_pictures
from sprint_export.planning.asking import Wanted, find_devices, fit_measured, plan_devices
from sprint_export.planning.fitting import fit_prices
from sprint_export.planning.measured import read_measured
from sprint_export.planning.plan import Question
from sprint_export.planning.price_file import read_prices, save_prices
from sprint_export.planning.prices import list_peaks
from sprint_export.planning.tables import describe_answer, describe_fit, tabulate_answer
from sprint_export.validate.against_reference import validate_against_reference
from sprint_export.validate.ci.junit import format_junit
from sprint_export.validate.ci.markdown import format_markdown
from sprint_export.validate.comparing.drawing import Turns, draw_sides
from sprint_export.validate.comparing.entries.picture_folder import ENTRY as PICTURE_FOLDERS
from sprint_export.validate.comparing.entry import Setting
from sprint_export.validate.comparing.kept_turns import KeptTurns
from sprint_export.validate.image_metrics.measuring import pair_pictures
from sprint_export.validate.image_metrics.metric import UnmeasuredError
from sprint_export.validate.image_metrics.originals import read_originals
from sprint_export.validate.kept import Kept
from sprint_export.validate.latency.results import Bench, Conditions, describe_bench
from sprint_export.validate.merging.files import write_merged
from sprint_export.validate.merging.merge import merge_results
from sprint_export.validate.merging.result import format_result
from sprint_export.validate.merging.table import list_tables
from sprint_export.validate.model_card import describe_card
from sprint_export.validate.prompt_sets.prompt_set import PromptSet, read_prompt_set
from sprint_export.validate.report import list_complaints, render_report
from sprint_export.validate.report_file import describe_report, format_report, read_report
from tests.attack.bundle_mutations import sign
from tests.attack.file_mutations import MARK
from tests.validate.merging.made_results import make_result
from tests.validate.page.made_report import make_report

DEVICE = "rtx-4090"
PIXELS, PROMPTS = (32, 48), ("a red circle", "a blue square", "a green triangle")
CONDITIONS = Conditions(
    "own", 12, 2, 1, 0, 2, 3, False, "each", "a processor", (3000.0, 3000.0, 2900.0, 2800.0), False, "", (1.5,),
    ({"minute": 0, "runs": 12, "p50_ms": 9.5}, {"minute": 1, "runs": 11, "p50_ms": 9.6}),
    ({"label": "pytorch", "runtime": "PyTorch", "launches": "each", "batch": 1},), 0.1,
)  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """One kind of input.

    Args:
        name: what reads it.
        write: writes the files into a new folder, and returns those that may be altered.
        act: what is done with them; "" or what is wrong.
        weight: how often it is attacked.
        is_inside: the files lie in a folder that came from elsewhere, which a link may not leave; else the user names them.
    """

    name: str
    write: Callable[[Path], Sequence[Path]]
    act: Callable[[Path], str]
    weight: int = 1
    is_inside: bool = False


def find_fault(text: str) -> str:
    """What a page or a terminal may not hold."""
    if MARK in text:
        return "a script of somebody else's in the page"
    return "control characters" if "\x1b" in text or "\0" in text else ""


def _print(tables: Sequence[object]) -> str:
    console = CleanConsole(file=io.StringIO(), width=120)
    for table in tables:
        console.print(table)
    return cast("io.StringIO", console.file).getvalue().replace(MARK, "")


def _write_text(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def _write_results(folder: Path, bundle: Path) -> Sequence[Path]:
    identity = read_bundle(bundle, verify=False).identity
    made = make_result("one", identity, 80.0, 12.5, "GPU, 580"), make_result("two", identity, 60.0, 25.0)
    files = [_write_text(folder / f"result_{i}.json", format_result(each)) for i, each in enumerate(made)]
    bench = describe_bench(Bench(made[0].report, CONDITIONS, identity))
    return [*files, _write_text(folder / "bench.json", json.dumps(bench))]


def _merge(folder: Path, bundle: Path) -> str:
    merged = merge_results(bundle, sorted(folder.glob("*.json")))
    report, page = write_merged(merged, folder / "out")
    json.loads(report.read_text("utf-8"), parse_constant=lambda name: 1 / 0)
    return find_fault(page.read_text("utf-8")) or find_fault(_print_merged(list_tables(merged)))


def _print_merged(tables: Sequence[object]) -> str:
    from sprint_export.cli.report import _render

    return _print([_render(table) for table in tables])  # type: ignore[arg-type]


def _write_report(folder: Path) -> Sequence[Path]:
    return [_write_text(folder / "report.json", format_report(make_report()))]


def _show_report(folder: Path, bundle: Path) -> str:
    report = read_report(folder)
    said = _print(render_report(report)) + "".join(list_complaints(report))
    json.dumps(describe_report(report), allow_nan=False)
    ET.fromstring(format_junit([report]).encode())
    card = describe_card(read_bundle(bundle, verify=False), report, True)
    return find_fault(said.replace(MARK, "")) or find_fault(format_markdown([report])) or find_fault(card)


def _write_bench(folder: Path, bundle: Path) -> Sequence[Path]:
    medians = {"text_encoder": 1.0, "transformer": 4.0, "vae_decoder": 2.0, "whole picture": 7.5}
    rows = [{"component": role, "metric": "latency_p50_ms", "value": value} for role, value in medians.items()]
    rows.append({"component": "whole picture", "metric": "peak_memory_mb", "value": 90.0})
    value = {"bundle": str(bundle), "target": "onnx-fp32", "rows": rows, "bench": {"device": ""}}
    return [_write_text(folder / "bench.json", json.dumps(value))]


def _plan(folder: Path, bundle: Path) -> str:
    """Beside what was measured; the price list that is there too is used."""
    prices = folder / "prices.json"
    found = read_prices(prices) if prices.name in [each.name for each in folder.iterdir()] else None
    measured = () if found else (read_measured(folder / "bench.json"),)
    said = ""
    for answer, advices in plan_devices(Wanted(str(bundle)), Question(find_devices("cpu"), (), measured, found)):
        said += "\n".join(describe_answer(answer, advices))
        json.dumps(tabulate_answer(answer, advices), allow_nan=False)
    return "" if said else "no plan"


def _fit(folder: Path, bundle: Path) -> str:
    fit = fit_measured(Wanted(str(bundle)), (read_measured(folder / "bench.json"),), None, lambda *_: None, lambda text: None)
    list(describe_fit(fit))
    save_prices(folder / "saved.json", fit.prices, {})
    return "" if read_prices(folder / "saved.json").tflops == fit.prices.tflops else "saved prices differ"


def _write_prices(folder: Path, bundle: Path) -> Sequence[Path]:
    (cpu,) = find_devices("cpu")
    peaks = list_peaks(cpu, "cpu")
    path, measured = folder / "prices.json", _write_bench(folder, bundle)[0]
    notes: list[str] = []
    fit = fit_measured(Wanted(str(bundle)), (read_measured(measured),), "cpu", lambda *_: None, notes.append)
    assert fit_prices is not None and (peaks is None or peaks.unit == fit.prices.unit)
    save_prices(path, fit.prices, {})
    return [path]


def _write_prompts(folder: Path) -> Sequence[Path]:
    return [_write_text(folder / "prompts.txt", "# mine\na red circle\n\na blue square\n")]


def _write_mjhq(folder: Path) -> Sequence[Path]:
    entries = {f"id{i}": {"category": "animals", "prompt": prompt} for i, prompt in enumerate(PROMPTS)}
    files = [_write_text(folder / "meta_data.json", json.dumps(entries))]
    (folder / "animals").mkdir()
    for name in entries:
        Image.fromarray(_draw(1)[0]).save(folder / "animals" / f"{name}.jpg")
    return [*files, *sorted((folder / "animals").iterdir())]


def _write_geneval(folder: Path) -> Sequence[Path]:
    couch, dog = {"class": "couch", "count": 1}, {"class": "dog", "count": 1, "position": ["right of", 0], "color": "black"}
    clocks = {"include": [{"class": "clock", "count": 2}], "exclude": [{"class": "clock", "count": 3}]}
    lines = [{"tag": "position", "include": [couch, dog], "prompt": "a"}, {"tag": "counting", **clocks, "prompt": "b"}]
    return [_write_text(folder / "evaluation_metadata.jsonl", "\n".join(map(json.dumps, lines)))]


def _write_geneval2(folder: Path) -> Sequence[Path]:
    questions = [["How many bicycles?", "four"], ["Are they white?", "Yes"]]
    line = {"prompt": "four white bicycles", "atom_count": 3, "vqa_list": questions, "skills": ["count", "attribute"]}
    return [_write_text(folder / "geneval2_data.jsonl", "\n".join([json.dumps(line)] * 3))]


def _write_dpg(folder: Path) -> Sequence[Path]:
    return [_write_text(folder / f"{i}.txt", prompt) for i, prompt in enumerate(PROMPTS)]


def _read_set(name: str, folder: Path) -> str:
    """The prompts, and all pictures that come with them."""
    path = folder / "prompts.txt" if name == "text" else folder
    found = read_prompt_set(f"{name}:{path}" if name != "text" else str(path))
    pictures = _draw(len(found)) if len(found) < 1000 else _draw(1)
    try:
        for picture in read_originals(pair_pictures(found, pictures, pictures)):
            assert picture.dtype == np.uint8
    except UnmeasuredError as error:
        return "" if "\n" not in str(error) else f"not one line: {error}"
    return "" if isinstance(found, PromptSet) and all(found) else "an empty prompt"


def _draw(count: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, *PIXELS, 3), np.uint8)


def _write_pictures(suffix: str, folder: Path) -> Sequence[Path]:
    files = [folder / f"{i}{suffix}" for i in range(len(PROMPTS))]
    for file, picture in zip(files, _draw(len(files)), strict=True):
        Image.fromarray(picture).save(file)
    rows = [{"prompt": prompt, "seed": i, "seconds": 0.5} for i, prompt in enumerate(PROMPTS)]
    value = {"title": "another program", "bytes": 1234, "pictures": rows}
    return [*files, *[_write_text(folder / "prompts.json", json.dumps(value))] * 3]


def _compare_pictures(folder: Path) -> str:
    setting = Setting(cast(Student, None), PROMPTS, 0, (1.0,), 4.5, PIXELS)
    entry = PICTURE_FOLDERS.open(folder, setting)
    kept = KeptTurns(Kept("attack"), "pictures", {"theirs": "a folder"}, is_needed=False)
    sides = draw_sides({"theirs": entry}, Turns(setting, lambda place: np.zeros((1, 1, 1), np.float32), kept))
    _ = f"{(entry.bytes or 0) / 1e6:.1f}"
    return "" if sides["theirs"].pictures.shape == (len(PROMPTS), *PIXELS, 3) else "other shapes"


def _read_given(suffix: str, folder: Path) -> str:
    """What --image and --control take."""
    values = read_pictures("--image", folder / f"given{suffix}", 1, 64, 64)
    return "" if np.abs(values).max() <= 1 else "beyond [-1, 1]"


def _write_given(suffix: str, folder: Path) -> Sequence[Path]:
    Image.fromarray(_draw(1)[0]).save(folder / f"given{suffix}")
    return [folder / f"given{suffix}"]


def _write_reference(folder: Path, bundle: Path) -> Sequence[Path]:
    shutil.copytree(bundle, folder, dirs_exist_ok=True)
    return [folder / REFERENCE] * 4 + sorted((folder / REFERENCE).parent.glob("*.png"))


def _check_reference(folder: Path) -> str:
    sign(folder)
    json.loads(format_result(validate_against_reference(folder)))
    return ""


def list_subjects(bundle: Path) -> tuple[Subject, ...]:
    """All of them; a bundle of onnx-fp32 with a reference stands behind some."""
    sets = {
        "text": _write_prompts,
        "mjhq30k": _write_mjhq,
        "geneval": _write_geneval,
        "geneval2": _write_geneval2,
        "dpg": _write_dpg,
    }
    return (
        Subject("report --merge RESULT", lambda f: _write_results(f, bundle), lambda f: _merge(f, bundle), 10),
        Subject("report.json", _write_report, lambda f: _show_report(f, bundle), 4, True),
        Subject("plan --measured", lambda f: _write_bench(f, bundle), lambda f: _plan(f, bundle), 2),
        Subject("plan --fit", lambda f: _write_bench(f, bundle), lambda f: _fit(f, bundle), 2),
        Subject("plan --prices", lambda f: _write_prices(f, bundle), lambda f: _plan(f, bundle), 2),
        *(Subject(f"--prompts {name}", write, partial(_read_set, name), 3, name != "text") for name, write in sets.items()),
        *(
            Subject(f"compare pictures {s}", partial(_write_pictures, s), _compare_pictures, 3, True)
            for s in (".png", ".jpg", ".webp")
        ),
        *(
            Subject(f"--image {s}", partial(_write_given, s), partial(_read_given, s), 2)
            for s in (".png", ".jpg", ".tiff", ".gif")
        ),
        Subject("validate --reference", lambda f: _write_reference(f, bundle), _check_reference, 4, True),
    )
