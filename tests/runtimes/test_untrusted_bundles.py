"""Bundles that somebody altered and signed again: nothing is read that the manifest does not name, damage is one line."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sprint_export.conversion import convert
from sprint_export.errors import BundleError, InputError
from sprint_export.export.bundle import make_artifact, read_bundle, write_bundle
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.student import Student
from sprint_export.runtimes import open_bundle
from sprint_export.validate import validate_bundle
from tests.attack.forks import was_read, watch_reads
from tests.bundles import copy_bundle, drop_app, edit_manifest

PROMPT = "a red circle"


@pytest.fixture(scope="module")
def fp32(tiny_student: Student, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fp32") / "bundle"
    convert(tiny_student, "onnx-fp32", folder, prompts=[PROMPT], validate=False)
    return folder


@pytest.fixture
def folder(fp32: Path, tmp_path: Path) -> Path:
    return drop_app(copy_bundle(fp32, tmp_path / "bundle"))


def sign_again(folder: Path, path: str) -> Bundle:
    """Describe a file as it is now, and the manifest with it."""
    bundle = read_bundle_unchecked(folder)
    old = next(artifact for artifact in bundle.artifacts if artifact.path == path)
    new = make_artifact(folder, folder / path, old.role, old.kind, old.format)
    bundle = dataclasses.replace(
        bundle, artifacts=tuple(new if artifact.path == path else artifact for artifact in bundle.artifacts)
    )
    write_bundle(bundle)
    return bundle


def read_bundle_unchecked(folder: Path) -> Bundle:
    """The manifest alone, in another folder whose files are empty ones of the right size."""
    value = json.loads((folder / "bundle.json").read_text())
    ghost = folder.parent / "ghost"
    for artifact in value["artifacts"]:
        (ghost / artifact["path"]).parent.mkdir(parents=True, exist_ok=True)
        with (ghost / artifact["path"]).open("wb") as file:
            file.truncate(artifact["bytes"])
    (ghost / "bundle.json").write_bytes((folder / "bundle.json").read_bytes())
    return dataclasses.replace(read_bundle(ghost, verify=False), folder=folder)


def edit_tokenizer(folder: Path, change: Any) -> None:
    path = folder / "tokenizer" / "tokenizer.json"
    value = json.loads(path.read_text("utf-8"))
    change(value)
    path.write_text(json.dumps(value), "utf-8")
    sign_again(folder, "tokenizer/tokenizer.json")


def test_the_bundle_itself_draws(folder: Path) -> None:
    assert open_bundle(folder)([PROMPT]).std() > 10


def test_a_tokenizer_that_is_not_named_is_not_read(folder: Path) -> None:
    edit_manifest(folder, lambda value: value.update(artifacts=[a for a in value["artifacts"] if a["role"] != "tokenizer"]))
    with pytest.raises(BundleError, match=r"artifacts: found no tokenizer/tokenizer\.json, expected the tokenizer among them"):
        open_bundle(folder)


def test_a_link_that_is_not_named_is_not_followed(folder: Path, tmp_path: Path, tiny_student: Student) -> None:
    """Validation looked for edits under a name of its own."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"x" * 100)
    (folder / "transformer" / "quantization.safetensors").symlink_to(outside / "secret")
    watch_reads(outside)
    with pytest.raises(BundleError, match=r"holds 'transformer/quantization\.safetensors', which is no regular file"):
        validate_bundle(folder, tiny_student, [PROMPT])
    assert was_read(outside) == []


@pytest.mark.parametrize("place", ["transformer/x", "transformer/deep/x", "vae_decoder/model.onnx.data2"])
def test_a_fifo_beside_a_graph_is_refused(folder: Path, place: str) -> None:
    (folder / place).parent.mkdir(exist_ok=True)
    os.mkfifo(folder / place)
    with pytest.raises(BundleError, match=f"holds '{place}', which is no regular file"):
        open_bundle(folder)


def test_weights_that_are_not_named_are_not_read(folder: Path) -> None:
    edit_manifest(folder, lambda value: value.update(artifacts=[a for a in value["artifacts"] if a["kind"] != "weights"]))
    with pytest.raises(BundleError, match=r"model\.onnx\.data lies beside model\.onnx and the manifest does not name it"):
        open_bundle(folder)


def test_a_file_that_no_reader_looks_for_is_ignored(folder: Path) -> None:
    (folder / "thesis.tex").write_text("x")
    (folder / "transformer" / "notes.txt").write_text("x")
    assert open_bundle(folder)([PROMPT]).std() > 10


def test_fifty_thousand_added_tokens_take_no_minute(folder: Path) -> None:
    same = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    edit_tokenizer(
        folder, lambda value: value["added_tokens"].extend({"id": 1000 + i, "content": f"<{i}>"} | same for i in range(50_000))
    )
    start = time.monotonic()
    open_bundle(folder)([PROMPT])
    assert time.monotonic() - start < 30


def test_ids_beyond_the_vocabulary_are_one_line(folder: Path) -> None:
    edit_tokenizer(folder, lambda value: value["model"].update(vocab={w: i + 10**6 for w, i in value["model"]["vocab"].items()}))
    with pytest.raises(BundleError, match="the text encoder knows 0 to 63: they do not belong together"):
        open_bundle(folder)([PROMPT])


def test_a_template_that_does_not_fit_is_one_line(folder: Path) -> None:
    single = [{"SpecialToken": {"id": "x", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    tokens = {"x": {"id": "x", "ids": [1], "tokens": ["y", "z"]}}
    template = {"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": tokens}
    edit_tokenizer(folder, lambda value: value.update(post_processor=template))
    with pytest.raises((BundleError, InputError)) as caught:
        open_bundle(folder)([PROMPT])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [np.float32("nan"), np.float32("inf"), np.float32(3e38)])
@pytest.mark.filterwarnings("error")
def test_weights_that_are_no_numbers_draw_nothing(folder: Path, value: np.float32) -> None:
    path = folder / "vae_decoder" / "model.onnx.data"
    path.write_bytes(np.full(path.stat().st_size // 4, value, np.float32).tobytes())
    sign_again(folder, "vae_decoder/model.onnx.data")
    with pytest.raises(BundleError, match=r"vae_decoder gave \d+ of \d+ values of 'image' that are NaN or infinite"):
        open_bundle(folder)([PROMPT])


def test_networks_of_another_width_are_said_when_opened(folder: Path) -> None:
    def widen(value: Any) -> None:
        text = json.dumps(value["components"]).replace("[1, 300, 48]", "[1, 300, 47]")
        value["components"] = json.loads(text)

    edit_manifest(folder, widen)
    with pytest.raises(BundleError, match=r"'prompt_embeds' as float32 \[1, 300, 48\], the manifest says float32 \[1, 300, 47\]"):
        open_bundle(folder)
