"""Uploads, against a hub on loopback: what is sent, and what is refused before anything is."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sprint_export.export.bundle import read_manifest
from tests.bundles import check_refused, copy_bundle, list_files, run_command, shared_bundle
from tests.fake_hub import TOKEN, FakeHub, running_hub

REPO = "somebody/a-bundle"


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_bundle(tmp_path_factory.getbasetemp(), "onnx-int8")


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with running_hub(REPO) as found:
        yield found


def environment(hub: FakeHub, home: Path, token: str | None = TOKEN) -> dict[str, str]:
    asked = {**os.environ, **hub.environment, "HF_HOME": str(home / "hub"), "SPRINT_EXPORT_CACHE": str(home / "cache")}
    return asked if token is None else asked | {"HF_TOKEN": token}


def test_a_bundle_goes_to_the_hub_and_comes_back_the_same(int8: Path, hub: FakeHub, tmp_path: Path) -> None:
    folder = copy_bundle(int8, tmp_path / "bundle")
    (folder / "notes.txt").write_text("the owner's")
    asked = environment(hub, tmp_path)
    done = run_command("upload", folder, REPO, "--private", folder=tmp_path, environment=asked)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{hub.address}/{REPO}\n"
    assert hub.made["private"] is True
    named = {artifact.path for artifact in read_manifest(folder).artifacts}
    assert set(hub.files) == named | {"bundle.json", "README.md", "report.json", "report.html", "contact_sheet.png"}, (
        "and nothing else"
    )
    assert {name: data for name, data in hub.files.items() if data != (folder / name).read_bytes()} == {}
    pictures = [run_command("run", each, "a red circle", "-o", "-{seed}.png", "--json", folder=tmp_path, environment=asked)
                for each in (folder, REPO)]  # fmt: skip
    assert [each.returncode for each in pictures] == [0, 0], pictures[1].stderr
    assert len({json.loads(each.stdout)["bundle_sha256"] for each in pictures}) == 1


def test_nothing_is_sent_of_a_bundle_whose_gates_are_not_met_unless_asked(int8: Path, hub: FakeHub, tmp_path: Path) -> None:
    folder, asked = copy_bundle(int8, tmp_path / "bundle"), environment(hub, tmp_path)
    report = json.loads((folder / "report.json").read_text("utf-8"))
    row = next(row for row in report["rows"] if row["metric"] == "psnr_db")
    row |= {"verdict": "not met", "limit": "psnr_db>=99"}
    (folder / "report.json").write_text(json.dumps(report), "utf-8")
    done = run_command("upload", folder, REPO, folder=tmp_path, environment=asked)
    check_refused(done, 2, "gate not met: psnr_db", "upload --anyway")
    (folder / "report.json").unlink()
    check_refused(run_command("upload", folder, REPO, folder=tmp_path, environment=asked), 2, "was not validated")
    assert hub.files == {}
    assert run_command("upload", folder, REPO, "--anyway", folder=tmp_path, environment=asked).returncode == 0
    assert b"Nothing was measured" in hub.files["README.md"]


def test_what_an_upload_lacks_is_said_before_any_work(int8: Path, hub: FakeHub, tmp_path: Path) -> None:
    order = ("--target", "onnx-int8", "--out", "made", "--upload-repo", REPO)

    def refuse(status: int, *parts: str, token: str | None = TOKEN, more: tuple[str, ...] = (), **changed: str) -> None:
        asked = environment(hub, tmp_path, token) | changed
        check_refused(run_command(*order, *more, folder=tmp_path, environment=asked), status, *parts)
        assert not (tmp_path / "made").exists()

    refuse(3, "HF_HUB_OFFLINE is set, so nothing is sent", HF_HUB_OFFLINE="1")
    refuse(3, "cannot reach the Hugging Face hub", "connect to the network", HF_ENDPOINT="http://127.0.0.1:1")
    refuse(2, "there is no token; log in with hf auth login", token=None)
    refuse(2, "the hub does not know this token", token="hf_other")
    refuse(2, "expected a validated bundle", more=("--no-validate",))
    refuse(2, "takes one bundle", more=("--target", "onnx-int8,onnx-fp16"))
    check_refused(run_command("upload", int8, "noname", folder=tmp_path), 2, "expected OWNER/NAME")
    assert hub.files == {}
    assert list_files(tmp_path) == set() or all("made" not in name for name in list_files(tmp_path))
