"""What a page takes of a bundle: the files that app.json names, each as it should be, and nothing outside the folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from sprint_export.demo.app_files import read_app
from sprint_export.demo.npm_files import read_packages
from sprint_export.demo.site_files import PAGE, check_runs
from sprint_export.demo.suggestions import LONGEST, MOST, choose_suggestions
from sprint_export.errors import BundleError, InputError, RefusedError
from sprint_export.export.bundle import make_artifact, write_bundle
from sprint_export.json_forms import to_json
from tests.bundles import edit_manifest
from tests.demo.small_app import GRAPH, TOKENIZER, describe, make_small_app
from tests.small_bundle import make_small_bundle


def test_an_app_is_its_files_and_its_references(tmp_path: Path) -> None:
    app = read_app(make_small_app(tmp_path / "app"))
    assert [file.path for file in app.files] == ["app.json", GRAPH, TOKENIZER]
    assert [file.path for file in app.references] == ["reference/reference.json", "reference/picture.png"]
    assert (app.name, app.target, app.prompts) == ("someone/student", "onnx-int8", ("a red circle", "a blue square"))
    assert app.files[1].bytes == len(b"graph")


def test_an_app_without_a_reference_is_whole(tmp_path: Path) -> None:
    app = read_app(make_small_app(tmp_path / "app", reference=None, examples=[]))
    assert (app.references, app.prompts) == ((), ())


def test_the_licences_of_a_packed_folder_go_where_its_files_go(tmp_path: Path) -> None:
    folder = make_small_app(tmp_path / "app")
    (folder / "LICENCES.txt").write_text("MIT", "utf-8")
    assert [file.path for file in read_app(folder).files] == ["app.json", "LICENCES.txt", GRAPH, TOKENIZER]


def test_a_folder_without_app_json_is_no_app(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no app\.json.*expected the folder of a bundle"):
        read_app(tmp_path)
    with pytest.raises(InputError, match="is not there"):
        read_app(tmp_path / "nowhere")


def test_a_bundle_without_app_json_says_why(tmp_path: Path) -> None:
    bundle = make_small_bundle(tmp_path)
    with pytest.raises(InputError, match=r"has no app\.json.*make the bundle again with this version"):
        read_app(tmp_path)
    write_bundle(dataclasses.replace(bundle, options={**bundle.options, "batch": 4}))
    with pytest.raises(InputError, match=r"take 4 prompts at once.*cost what 4 do; leave --batch out"):
        read_app(tmp_path)
    write_bundle(dataclasses.replace(bundle, components=bundle.components[:1]))
    with pytest.raises(InputError, match=r"exported with --component, without text_encoder, vae_decoder"):
        read_app(tmp_path)


@pytest.mark.parametrize("content", [b"grapH", b"graph and more", b""])
def test_an_altered_file_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = make_small_app(tmp_path / "app")
    (folder / GRAPH).write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.onnx has .*(another sha256|bytes, expected 5)"):
        read_app(folder)


def test_a_changed_letter_of_app_json_is_found_where_the_manifest_lies_beside_it(tmp_path: Path) -> None:
    bundle = make_small_bundle(tmp_path / "bundle")
    folder = make_small_app(tmp_path / "app")
    named = make_artifact(folder, folder / "app.json", "app", "app", "json")
    (folder / "bundle.json").write_bytes((bundle.folder / "bundle.json").read_bytes())
    edit_manifest(folder, lambda value: value["artifacts"].append(to_json(named)))
    assert read_app(folder).name == "someone/student"
    (folder / "app.json").write_text((folder / "app.json").read_text("utf-8").replace("someone", "somebody"), "utf-8")
    with pytest.raises(BundleError, match=r"app\.json is not the one that bundle\.json names; it was altered"):
        read_app(folder)


def test_a_file_is_named_once(tmp_path: Path) -> None:
    """Else a large one, named ten thousand times, would be hashed for hours."""
    folder = make_small_app(tmp_path / "app")
    value = json.loads((folder / "app.json").read_text("utf-8"))
    (folder / "app.json").write_text(json.dumps(value | {"files": value["files"] * 5000}), "utf-8")
    with pytest.raises(BundleError, match=r"names 'decoder/model\.onnx' twice; expected every file once"):
        read_app(folder)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    folder = make_small_app(tmp_path / "app")
    (folder / TOKENIZER).unlink()
    with pytest.raises(BundleError, match=r"lacks 'tokenizer/tokenizer\.json'"):
        read_app(folder)


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "decoder/../../secret", "C:/secret", "decoder\\secret"])
def test_a_path_outside_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "secret").write_bytes(b"graph")
    folder = make_small_app(tmp_path / "app", files=[describe(path, b"graph")])
    with pytest.raises(BundleError, match="outside"):
        read_app(folder)


def test_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"graph")
    folder = make_small_app(tmp_path / "app")
    (folder / GRAPH).unlink()
    (folder / GRAPH).symlink_to(tmp_path / "secret")
    with pytest.raises(BundleError, match="is a link"):
        read_app(folder)


def test_a_reference_that_names_a_file_outside_is_refused(tmp_path: Path) -> None:
    folder = make_small_app(tmp_path / "app")
    (folder / "reference/reference.json").write_text('{"file": "../secret"}', "utf-8")
    with pytest.raises(BundleError, match="outside"):
        read_app(folder)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": 3},
        {"files": {}},
        {"files": ["decoder/model.onnx"]},
        {"files": [{"path": "a", "bytes": True, "sha256": "0" * 64}]},
        {"files": [{"path": "a", "bytes": 1, "sha256": "0"}]},
        {"runtimes": {"onnxruntime": 1}},
        {"reference": 3},
    ],
)
def test_an_app_json_that_cannot_be_is_refused(tmp_path: Path, fields: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match=r"app\.json"):
        read_app(make_small_app(tmp_path / "app", **fields))


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    folder = make_small_app(tmp_path / "app")
    (folder / "app.json").write_text("[" * 100_000, "utf-8")
    with pytest.raises(BundleError, match=r"app\.json: "):
        read_app(folder)


def test_a_bundle_for_another_runtime_is_refused_with_targets_that_will_do(tmp_path: Path) -> None:
    app = read_app(make_small_app(tmp_path / "app", target="other-fp8", runtimes={"other": "1"}))
    with pytest.raises(RefusedError, match=r"is a other-fp8 bundle, for other; .*--target .*onnx-int8") as caught:
        check_runs(app, read_packages(PAGE))
    assert "trt" not in str(caught.value)
    assert "openvino" not in str(caught.value)


def test_a_bundle_for_a_newer_runtime_is_refused(tmp_path: Path) -> None:
    app = read_app(make_small_app(tmp_path / "app", runtimes={"onnxruntime": "9.1.0"}))
    with pytest.raises(RefusedError, match=r"needs ONNX Runtime 9\.1\.0 or newer; the page has 1\."):
        check_runs(app, read_packages(PAGE))


def test_suggestions_begin_with_the_reference_and_are_the_students_own() -> None:
    found = choose_suggestions(["a  red\ncircle", "a red circle", "x" * (LONGEST + 1)], "sprint-tiny")
    assert found[0] == "a red circle"
    assert len(found) == MOST == len(set(found))
    assert all("square" in prompt or "circle" in prompt or "triangle" in prompt for prompt in found)


@pytest.mark.parametrize("name", ["someone/student", "../../etc", ""])
def test_a_student_from_elsewhere_gets_the_packages_prompts(name: str) -> None:
    assert "a bowl of ramen with steam" not in choose_suggestions([], "sprint-tiny")
    assert len(choose_suggestions([], name)) == MOST
