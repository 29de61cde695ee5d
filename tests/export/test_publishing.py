"""Publishing: old or new at every moment, work that is believed by its hashes, and nothing of anybody else's touched."""

from __future__ import annotations

import dataclasses
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from sprint_export.bundle_files import sort_contents
from sprint_export.devices import find_device
from sprint_export.errors import InputError, SprintExportError
from sprint_export.export import export_student, publishing
from sprint_export.export.bundle import read_bundle
from sprint_export.export.publishing import exchange, open_work_folder, publish_bundle
from sprint_export.files import remove
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.order import Deployment
from sprint_export.nouns.student import Student
from sprint_export.nouns.target import Target
from sprint_export.registry import load_target
from sprint_export.work_folder import claim_bundle
from tests.attack.file_events import die_at
from tests.attack.forks import run_forked
from tests.attack.kill_runs import State, read_state
from tests.bundles import list_files

ONNX: Target = load_target("onnx")
CPU = find_device("cpu")
FP32 = Deployment(ONNX, "fp32", CPU)


@pytest.fixture(scope="module")
def student(tiny_special: Student) -> Student:
    """Two of its networks."""
    components = {role: tiny_special.components[role] for role in ("transformer", "vae_decoder")}
    return dataclasses.replace(tiny_special, components=components)


@pytest.fixture(scope="module")
def made_once(student: Student, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_student(student, FP32, tmp_path_factory.mktemp("made") / "out")


@pytest.fixture
def gathered(made_once: Bundle, tmp_path: Path) -> Bundle:
    """A finished bundle in its work folder, to damage and to publish."""
    work = shutil.copytree(made_once.folder.parent, tmp_path / ".out.partial")
    return dataclasses.replace(made_once, folder=work / "bundle")


def export_and_place(student: Student, out: Path, say: Callable[[str], None] = lambda text: None) -> Bundle:
    return publish_bundle(export_student(student, FP32, out, say=say), out)


def test_a_published_bundle_lies_alone_and_names_all_its_files(gathered: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "out"
    bundle = publish_bundle(gathered, out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert read_bundle(out) == bundle
    assert list_files(out) == {"bundle.json", *(artifact.path for artifact in bundle.artifacts)}
    assert sort_contents(out).foreign == ()


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077], ids=oct)
def test_every_file_of_a_bundle_has_the_mode_of_a_new_one(gathered: Bundle, tmp_path: Path, umask: int) -> None:
    for path in gathered.folder.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    before = os.umask(umask)
    try:
        publish_bundle(gathered, tmp_path / "out")
    finally:
        os.umask(before)
    found = {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in (tmp_path / "out").rglob("*")}
    assert found == {(False, 0o666 & ~umask), (True, 0o777 & ~umask)}


def test_what_the_manifest_does_not_name_is_not_published(gathered: Bundle, tmp_path: Path) -> None:
    wanted = list_files(gathered.folder)
    (gathered.folder / "transformer" / ".model.sm89.layers.txt.4711.part").write_text("half")
    (gathered.folder / "text_encoder.part").mkdir()
    (gathered.folder / "text_encoder.part" / "model.onnx.data").write_text("half")
    (gathered.folder / "link").symlink_to(tmp_path)
    os.mkfifo(gathered.folder / "pipe")
    publish_bundle(gathered, tmp_path / "out")
    assert list_files(tmp_path / "out") == wanted
    assert not os.path.lexists(tmp_path / "out" / "link")


def test_a_foreign_file_is_refused_when_publishing_and_the_finished_work_stays(gathered: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match=r"out holds what is not a bundle's: thesis\.tex; nothing was touched"):
        publish_bundle(gathered, out)
    assert list_files(out) == {"thesis.tex"}
    (out / "thesis.tex").unlink()
    assert read_bundle(publish_bundle(gathered, out).folder).key == gathered.key


def test_a_file_that_comes_in_between_is_kept(gathered: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    shutil.copytree(gathered.folder, out)

    def write_late(first: Path, second: Path) -> bool:
        (second / "thesis.tex").write_text("mine")
        return exchange(first, second)

    monkeypatch.setattr(publishing, "exchange", write_late)
    with pytest.raises(InputError, match=r"thesis\.tex came into the old bundle while it was replaced, and is kept at .*old"):
        publish_bundle(gathered, out)
    assert (tmp_path / ".out.partial" / "old" / "thesis.tex").read_text() == "mine"
    assert read_bundle(out).key == gathered.key


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges two folders in one step")
def test_two_folders_change_places_in_one_step(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert exchange(tmp_path / "a", tmp_path / "b")
    assert list_files(tmp_path) == {"a/b", "b/a"}
    assert not exchange(tmp_path / "a", tmp_path / "absent")


@pytest.mark.parametrize("has_exchange", [True, False])
def test_a_kill_at_any_change_of_a_file_loses_nothing(
    gathered: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_exchange: bool
) -> None:
    if not has_exchange:
        monkeypatch.setattr(publishing, "exchange", lambda first, second: False)
    old_bundle, work, out = tmp_path / "old", tmp_path / ".out.partial", tmp_path / "out"
    shutil.copytree(gathered.folder, old_bundle)
    (old_bundle / "report.json").write_text("{}")
    old, new = read_state(old_bundle), read_state(gathered.folder)
    saved = shutil.copytree(work, tmp_path / "saved")
    seen: list[str] = []
    for number in range(1, 1000):
        for folder in (work, out):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(saved, work)
        shutil.copytree(old_bundle, out)
        ended = run_forked(partial(_place_and_die, gathered, out, number))
        if ended.kind == "returned":
            break
        assert ended.text == "SIGKILL"
        seen.append(_name_state(read_state(out), old, new))
        with claim_bundle(out) as again:
            assert read_state(out) in (old, new)
            if read_state(out) == old:
                publish_bundle(dataclasses.replace(gathered, folder=again / "bundle"), out)
            else:
                publishing.discard_work(again, gathered.key)
        assert read_state(out) == new
        assert not work.exists()
    assert set(seen) == {"old", "new"} | (set() if has_exchange else {"nothing"})
    assert seen == sorted(seen, key=["old", "nothing", "new"].index)
    assert seen.count("nothing") <= 1
    assert len(seen) > 20


def _place_and_die(bundle: Bundle, out: Path, number: int) -> str:
    die_at(number)
    return str(publish_bundle(bundle, out).folder)


def _name_state(found: State, old: State, new: State) -> str:
    return {True: "old"}.get(found == old) or {True: "new"}.get(found == new) or ("half" if found else "nothing")


def test_a_work_folder_is_kept_for_the_same_key_only(tmp_path: Path) -> None:
    with claim_bundle(tmp_path / "out") as work:
        gathering = open_work_folder(work, "key")
        (gathering / "done").write_text("x")
        assert (open_work_folder(work, "key") / "done").exists()
        assert not (open_work_folder(work, "other") / "done").exists()
    assert not (tmp_path / "out").exists()


# What a power cut, a failing disk or a hand may make of a work folder; `out` is a place outside of it.
def _half_zeros(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _become(path: Path, make: Callable[[Path], object]) -> None:
    remove(path)
    make(path)


DAMAGES: dict[str, Callable[[Path, Path], object]] = {
    "weights half zeros": lambda work, _: _half_zeros(work / "bundle/transformer/model.onnx.data"),
    "weights one bit": lambda work, _: _flip(work / "bundle/vae_decoder/model.onnx.data"),
    "graph one bit": lambda work, _: _flip(work / "bundle/vae_decoder/model.onnx"),
    "graph empty": lambda work, _: (work / "bundle/transformer/model.onnx").write_bytes(b""),
    "config empty": lambda work, _: (work / "bundle/transformer/config.json").write_bytes(b""),
    "weights gone": lambda work, _: (work / "bundle/transformer/model.onnx.data").unlink(),
    "component gone": lambda work, _: remove(work / "bundle/transformer"),
    "component a file": lambda work, _: _become(work / "bundle/transformer", Path.touch),
    "record of another": lambda work, _: shutil.copy(work / "records/transformer.json", work / "records/vae_decoder.json"),
    "record gone": lambda work, _: (work / "records/transformer.json").unlink(),
    "record empty": lambda work, _: (work / "records/transformer.json").write_bytes(b""),
    "record one bit": lambda work, _: _flip(work / "records/transformer.json"),
    "record deep": lambda work, _: (work / "records/transformer.json").write_text("[" * 100_000),
    "record not text": lambda work, _: (work / "records/transformer.json").write_bytes(b"\xff\xfe\n\xff"),
    "record a pipe": lambda work, _: _become(work / "records/transformer.json", os.mkfifo),
    "record a folder": lambda work, _: _become(work / "records/transformer.json", Path.mkdir),
    "records a file": lambda work, _: _become(work / "records", Path.touch),
    "records a link": lambda work, out: _become(work / "records", lambda path: path.symlink_to(out)),
    "key not text": lambda work, _: (work / "key").write_bytes(b"\xff\xfe"),
    "key of another": lambda work, _: (work / "key").write_text("another"),
    "key a folder": lambda work, _: _become(work / "key", Path.mkdir),
    "key a pipe": lambda work, _: _become(work / "key", os.mkfifo),
    "tokenizer a file": lambda work, _: _become(work / "bundle/tokenizer", Path.touch),
    "tokenizer a link": lambda work, out: _become(work / "bundle/tokenizer", lambda path: path.symlink_to(out)),
    "scheduler a file": lambda work, _: _become(work / "bundle/scheduler", Path.touch),
    "manifest a pipe": lambda work, _: _become(work / "bundle/bundle.json", os.mkfifo),
    "manifest a folder": lambda work, _: _become(work / "bundle/bundle.json", Path.mkdir),
    "manifest deep": lambda work, _: (work / "bundle/bundle.json").write_text("[" * 100_000),
    "weights a pipe": lambda work, _: _become(work / "bundle/transformer/model.onnx.data", os.mkfifo),
    "weights a link": lambda work, out: _become(
        work / "bundle/transformer/model.onnx.data", lambda path: path.symlink_to(out / "thesis.tex")
    ),
    "bundle a dangling link": lambda work, out: _become(work / "bundle", lambda path: path.symlink_to(out / "absent")),
    "bundle a link": lambda work, out: _become(work / "bundle", lambda path: path.symlink_to(out)),
    "bundle a file": lambda work, _: _become(work / "bundle", Path.touch),
    "making a file": lambda work, _: _become(work / "making", Path.touch),
    "making a link": lambda work, out: _become(work / "making", lambda path: path.symlink_to(out)),
    "temporary a link": lambda work, out: _become(work / "temporary", lambda path: path.symlink_to(out)),
    "old a dangling link": lambda work, out: _become(work / "old", lambda path: path.symlink_to(out / "absent")),
    "model index a folder": lambda work, _: _become(work / "bundle/model_index.json", Path.mkdir),
    "a pipe among them": lambda work, _: os.mkfifo(work / "bundle/pipe"),
    "lock a folder": lambda work, _: _become(work / "lock", Path.mkdir),
}


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder that must stay as it is."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "thesis.tex").write_text("mine")
    yield outside
    assert [path.name for path in outside.iterdir()] == ["thesis.tex"]
    assert (outside / "thesis.tex").read_text() == "mine"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_work_folder_gives_the_undisturbed_bundle(
    gathered: Bundle, student: Student, tmp_path: Path, outside: Path, damage: str
) -> None:
    wanted, said = read_state(gathered.folder), list[str]()
    DAMAGES[damage](tmp_path / ".out.partial", outside)
    export_and_place(student, tmp_path / "out", said.append)
    assert read_state(tmp_path / "out") == wanted
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "outside"]
    if damage.startswith(("weights", "graph", "config")):
        role = "vae_decoder" if "one bit" in damage else "transformer"
        assert len(said) == 1
        assert said[0].endswith(f"is not what was written there; {role} is made again")


@pytest.mark.parametrize("damage", ["published weights", "published manifest"])
def test_a_damaged_bundle_is_replaced(gathered: Bundle, student: Student, tmp_path: Path, damage: str) -> None:
    wanted = read_state(gathered.folder)
    publish_bundle(gathered, tmp_path / "out")
    _flip(tmp_path / "out" / ("bundle.json" if damage == "published manifest" else "transformer/model.onnx.data"))
    with pytest.raises(SprintExportError):
        read_bundle(tmp_path / "out")
    export_and_place(student, tmp_path / "out")
    assert read_state(tmp_path / "out") == wanted
