"""Replacing a bundle removes what is the bundle's and nothing else: what is told apart, what is refused, what is left."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sprint_export.bundle_files import check_replaceable, remove_bundle, sort_contents, sweep_bundle
from sprint_export.errors import InputError
from tests.bundles import list_files
from tests.test_files import part_of_a_dead_process

MANIFEST = {"format": 6, "key": "k", "target": "onnx", "precision": "fp32"}
OURS = ("transformer/model.onnx", "transformer/model.onnx.data", "transformer/config.json", "tokenizer/words.bin")
UNNAMED = ("report.json", "report.html", "contact_sheet.png", "model_index.json", "transformer/model.sm89.engine")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle with what validation and a killed build add to it."""
    folder = tmp_path / "bundle"
    for name in (*OURS, *UNNAMED):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    (folder / "bundle.json").write_text(json.dumps(MANIFEST | {"artifacts": [{"path": name} for name in OURS]}))
    return folder


def test_all_that_we_write_is_ours(folder: Path) -> None:
    assert sort_contents(folder).foreign == ()
    check_replaceable(folder)
    assert remove_bundle(folder) == ()
    assert not folder.exists()


def add_link(folder: Path, name: str, target: Path) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(target)


def add_deep(folder: Path) -> None:
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "c.txt").write_text("mine")


FOREIGN: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a file": ("thesis.tex", lambda folder: (folder / "thesis.tex").write_text("mine")),
    "a hidden file": (".git", lambda folder: (folder / ".git").write_text("mine")),
    "a nested file": ("transformer/notes.txt", lambda folder: (folder / "transformer" / "notes.txt").write_text("mine")),
    "a file beside the tokenizer": (
        "tokenizer/merges.txt",
        lambda folder: (folder / "tokenizer" / "merges.txt").write_text("mine"),
    ),
    "an empty folder": ("empty/", lambda folder: (folder / "empty").mkdir()),
    "a deep folder": ("a/b/c.txt", lambda folder: add_deep(folder)),
    "a link to a file": ("link", lambda folder: add_link(folder, "link", folder.parent / "outside" / "thesis.tex")),
    "a link to a folder": ("transformer/more", lambda folder: add_link(folder, "transformer/more", folder.parent / "outside")),
    "a dangling link": ("nowhere", lambda folder: add_link(folder, "nowhere", folder.parent / "absent")),
    "a pipe": ("pipe", lambda folder: os.mkfifo(folder / "pipe")),
    "a link in place of a weight": (
        "transformer/model.onnx.data",
        lambda folder: add_link(folder, "transformer/model.onnx.data", folder.parent / "outside" / "thesis.tex"),
    ),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_what_is_not_the_bundles_is_named_and_kept(folder: Path, case: str) -> None:
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "thesis.tex").write_text("mine")
    name, add = FOREIGN[case]
    add(folder)
    before = list_files(folder)
    with pytest.raises(InputError, match=rf"bundle holds what is not a bundle's: {name}; nothing was touched. Move it away"):
        check_replaceable(folder)
    assert list_files(folder) == before
    assert remove_bundle(folder) == (name,)
    assert os.path.lexists(folder / name)
    assert (outside / "thesis.tex").read_text() == "mine"
    assert not (folder / "bundle.json").exists()


def test_many_foreign_files_are_counted(folder: Path) -> None:
    for i in range(7):
        (folder / f"{i}.txt").write_text("mine")
    with pytest.raises(InputError, match=r"0\.txt, 1\.txt, 2\.txt and 4 more; nothing was touched"):
        check_replaceable(folder)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        '"text"',
        '{"format": 6}',
        '{"files": ["app.js"]}',
        '{"format": "5", "artifacts": [], "key": "k", "target": "t", "precision": "p"}',
        '{"format": 6, "artifacts": {}, "key": "k", "target": "t", "precision": "p"}',
    ],
)
def test_a_manifest_of_another_program_makes_nothing_ours(folder: Path, text: str) -> None:
    (folder / "bundle.json").write_text(text)
    (folder / "thesis.tex").write_text("mine")
    foreign = sort_contents(folder).foreign
    assert {"bundle.json", "thesis.tex", *OURS} <= set(foreign)


@pytest.mark.parametrize("damage", [b"", b"\0" * 100, b'{"format": 6, "artif', b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_manifest_leaves_the_names_that_exporters_give(folder: Path, damage: bytes) -> None:
    (folder / "bundle.json").write_bytes(damage)
    assert sort_contents(folder).foreign == ("tokenizer/words.bin",), "no exporter's name"
    (folder / "tokenizer" / "words.bin").rename(folder / "tokenizer" / "tokenizer.json")
    check_replaceable(folder)
    (folder / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match=r"thesis\.tex; nothing"):
        check_replaceable(folder)


def test_a_damaged_manifest_alone_is_nobodys_bundle(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text("not json")
    assert sort_contents(tmp_path).foreign == ("bundle.json",)


def test_a_manifest_that_names_what_lies_outside_reaches_nothing_there(folder: Path) -> None:
    (folder.parent / "thesis.tex").write_text("mine")
    named = ["../thesis.tex", str(folder.parent / "thesis.tex"), "transformer/../../thesis.tex", *OURS]
    (folder / "bundle.json").write_text(json.dumps(MANIFEST | {"artifacts": [{"path": name} for name in named]}))
    assert remove_bundle(folder) == ()
    assert (folder.parent / "thesis.tex").read_text() == "mine"


def test_what_killed_runs_left_in_a_bundle_is_swept(folder: Path) -> None:
    parts = [
        part_of_a_dead_process(folder / name) for name in ("report.json", "contact_sheet.png", "transformer/model.sm89.engine")
    ]
    for part in parts:
        part.write_text("half")
    wanted = list_files(folder) - {part.relative_to(folder).as_posix() for part in parts} - {"transformer/model.sm89.engine"}
    sweep_bundle(folder)
    assert list_files(folder) == wanted, "the engine was not named yet"
    assert sort_contents(folder).foreign == ()
