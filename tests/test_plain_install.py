"""`pip install .`, without extras: it opens, draws, checks and times bundles, and lacks all that needs PyTorch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sprint_export.export.bundle import read_bundle
from tests.bundles import check_refused, copy_bundle, edit_manifest, shared_bundle
from tests.plain_install import list_brought, list_missing, run_plain

TARGET = "onnx-int8"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_bundle(tmp_path_factory.getbasetemp(), TARGET)


def test_a_plain_install_brings_neither_torch_nor_scipy() -> None:
    heavy = {"torch", "diffusers", "transformers", "onnx", "scipy", "skimage", "matplotlib", "safetensors"}
    assert heavy <= list_missing()
    assert {"numpy", "onnxruntime", "pillow", "rich", "tokenizers", "typer"} <= list_brought()
    assert not list_missing() & {"numpy", "onnxruntime", "PIL", "rich", "tokenizers", "typer", "google", "huggingface_hub"}


@pytest.mark.parametrize(
    ("verb", "arguments", "said"),
    [
        ("inspect", (), "as onnx-int8 for cpu"),
        ("run", ("a red circle above a blue square", "-o", "picture.png"), "picture.png"),
        ("check", (), "bit for bit"),
        ("bench", ("--runs", 1), "whole picture"),
    ],
)
def test_a_plain_install_runs_the_verb(bundle: Path, tmp_path: Path, verb: str, arguments: tuple[object, ...], said: str) -> None:
    done = run_plain(verb, bundle, *arguments, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout


def test_a_plain_install_validates_against_the_reference_and_joins_results(bundle: Path, tmp_path: Path) -> None:
    done = run_plain("validate", bundle, "--out", "result.json", "--label", "plain", "--runs", 1, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "PyTorch is not installed: the bundle is compared with its reference/ alone" in done.stderr
    assert "9 pictures" in done.stdout and "not checked: PyTorch was not run" in done.stdout
    done = run_plain("report", "--merge", bundle, "result.json", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    [device] = json.loads(done.stdout)["devices"]
    found = {row["metric"]: row["value"] for row in device["rows"] if not row["component"]}
    assert (device["label"], found["reference_psnr_worst_db"], found["reference_same_percent"]) == ("plain", 100, 100)


def test_a_plain_install_says_what_a_validation_beside_pytorch_takes(bundle: Path, tmp_path: Path) -> None:
    done = run_plain("validate", bundle, "--count", 4, folder=tmp_path)
    check_refused(done, 3, "torch is not installed; run: pip install 'sprint-export[export]'")


def test_a_plain_install_says_what_making_a_bundle_takes(tmp_path: Path) -> None:
    done = run_plain("--target", "onnx-int8", "--out", "out", folder=tmp_path)
    check_refused(done, 3, "is not installed; run: pip install 'sprint-export[export]'")
    assert not (tmp_path / "out").exists()


def test_copies_and_bundles_with_other_engines_have_one_identity(bundle: Path, tmp_path: Path) -> None:
    known = read_bundle(bundle).identity
    copy = copy_bundle(bundle, tmp_path / "copy")
    assert read_bundle(copy).identity == known
    engine = copy / "transformer" / "model.sm89.engine"
    shutil.copy(copy / "tokenizer" / "tokenizer.json", engine)
    artifacts = json.loads((copy / "bundle.json").read_text("utf-8"))["artifacts"]
    added = next(each for each in artifacts if each["path"] == "tokenizer/tokenizer.json")
    added |= {"role": "transformer", "kind": "engine", "path": "transformer/model.sm89.engine", "device": "rtx-4090"}
    edit_manifest(copy, lambda value: value["artifacts"].append(added))
    assert read_bundle(copy).identity == known
    edit_manifest(copy, lambda value: value.update(key="0" * len(value["key"])))
    assert read_bundle(copy).identity != known
