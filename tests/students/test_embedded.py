"""Embedded students that share parts with another: whole when loaded, and small where they lie."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sprint_export.conversion import convert
from sprint_export.runtimes import open_bundle
from sprint_export.students import list_students, load_student
from sprint_export.students.embedded import SHARES, complete_folder
from sprint_export.students.sprint_tiny.edges import find_edges, measure_distance
from sprint_export.students.sprint_tiny.judge import JUDGE
from tests.bundles import read_rows
from tests.tree import ROOT

STUDENTS = ROOT / "students"
SHARING = {"twinflow-tiny": "twinflow_sana", "tbcm-tiny": "sana_sprint", "control-tiny": "sana_sprint"}
SHARED = {  # role -> folder of what comes from sprint-tiny
    "twinflow-tiny": {"text_encoder": "text_encoder", "vae_decoder": "vae"},
    "tbcm-tiny": {"text_encoder": "text_encoder", "vae_decoder": "vae"},
    "control-tiny": {"text_encoder": "text_encoder", "vae_decoder": "vae", "transformer": "transformer"},
}
LARGEST = 6.3e6  # bytes of a student's own


@pytest.mark.parametrize("name", SHARING)
def test_they_load_whole(name: str) -> None:
    student, whole = load_student(name), load_student("sprint-tiny")
    assert (student.family, student.source) == (SHARING[name], name)
    assert student.validation_prompts == whole.validation_prompts
    assert student.fingerprint != whole.fingerprint
    for role, folder in SHARED[name].items():
        assert set(student.components[role].weights) == set(whole.components[role].weights)
        assert not (STUDENTS / name.replace("-", "_") / folder).exists(), f"{folder} lies there twice"
    assert student.licence == "apache-2.0"
    assert name in list_students()


@pytest.mark.parametrize("name", SHARING)
def test_they_are_small(name: str) -> None:
    own = sum(path.stat().st_size for path in (STUDENTS / name.replace("-", "_")).rglob("*"))
    assert own <= LARGEST, f"{own / 1e6:.2f} MB"


def test_a_controlnet_still_steers_in_eight_bits(tmp_path: Path) -> None:
    bundle = convert("control-tiny", "onnx-int8", tmp_path / "out", count=8)
    rows = {metric: row["value"] for (_, metric), row in read_rows(bundle.folder).items()}
    assert rows["edges_obeyed_reference_percent"] == rows["edges_obeyed_percent"] == 100
    assert rows["adherence_drop_points"] <= 0, "at most a caption that PyTorch itself gets wrong is drawn right"
    prompts = ["a red circle in the center"]
    edges = JUDGE.draw_controls(prompts)[0]
    steered, free = (open_bundle(bundle.folder)(prompts, seed=0, **given)[0] for given in ({"control": edges}, {}))
    assert measure_distance(find_edges(steered), edges) <= measure_distance(find_edges(free), edges) / 4


def test_a_student_of_its_own_stays_where_it_is() -> None:
    assert complete_folder(STUDENTS / "sprint_tiny") == STUDENTS / "sprint_tiny"


@pytest.fixture
def sharing(tmp_path: Path) -> Path:
    for name, files in {"whole": {"a.json": "{}", "b.json": "1"}, "own": {"a.json": "2", SHARES: "whole\n"}}.items():
        (tmp_path / name / "part").mkdir(parents=True)
        for file, text in files.items():
            (tmp_path / name / file).write_text(text)
    (tmp_path / "whole" / "code.py").write_text("")
    return tmp_path / "own"


def test_what_is_its_own_wins_and_code_is_left_out(sharing: Path) -> None:
    whole = complete_folder(sharing)
    assert {path.name for path in whole.iterdir()} == {"a.json", "b.json", "part"}
    assert (whole / "a.json").read_text() == "2"
    assert complete_folder(sharing) == whole, "made once"


def test_a_change_of_either_is_another_folder(sharing: Path) -> None:
    before = complete_folder(sharing)
    (sharing.parent / "whole" / "b.json").write_text("3")
    after = complete_folder(sharing)
    assert after != before
    assert (after / "b.json").read_text() == "3"
    shutil.rmtree(after)
    assert complete_folder(sharing) == after


def test_what_was_damaged_in_the_cache_is_made_again(sharing: Path) -> None:
    """Its name says what it was made of, not what a disk made of it since."""
    whole = complete_folder(sharing)
    for damage in (lambda: (whole / "b.json").write_text("9"), (whole / "a.json").unlink, (whole / "part").rmdir):
        damage()
        assert complete_folder(sharing) == whole
        assert ((whole / "b.json").read_text(), (whole / "a.json").read_text(), (whole / "part").is_dir()) == ("1", "2", True)
    (whole / "more.json").write_text("{}")
    assert not (complete_folder(sharing) / "more.json").exists()
