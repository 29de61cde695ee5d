"""Sets of prompts as they lie on a disk: what is read of each layout, and what is wrong told by its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sprint_export.errors import InputError
from sprint_export.registry import list_members
from sprint_export.validate.prompt_sets.prompt_set import PromptSet, Question, WantedObject, load_layout, read_prompt_set

COUCH = {"class": "couch", "count": 1}
DOG = {"class": "dog", "count": 1, "position": ["right of", 0], "color": "black"}
BESIDE = {"tag": "position", "include": [COUCH, DOG], "prompt": "a photo of a black dog right of a couch"}
CLOCKS = {
    "tag": "counting",
    "include": [{"class": "clock", "count": 2}],
    "exclude": [{"class": "clock", "count": 3}],
    "prompt": "a photo of two clocks",
}
COWS = {
    "prompt": "four white bicycles in front of three cows",
    "atom_count": 3,
    "vqa_list": [["How many bicycles?", "four"], ["Are they white?", "Yes"]],
    "skills": ["count", "attribute"],
}


def write_lines(path: Path, *lines: Any) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines), "utf-8")
    return path


def make_mjhq(folder: Path, pictures: int = 3, inner: str = "") -> Path:
    entries = {f"id{i}": {"category": "animals" if i < 2 else "art", "prompt": f"prompt {i}"} for i in range(3)}
    folder.mkdir(exist_ok=True)
    (folder / "meta_data.json").write_text(json.dumps(entries), "utf-8")
    for i, (name, entry) in enumerate(entries.items()):
        if i < pictures:
            path = folder / inner / entry["category"] / f"{name}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"picture")
    return folder


def test_a_text_file_is_a_prompt_a_line(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "a:b.txt", "# no prompt", "a dog", "", "  a cat ")
    assert list(read_prompt_set(str(file))) == ["a dog", "a cat"], "a colon in the name of a file that is there"


def test_geneval_has_a_scene_for_each_prompt(tmp_path: Path) -> None:
    write_lines(tmp_path / "evaluation_metadata.jsonl", BESIDE, "", CLOCKS)
    for where in (tmp_path, tmp_path / "evaluation_metadata.jsonl"):
        found = read_prompt_set(f"geneval:{where}")
        assert list(found) == [BESIDE["prompt"], CLOCKS["prompt"]]
    first, second = found.scenes
    assert first.wanted == (WantedObject("couch"), WantedObject("dog", 1, "black", "right of", 0))
    assert (first.tag, second.limits) == ("position", (("clock", 3),))


def test_geneval_2_has_questions_for_each_prompt(tmp_path: Path) -> None:
    found = read_prompt_set(f"geneval2:{write_lines(tmp_path / 'geneval2_data.jsonl', COWS)}")
    assert found.questions == (
        (Question("How many bicycles?", "four", "count"), Question("Are they white?", "Yes", "attribute")),
    )


def test_a_text_within_a_line_of_json_may_hold_other_line_ends(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "x.jsonl", json.dumps({**COWS, "prompt": "cows\u2028and\x85more"}, ensure_ascii=False))
    assert list(read_prompt_set(f"geneval2:{path}")) == ["cows and more"]


def test_links_out_of_the_folder_of_a_set_are_refused_but_for_those_of_the_hubs_cache(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a secret", "utf-8")
    for name, file in (("dpg", "0.txt"), ("geneval", "evaluation_metadata.jsonl"), ("geneval2", "geneval2_data.jsonl")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).symlink_to(secret)
        with pytest.raises(InputError, match=rf"{file} is a link out of .*; put the file itself there"):
            read_prompt_set(f"{name}:{tmp_path / name}")
    mjhq = make_mjhq(tmp_path / "mjhq")
    (mjhq / "art" / "id2.jpg").unlink()
    (mjhq / "art" / "id2.jpg").symlink_to(secret)
    with pytest.raises(InputError, match=r"id2\.jpg is a link out of"):
        read_prompt_set(f"mjhq30k:{mjhq}")
    home = tmp_path / "hub" / "datasets--a--b"
    snapshot = home.with_name("models--a--b") / "snapshots" / "0"
    snapshot.mkdir(parents=True)
    (snapshot.parent.parent / "blobs").mkdir()
    (snapshot.parent.parent / "blobs" / "1").write_text("a dog", "utf-8")
    (snapshot / "0.txt").symlink_to(Path("../../blobs/1"))
    assert list(read_prompt_set(f"dpg:{snapshot}")) == ["a dog"]


@pytest.mark.parametrize("inner", ["", "mjhq30k_imgs"])
def test_mjhq_has_a_picture_for_each_prompt(inner: str, tmp_path: Path) -> None:
    found = read_prompt_set(f"mjhq30k:{make_mjhq(tmp_path / 'set', inner=inner)}")
    assert list(found) == ["prompt 0", "prompt 1", "prompt 2"]
    assert found.originals[2] == tmp_path / "set" / inner / "art" / "id2.jpg"


def test_mjhq_without_any_picture_is_prompts_alone(tmp_path: Path) -> None:
    assert read_prompt_set(f"mjhq30k:{make_mjhq(tmp_path / 'set', pictures=0)}").originals == ()


def test_dpg_is_a_prompt_a_file(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("a long\nprompt", "utf-8")
    (tmp_path / "a.txt").write_text("another", "utf-8")
    assert list(read_prompt_set(f"dpg:{tmp_path}")) == ["another", "a long prompt"]


def test_the_first_of_a_set_keep_what_is_beside_them(tmp_path: Path) -> None:
    found = read_prompt_set(f"mjhq30k:{make_mjhq(tmp_path / 'set')}")[:2]
    assert isinstance(found, PromptSet) and len(found) == 2 and len(found.originals) == 2
    assert found[1] == "prompt 1" and found.scenes == ()


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([BESIDE, "{"], "line 2: cannot be read as JSON"),
        (["[]"], "line 1: holds list, expected an object"),
        ([{**BESIDE, "prompt": 5}], "line 1: the prompt is int, expected a text"),
        ([{**BESIDE, "prompt": " "}], "line 1: the prompt has 0 letters"),
        ([{**BESIDE, "include": []}], "line 1: 0 objects to include"),
        ([{**BESIDE, "include": [5]}], "line 1: an object is int"),
        ([{**BESIDE, "include": [{"count": 1}]}], "line 1: 'class' is missing, expected str"),
        ([{**BESIDE, "include": [{"class": "a", "count": 0}]}], "line 1: 'count' is 0; expected 1 to 1000"),
        ([{**BESIDE, "include": [{"class": "a", "count": True}]}], "line 1: 'count' is bool, expected int"),
        (
            [{**BESIDE, "include": [{"class": "a", "position": ["above", 1]}]}],
            "line 1: 'position' names object 1; there are 0 to 0",
        ),
        ([{**BESIDE, "include": [{"class": "a", "position": ["abov", 0]}]}], "Did you mean 'above'"),
        ([], "has 0 prompts; expected 1 to 100,000"),
    ],
)
def test_a_damaged_line_of_geneval_is_told_by_its_number(lines: list[Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_prompt_set(f"geneval:{write_lines(tmp_path / 'x.jsonl', *lines)}")
    assert said in str(caught.value) and "x.jsonl" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"skills": ["count"]}, "line 1: 2 questions with 1 skills"),
        ({"vqa_list": [["a"], ["b", "c"]]}, "line 1: a question has 1 texts"),
        ({"vqa_list": [["a", 1], ["b", "c"]]}, "line 1: expected pairs of texts"),
        ({"vqa_list": "a"}, "line 1: 'vqa_list' is str, expected list"),
        ({"skills": ["count", "<b>"]}, "a skill is called '<b>'; expected letters"),
        ({"vqa_list": [["a", "b"]] * 60, "skills": [f"s{i}" for i in range(60)]}, "60 skills; expected at most 50"),
    ],
)
def test_a_damaged_line_of_geneval_2_is_told_by_its_number(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        read_prompt_set(f"geneval2:{write_lines(tmp_path / 'x.jsonl', {**COWS, **change})}")


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"../id": {"category": "art", "prompt": "a"}}, "'../id' is no name of a picture"),
        ({"id": {"category": "../art", "prompt": "a"}}, "'../art' is no name of a picture"),
        ({"id": {"category": "art"}}, "the prompt is NoneType"),
        ({"id": []}, "holds list, expected an object"),
        ({}, "has 0 prompts"),
    ],
)
def test_a_damaged_entry_of_mjhq_is_told_by_its_id(entries: Any, said: str, tmp_path: Path) -> None:
    (tmp_path / "meta_data.json").write_text(json.dumps(entries), "utf-8")
    with pytest.raises(InputError) as caught:
        read_prompt_set(f"mjhq30k:{tmp_path}")
    assert said in str(caught.value)


def test_mjhq_with_some_of_its_pictures_says_which_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"1 of 3 pictures are missing, the first .*id2.jpg"):
        read_prompt_set(f"mjhq30k:{make_mjhq(tmp_path / 'set', pictures=2)}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "mjhq:{folder}",
            "'mjhq' is no set of prompts; expected a text file, or: dpg:PATH, geneval:PATH, geneval2:PATH, mjhq30k:PATH, ",
        ),
        ("mjhq30k:{folder}", "no meta_data.json there"),
        ("dpg:{folder}/none", "no such folder"),
        ("dpg:{folder}", "has 0 prompts"),
        ("geneval:{folder}", "evaluation_metadata.jsonl: cannot be read"),
        ("{folder}/none.txt", "cannot be read"),
    ],
)
def test_a_set_that_is_not_there_is_said(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_prompt_set(text.format(folder=tmp_path))
    assert said in str(caught.value)


@pytest.mark.parametrize("name", list_members("prompt_set"))
def test_every_layout_says_what_it_is(name: str) -> None:
    layout = load_layout(name)
    assert layout.name == name and layout.title and layout.path
