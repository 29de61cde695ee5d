"""compare_entries and the verb: a table, a page and a JSON file of several folders."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import typer
from rich.console import Console

from sprint_export.cli.compare import name_entries, show_comparison
from sprint_export.errors import InputError
from sprint_export.noise import make_noise
from sprint_export.nouns.report import Measurement
from sprint_export.nouns.student import Student
from sprint_export.validate.comparing.compare import JSON, PAGE, compare_entries
from sprint_export.validate.comparing.comparison import Comparison
from sprint_export.validate.comparing.table import describe_distance, list_columns, list_complaints, name_verdict, render_table
from tests.bundles import check_refused, run_command
from tests.validate.comparing.doubles import draw_right, write_pictures

HOSTILE = "<script>alert(1)</script> <img src=x onerror=alert(2)> \u202e red"
PROMPTS = ("a red circle", HOSTILE, "a blue square", "a green circle above the square")


@pytest.fixture(scope="module")
def folders(made: Student, made_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The reference's own pictures a level off, worse ones, and blank ones; made by a stranger."""
    base = tmp_path_factory.mktemp("entries")
    right = draw_right(made_folder, PROMPTS, make_noise(0, 1, len(PROMPTS), made.latent_shape)).astype(np.int16)
    worse = right + np.random.default_rng(0).integers(-30, 31, right.shape)
    blank = np.full_like(right, 77)
    each = {"near": right + 1, "worse <b>": worse, "blank": blank}
    rows = [{"prompt": prompt, "seconds": 0.2} for prompt in PROMPTS]
    said = {"pictures": rows, "bytes": 3_000_000, "title": "<i>tool</i> [/red]"}
    return {
        name: write_pictures(base / f"e{i}", np.clip(pictures, 0, 255).astype(np.uint8), said)
        for i, (name, pictures) in enumerate(each.items())
    }


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out") / "comparison"


@pytest.fixture(scope="module")
def found(made: Student, made_folder: Path, folders: dict[str, Path], out: Path) -> Comparison:
    return compare_entries({**folders, "diffusers": made_folder}, out, made, prompts=PROMPTS)


def test_entries_are_ranked_with_blank_ones_last_and_pairs_beside_the_best(found: Comparison) -> None:
    assert [each.name for each in found.entries] == ["diffusers", "near", "worse <b>", "blank"]
    best, near, worse, blank = found.entries
    assert (best.value("psnr_db") or 0) > 90, "the student's own folder draws the reference"
    assert near.value("psnr_db") == pytest.approx(20 * np.log10(255), abs=1)
    assert not best.against_best
    row = next(row for row in worse.against_best if row.metric == "psnr_db_difference")
    assert row.interval is not None
    assert row.interval[1] < 0, "surely worse"
    assert [each.verdict for each in found.entries] == ["met", "met", "met", "not met"]
    assert [fault.kind for fault in blank.faults] == ["constant"] * len(PROMPTS)
    assert best.is_measured
    assert not near.is_measured
    assert near.value("latency_p50_ms") == pytest.approx(200)
    assert len(found.unchecked) == 3, "of each folder of pictures that nobody timed it here"
    assert "4 BLANK" in name_verdict(blank)
    assert describe_distance(best, found) == "the best"
    assert describe_distance(worse, found).startswith("-")
    assert [name for name, _ in list_columns(found)] == ["psnr_db", "psnr_worst_db", "ssim", "latency_p50_ms", "disk_mb"]


def test_the_terminal_shows_names_and_titles_as_they_are(found: Comparison) -> None:
    console = Console(file=io.StringIO(), width=300)
    console.print(render_table(found))
    shown = cast(io.StringIO, console.file).getvalue()
    assert "worse <b>" in shown
    assert "[/red]" in shown, "a title steers no style"


def test_what_is_not_met_is_said_and_ends_in_status_1_and_what_is_not_decided_only_where_that_is_not_allowed(
    found: Comparison, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (complaint,) = list_complaints(found)
    assert complaint == "blank: not met: blank_pictures is 4, demanded blank_pictures<=0"
    with pytest.raises(typer.Exit) as left:
        show_comparison(found, out, as_json=True, allow_undecided=True)
    assert left.value.exit_code == 1
    open_gate = Measurement("psnr_db", 50.0, "dB", limit="psnr_db>=49", verdict="not decided", interval=(48.0, 52.0), needed=130)
    entry = replace(found.entries[1], verdict="not decided", rows=(open_gate,))
    undecided = replace(found, entries=(found.entries[0], entry))
    assert list_complaints(undecided) == [
        "near: not decided: psnr_db is 50 (48 to 52 at 95 %), demanded psnr_db>=49; 130 pictures like these would decide it"
    ]
    show_comparison(undecided, out, as_json=True, allow_undecided=True)
    with pytest.raises(typer.Exit):
        show_comparison(undecided, out, as_json=True)


def test_comparison_json_holds_the_same(found: Comparison, out: Path) -> None:
    value = json.loads((out / JSON).read_text("utf-8"))
    assert value["format"] == 1
    assert [each["name"] for each in value["entries"]] == [each.name for each in found.entries]
    assert value["prompts"] == list(PROMPTS)
    assert len(value["entries"][0]["figures"]["psnr_db"]) == len(PROMPTS)


class Tags(HTMLParser):
    """Names of all tags, and every address."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


def test_the_page_asks_nothing_of_a_network_and_runs_nothing_that_a_prompt_or_a_name_says(found: Comparison, out: Path) -> None:
    text = (out / PAGE).read_text("utf-8")
    page = Tags(text)
    assert page.tags.count("script") == 1
    assert not page.handlers
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert not {"b", "i"} & set(page.tags), "names and titles are text"
    assert "&lt;script&gt;alert(1)" in text
    assert "\u202e" not in text
    pictures = re.findall(r'src="data:image/png;base64,', text)
    assert len(pictures) == len(PROMPTS) * (len(found.entries) + 1), "each prompt by each entry, and the reference"
    assert "blank (constant)" in text
    assert "Blank or missing pictures" in text


def test_prompts_of_another_count_or_gates_that_nothing_meets_are_said(
    made: Student, folders: dict[str, Path], tmp_path: Path
) -> None:
    near = {"near": folders["near"]}
    with pytest.raises(InputError, match="no prompts"):
        compare_entries(near, tmp_path, made, prompts=[])
    with pytest.raises(InputError, match="count=0"):
        compare_entries(near, tmp_path, made, prompts=PROMPTS, count=0)
    found = compare_entries(near, tmp_path, made, prompts=PROMPTS, count=2, gates=["psnr_db>=60"])
    assert (found.entries[0].verdict, len(found.prompts)) == ("not met", 2)
    with pytest.raises(InputError, match=r"prompt 0 is .*--prompts"):
        compare_entries(near, tmp_path, made, prompts=PROMPTS[1:])


def test_entries_are_named_by_their_folders_or_by_the_user(tmp_path: Path) -> None:
    for name in ("a/int8", "b/int8", "x=y"):
        (tmp_path / name).mkdir(parents=True)
    texts = [f"{tmp_path}/a/int8", f"{tmp_path}/b/int8", f"mine={tmp_path}/a/int8", f"{tmp_path}/x=y"]
    assert list(name_entries(texts)) == ["a/int8", "b/int8", "mine", "x=y"]
    with pytest.raises(InputError, match=r"two entries are called 'one'.*NAME=FOLDER"):
        name_entries(["one=a", "one=b"])
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(InputError, match=r"entry .*loop: cannot be a path"):
        name_entries([str(tmp_path / "loop")])


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    check_refused(run_command("compare", "notes", folder=tmp_path), 2, "notes holds nothing", "bundle.json", "prompts.txt")
