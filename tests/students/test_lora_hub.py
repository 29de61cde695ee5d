"""A LoRA by its hub id: one file of a repository is fetched, then found in the cache; what is not there is said with what is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from safetensors.torch import save_file

from sprint_export.errors import InputError, MachineError
from sprint_export.nouns.parts import Lora, Parts
from sprint_export.nouns.student import Student
from sprint_export.students import load_student
from sprint_export.students.source import check_source, find_absent
from tests.fake_hub import running_hub
from tests.students.test_lora import FORMS, Tensors, check_merged, make_factors, spell

REPO = "somebody/styles"
LOAD = """
import json, sys
from pathlib import Path
from huggingface_hub import constants
from sprint_export.nouns.parts import NO_PARTS, Parts, read_lora
from sprint_export.students import load_student
from sprint_export.students.source import find_absent

student, *loras = sys.argv[1:]
parts, found = Parts(tuple(map(read_lora, loras))), [find_absent(student, Parts(tuple(map(read_lora, loras))))]
for offline in (False, True):
    constants.HF_HUB_OFFLINE = offline
    loaded = load_student(student, parts=parts)
    found.append([loaded.fingerprint, *loaded.components["transformer"].notes])
print(json.dumps([*found, find_absent(student, parts)]))
"""


@dataclass
class Cached:
    """A repository in the hub's cache, and what was asked of it."""

    root: Path
    asked: list[set[str]]


@pytest.fixture(scope="module")
def factors(made: Student) -> Tensors:
    return make_factors(made)


@pytest.fixture
def snapshot(factors: Tensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cached:
    """A repository of three LoRAs, which the hub's client finds in its cache at once."""
    root = tmp_path / "hub" / "models--somebody--styles" / "snapshots" / "0123abc"
    for name in ("night.safetensors", "day.safetensors", "peft/adapter_model.safetensors"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        save_file(spell(factors, FORMS["bare"]), root / name)
    (root / "peft" / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 8}))
    (root / "README.md").write_text("styles")
    siblings = [SimpleNamespace(rfilename=str(path.relative_to(root))) for path in root.rglob("*") if path.is_file()]

    class Api:
        def model_info(self, repo: str, revision: str | None) -> Any:
            assert (repo, revision) == (REPO, None)
            return SimpleNamespace(siblings=siblings)

    def snapshot_download(repo: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append(set(allow_patterns))
        return str(root)

    asked: list[set[str]] = []
    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return Cached(root, asked)


def load(folder: Path, name: str, scale: float = 1.0) -> Student:
    return load_student(folder, parts=Parts((Lora(Path(name), scale),)))


def test_one_file_or_the_one_of_a_folder(snapshot: Cached, made: Student, made_folder: Path, factors: Tensors) -> None:
    day = load(made_folder, f"{REPO}/day.safetensors", 0.5)
    check_merged(day, made, factors, 0.5)
    assert day.parts.lora == (Lora(snapshot.root / "day.safetensors", 0.5, f"{REPO}/day.safetensors"),)
    assert day.components["transformer"].notes[-1].startswith(f"lora: {REPO}/day.safetensors x 0.5, 3 layers")
    check_merged(load(made_folder, f"{REPO}/peft"), made, factors, 8 / 4)
    assert snapshot.asked == [
        {"day.safetensors", "adapter_config.json"},
        {"peft/adapter_model.safetensors", "peft/adapter_config.json"},
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            REPO,
            f"--lora {REPO}: expected a folder with one LoRA, adapter_model or .* found day.safetensors, night.safetensors; name",
        ),
        (
            f"{REPO}/dusk.safetensors",
            f"{REPO} has no dusk.safetensors; its files of weights: day.safetensors, night.safetensors, peft/",
        ),
        (f"{REPO}/none", f"{REPO} has no none; its files of weights: day.safetensors, night.safetensors, peft/adapter_model"),
    ],
)
def test_what_a_repository_has_is_listed(snapshot: Cached, made_folder: Path, name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load(made_folder, name)


def test_without_a_network_it_is_the_machines_lack(made_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    name = "nobody/nothing/style.safetensors"
    parts = Parts((Lora(Path(name)),))
    check_source(made_folder, parts)
    assert find_absent(made_folder, parts) == name
    with pytest.raises(MachineError) as caught:
        load(made_folder, name)
    for part in (
        "'nobody/nothing' and it is not in the local cache. Connect",
        "a file downloaded elsewhere; there is no file",
        name,
    ):
        assert part in str(caught.value)


def test_a_file_of_that_name_here_comes_first(
    made_folder: Path, factors: Tensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "somebody" / "styles").mkdir(parents=True)
    save_file(spell(factors, FORMS["bare"]), tmp_path / "somebody" / "styles" / "day.safetensors")
    monkeypatch.chdir(tmp_path)
    found = load(made_folder, f"{REPO}/day.safetensors").parts.lora[0]
    assert found == Lora(tmp_path / "somebody" / "styles" / "day.safetensors")


def test_from_a_hub_once_and_then_from_its_cache(made_folder: Path, factors: Tensors, tmp_path: Path) -> None:
    """huggingface_hub itself, beside a hub on loopback."""
    save_file(spell(factors, FORMS["bare"]), tmp_path / "day.safetensors")
    with running_hub(REPO) as hub:
        hub.files |= {"day.safetensors": (tmp_path / "day.safetensors").read_bytes(), "other.bin": b"pickles are not fetched"}
        environment = {**os.environ, **hub.environment, "HF_HOME": str(tmp_path / "cache")}
        command = [sys.executable, "-c", LOAD, str(made_folder), f"{REPO}:0.5"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        fetched = [line for line in hub.asked if line.startswith("GET") and "/resolve/" in line]
    absent, online, offline, at_hand = json.loads(done.stdout)
    assert (absent, at_hand) == (REPO, None)
    assert online == offline
    assert online[1].startswith(f"lora: {REPO} x 0.5, 3 layers")
    assert [line.rpartition("/")[2] for line in fetched] == ["day.safetensors"]
