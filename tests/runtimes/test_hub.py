"""A bundle by its hub id, against a hub on loopback: fetched once, held against its manifest, clear where there is none."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bundles import check_refused, list_files, run_command, shared_bundle
from tests.fake_hub import FakeHub, running_hub

REPO = "somebody/a-bundle"
PROMPT = "a red circle"


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_bundle(tmp_path_factory.getbasetemp(), "onnx-int8")


@pytest.fixture
def hub(int8: Path) -> Iterator[FakeHub]:
    with running_hub(REPO) as found:
        found.files |= {name: (int8 / name).read_bytes() for name in list_files(int8)} | {"other.bin": b"not the bundle's"}
        yield found


def environment(hub: FakeHub, cache: Path) -> dict[str, str]:
    return {**os.environ, **hub.environment, "SPRINT_EXPORT_CACHE": str(cache)}


def test_a_hub_id_draws_the_same_picture_and_then_without_the_network(hub: FakeHub, int8: Path, tmp_path: Path) -> None:
    asked = environment(hub, tmp_path / "cache")
    done = run_command("run", REPO, PROMPT, folder=tmp_path, environment=asked)
    assert done.returncode == 0, done.stderr
    own = run_command("run", int8, PROMPT, "-o", "own.png", folder=tmp_path)
    assert own.returncode == 0
    assert (tmp_path / "out.png").read_bytes() == (tmp_path / "own.png").read_bytes()
    [folder] = (tmp_path / "cache" / "bundles").iterdir()
    assert not any(path.is_symlink() for path in folder.rglob("*")), "a bundle may hold no links"
    assert not (folder / "other.bin").exists(), "what the manifest does not name stays there"
    offline = asked | {"HF_HUB_OFFLINE": "1"}
    assert run_command("run", REPO, PROMPT, folder=tmp_path, environment=offline).returncode == 0


ARGUMENTS = {
    "run": (PROMPT,),
    "inspect": (),
    "check": (),
    "bench": (),
    "validate": (),
    "compare": (),
    "report": (),
    "build": (),
    "demo": (),
    "pack": ("--for", "node"),
}


@pytest.mark.parametrize("verb", ARGUMENTS)
def test_without_a_network_status_3_says_what_was_looked_for(verb: str, tmp_path: Path) -> None:
    asked = {**os.environ, "HF_HUB_OFFLINE": "1", "SPRINT_EXPORT_CACHE": str(tmp_path / "cache")}
    done = run_command(verb, REPO, *ARGUMENTS[verb], folder=tmp_path, environment=asked)
    there = tmp_path / "cache" / "bundles" / "somebody--a-bundle"
    said = check_refused(done, 3, f"{REPO} is no folder here, and no copy of a hub id's bundle lies at {there}")
    assert f"cannot reach the Hugging Face hub for '{REPO}'" in said
    assert said.endswith("connect to the network, or give a folder")


def test_verbs_take_a_hub_id_and_fetch_it_once_as_long_as_its_commit_is_the_same(hub: FakeHub, tmp_path: Path) -> None:
    asked = environment(hub, tmp_path / "cache")
    done = run_command("inspect", REPO, "--json", folder=tmp_path, environment=asked)
    assert done.returncode == 0, done.stderr
    [folder] = (tmp_path / "cache" / "bundles").iterdir()
    hub.asked.clear()
    (folder / "report.json").write_text("made here", "utf-8")
    quickly = ("--runs", 1, "--warm-up", 0, "--cold-starts", 0, "--spread", 0, "--against", REPO, "--json")
    done = run_command("bench", REPO, *quickly, folder=tmp_path, environment=asked)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["bundle"] == str(folder)
    assert [each["label"] for each in found["bench"]["others"]] == [REPO], "as it was named"
    assert not any("/resolve/" in line for line in hub.asked), "nothing is fetched again"
    assert (folder / "report.json").read_text("utf-8") == "made here", "and stays"
    (folder / "transformer" / "model.onnx.data").unlink()
    done = run_command("check", REPO, folder=tmp_path, environment=asked)
    assert done.returncode == 0, done.stderr


def test_a_repository_that_is_no_bundle_or_not_there_is_the_users_mistake(hub: FakeHub, tmp_path: Path) -> None:
    asked = environment(hub, tmp_path / "cache")
    del hub.files["bundle.json"]
    check_refused(run_command("run", REPO, PROMPT, folder=tmp_path, environment=asked), 2, "has no bundle.json")
    done = run_command("run", "nobody/there", PROMPT, folder=tmp_path, environment=asked)
    check_refused(done, 2, "'nobody/there' is no folder here, and no hub model")


def test_a_file_of_another_size_is_not_fetched_and_an_altered_one_not_opened(hub: FakeHub, tmp_path: Path) -> None:
    name = "transformer/model.onnx.data"
    hub.sizes[name] = 1 << 40
    done = run_command("run", REPO, PROMPT, folder=tmp_path, environment=environment(hub, tmp_path / "first"))
    check_refused(done, 2, f"{REPO}/{name}: the hub has 1,099,511,627,776 bytes, the manifest says")
    assert not any("resolve" in line and line.endswith(".data") for line in hub.asked)
    hub.sizes.clear()
    hub.files[name] = hub.files[name][:-1] + b"\x7f"
    done = run_command("run", REPO, PROMPT, folder=tmp_path, environment=environment(hub, tmp_path / "second"))
    check_refused(done, 2, "was altered: its sha256 is not the one in bundle.json")
