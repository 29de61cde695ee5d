"""bundle.json: every noun survives the round trip, and a bundle that does not fit its manifest is refused with the reason."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from sprint_export.bundle_files import MANIFEST
from sprint_export.devices import list_devices
from sprint_export.errors import BundleError, InputError
from sprint_export.export.bundle import (
    FORMAT,
    add_artifacts,
    find_artifact,
    locate,
    locate_kind,
    read_bundle,
    write_bundle,
)
from sprint_export.export.safe_files import hash_bytes
from sprint_export.json_forms import from_json, to_json
from sprint_export.nouns.bundle import Artifact, Bundle
from sprint_export.nouns.report import BlockError, Measurement, PictureRow, Report
from sprint_export.nouns.student import PromptPlan, StepPlan, TensorSpec
from tests.bundles import edit_manifest
from tests.small_bundle import LAYER, RECIPE, make_record, make_small_bundle

SPEC = TensorSpec("latents", "float32", (1, "height", 8), "noise")
RECORD = make_record("transformer")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A bundle of seven files."""
    return make_small_bundle(tmp_path / "bundle")


NOUNS = [
    SPEC,
    LAYER,
    dataclasses.replace(LAYER, weight_axis=0),
    RECORD,
    RECIPE,
    StepPlan((1.0, 0.1 + 0.2), 4.5, "bfloat16"),
    PromptPlan("a\n", False, 3, 2, 0),
    Artifact("vae_decoder", "engine", "a/b", "engine", 3, "00", "rtx-4090"),
    Measurement("psnr_db", 45.1, "dB", "transformer", ">=30", "not decided", "why", (44.0, 46.5), 16),
    Measurement("bytes", 3.0, "B"),
    PictureRow(3, '<b> & "c"', {"psnr_db": 41.5}, ("adherence_percent",)),
    BlockError("transformer", "transformer_blocks.3", 4, 41.5, 1e-3, 44.0, True),
    Report("b", "trt-fp8", "runtime", "machine", 2, (Measurement("p50_ms", 1.5, "ms"),), 3.5, unchecked=("engines: no GPU",)),
]


@pytest.mark.parametrize("noun", NOUNS, ids=lambda noun: type(noun).__name__)
def test_a_noun_survives_json(noun: Any) -> None:
    assert from_json(type(noun), json.loads(json.dumps(to_json(noun)))) == noun


def test_a_bundle_survives_json(bundle: Bundle) -> None:
    assert read_bundle(bundle.folder) == bundle
    assert json.loads((bundle.folder / MANIFEST).read_text())["format"] == FORMAT
    assert str(bundle.folder) not in (bundle.folder / MANIFEST).read_text(), "a bundle can be moved"


def test_a_moved_bundle_reads_the_same(bundle: Bundle, tmp_path: Path) -> None:
    moved = bundle.folder.rename(tmp_path / "elsewhere")
    assert read_bundle(moved) == dataclasses.replace(bundle, folder=moved)


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (
            {"times": [1.0], "guidance": 4.5, "counts": [], "starts_from_noise": False},
            "expected fields ['counts', 'dtype', 'guidance', 'starts_from_noise', 'times'], found ['counts'",
        ),
        ({"times": [1.0], "guidance": 4.5, "dtype": "x", "counts": [], "starts_from_noise": False, "more": 1}, "expected fields"),
        (
            {"times": ["1"], "guidance": 4.5, "dtype": "x", "counts": [], "starts_from_noise": False},
            "StepPlan.times[0]: expected float, found '1'",
        ),
        (
            {"times": 1.0, "guidance": 4.5, "dtype": "x", "counts": [], "starts_from_noise": False},
            "StepPlan.times: expected a list, found float",
        ),
        (
            {"times": [1.0], "guidance": True, "dtype": "x", "counts": [], "starts_from_noise": False},
            "StepPlan.guidance: expected float, found True",
        ),
        (
            {"times": [1.0], "guidance": None, "dtype": "x", "counts": [], "starts_from_noise": False},
            "StepPlan.guidance: expected float, found None",
        ),
        ([], "StepPlan: expected an object, found list"),
    ],
)
def test_a_value_of_another_type_is_named(value: Any, part: str) -> None:
    with pytest.raises((TypeError, KeyError)) as caught:
        from_json(StepPlan, value)
    assert part in str(caught.value)


def test_an_integer_is_a_float_but_not_the_reverse() -> None:
    assert from_json(StepPlan, {"times": [1], "guidance": 4, "dtype": "x", "counts": [], "starts_from_noise": False}) == StepPlan(
        (1.0,), 4.0, "x"
    )
    with pytest.raises(TypeError, match=r"PromptPlan\.tokens: expected int, found 3\.5"):
        from_json(PromptPlan, to_json(PromptPlan("", True, 1, 1, 0)) | {"tokens": 3.5})


def edit(**values: Any) -> Callable[[Path], None]:
    return lambda folder: edit_manifest(folder, lambda value: value.update(values))


def point(path: str) -> Callable[[Path], None]:
    return lambda folder: edit_manifest(folder, lambda value: value["artifacts"][0].update(path=path))


def write(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / MANIFEST).write_text(text)


def change_data(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        path = folder / "transformer" / "model.onnx.data"
        path.write_bytes(change(path.read_bytes()))

    return apply


def link_outside(folder: Path) -> None:
    path = folder / "transformer" / "model.onnx"
    outside = folder.parent / "outside.onnx"
    path.rename(outside)
    path.symlink_to(outside)


def link_folder(folder: Path) -> None:
    (folder / "transformer").rename(folder.parent / "elsewhere")
    (folder / "transformer").symlink_to(folder.parent / "elsewhere")


def link_to_itself(folder: Path) -> None:
    path = folder / "transformer" / "model.onnx"
    path.unlink()
    path.symlink_to(path)


def put_fifo(folder: Path) -> None:
    path = folder / "transformer" / "model.onnx"
    path.unlink()
    os.mkfifo(path)


def link_manifest(folder: Path) -> None:
    (folder / MANIFEST).rename(folder.parent / "kept.json")
    (folder / MANIFEST).symlink_to(folder.parent / "kept.json")


def fold(path: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / path).unlink()
        (folder / path).mkdir()

    return change


OUTSIDE = "which lies outside the bundle; do not use this bundle"
BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "not JSON": (write('{"format": 1, '), "bundle.json is damaged (Expecting property name"),
    "empty": (write(""), "bundle.json is damaged"),
    "a list": (write("[]"), "bundle.json is damaged"),
    "bytes": (lambda folder: (folder / MANIFEST).write_bytes(b"\xff\xfe{"), "bundle.json is damaged"),
    "nested too deep": (write("[" * 100_000), "bundle.json is damaged"),
    "no format": (write("{}"), "bundle.json is damaged ('format')"),
    "a newer format": (
        edit(format=FORMAT + 1),
        f"has format {FORMAT + 1}, this version reads {FORMAT}; export the student again",
    ),
    "a format that is a text": (edit(format=str(FORMAT)), f"has format '{FORMAT}', this version reads {FORMAT}"),
    "a format that is a fraction": (edit(format=float(FORMAT)), f"has format {FORMAT}.0, this version reads {FORMAT}"),
    "another field": (edit(more=1), "expected fields"),
    "a field of another type": (edit(latent_shape=[4, "16"]), "Bundle.latent_shape[1]: expected int, found '16'"),
    "a missing plan": (edit(plan=None), "Bundle.plan: expected an object, found NoneType"),
    "truncated": (change_data(lambda data: data[:-1]), "model.onnx.data has 699 bytes, expected 700; it is truncated"),
    "longer": (change_data(lambda data: data + b"x"), "model.onnx.data has 701 bytes, expected 700"),
    "altered": (
        change_data(lambda data: b"W" + data[1:]),
        "model.onnx.data was altered: its sha256 is not the one in bundle.json",
    ),
    "missing": (
        lambda folder: (folder / "transformer" / "model.onnx").unlink(),
        "model.onnx is missing; the bundle is incomplete",
    ),
    "a folder in its place": (fold("transformer/model.onnx"), "names 'transformer/model.onnx', which is no regular file"),
    "above": (point("../outside.onnx"), OUTSIDE),
    "above and back": (point("transformer/../../bundle2/model.onnx"), OUTSIDE),
    "absolute": (point("/etc/hostname"), OUTSIDE),
    "a drive": (point("C:model.onnx"), OUTSIDE),
    "backwards": (point("..\\model.onnx"), OUTSIDE),
    "a link to outside": (link_outside, "names 'transformer/model.onnx', which is a link"),
    "a folder that is a link": (link_folder, "names 'transformer/model.onnx', which lies outside the bundle"),
    "a link to itself": (link_to_itself, "which is a link"),
    "a FIFO": (put_fifo, "which is no regular file"),
    "a manifest that is a link": (link_manifest, "bundle.json is a link"),
    "a manifest that is a folder": (fold(MANIFEST), "bundle.json is no regular file"),
    "a manifest without end": (write(" " * (16 << 20) + "{}"), "bundle.json has more than 16777216 bytes, so it is no manifest"),
    "a path that is none": (point("a\0b"), "the character '\\x00'"),
    "half a letter": (point("a\ud800b"), "the character '\\ud800'"),
    "an escape sequence": (edit(licence="\x1b[2J"), "licence: found the character '\\x1b'"),
    "a long name": (point("x" * 5000), "which is longer than names of files can be"),
    "no hash": (
        lambda folder: edit_manifest(folder, lambda value: value.pop("sha256"), is_signed=False),
        "is damaged ('sha256')",
    ),
    "a hash of another": (
        lambda folder: edit_manifest(folder, lambda value: value["plan"].update(guidance=4.0), is_signed=False),
        "bundle.json was altered: the sha256 of itself does not fit",
    ),
    "not a number": (edit(latent_shape=[float("nan"), 16, 16]), "is damaged (NaN is no number)"),
    "infinity": (write('{"guidance": Infinity}'), "is damaged (Infinity is no number)"),
    "a number without end": (write('{"guidance": 1' + "0" * 400 + "}"), "has 401 digits, more than 64 bits hold"),
    "a number beyond floats": (write('{"guidance": 1e400}'), "the number 1e400... is beyond what 64 bits hold"),
    "a key twice": (write('{"format": 4, "format": 5}'), "the key 'format' stands there twice"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bundle_that_is_not_whole(bundle: Bundle, case: str) -> None:
    damage, part = BAD[case]
    damage(bundle.folder)
    with pytest.raises(BundleError) as caught:
        read_bundle(bundle.folder)
    assert part in str(caught.value)
    assert str(bundle.folder) in str(caught.value), "the message names the file"
    assert caught.value.exit_status == 2


def test_without_verify_only_sizes_are_compared(bundle: Bundle) -> None:
    change_data(lambda data: b"W" + data[1:])(bundle.folder)
    assert read_bundle(bundle.folder, verify=False) == bundle
    change_data(lambda data: data[:-1])(bundle.folder)
    with pytest.raises(BundleError, match="truncated"):
        read_bundle(bundle.folder, verify=False)


def test_spaces_and_the_order_of_keys_are_no_alteration(bundle: Bundle) -> None:
    path = bundle.folder / MANIFEST
    value = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(value.items()))))
    assert read_bundle(bundle.folder) == bundle


def test_every_digit_of_the_manifest_is_guarded(bundle: Bundle) -> None:
    path = bundle.folder / MANIFEST
    text = path.read_text()
    places = [i for i, letter in enumerate(text) if letter.isdigit()][::7]
    refused = 0
    for place in places:
        path.write_text(text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :])
        try:
            assert read_bundle(bundle.folder) == bundle, "the last digit of a float may change nothing"
        except BundleError:
            refused += 1
    assert refused > 0.9 * len(places) > 50


def test_a_link_to_the_folder_is_the_users_own(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(bundle.folder)
    assert read_bundle(tmp_path / "link").artifacts == bundle.artifacts


def test_files_are_located_by_what_the_manifest_names(bundle: Bundle) -> None:
    assert locate(bundle, "transformer/model.onnx") == bundle.folder / "transformer" / "model.onnx"
    assert locate_kind(bundle, "transformer", "weights") == bundle.folder / "transformer" / "model.onnx.data"
    assert locate_kind(bundle, "transformer", "edits") is None
    (bundle.folder / "transformer" / "quantization.safetensors").write_bytes(b"x")
    assert locate_kind(bundle, "transformer", "edits") is None, "a file that is not named is not there"
    with pytest.raises(BundleError, match=r"names no 'transformer/quantization\.safetensors'"):
        locate(bundle, "transformer/quantization.safetensors")
    link_outside(bundle.folder)
    with pytest.raises(BundleError, match="which is a link"):
        locate(bundle, "transformer/model.onnx")


def test_a_file_of_many_kinds_is_hashed_once(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    engines = [dataclasses.replace(bundle.artifacts[0], kind="engine", device=device.name) for device in list_devices()]
    write_bundle(add_artifacts(bundle, engines))
    hashed: list[int] = []

    def note(file: BinaryIO, size: int) -> str:
        hashed.append(size)
        return hash_bytes(file, size)

    monkeypatch.setattr("sprint_export.export.bundle.hash_bytes", note)
    read_bundle(bundle.folder)
    assert len(hashed) == len({artifact.path for artifact in bundle.artifacts})


def test_no_more_is_read_than_the_manifest_says(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    with (tmp_path / "file").open("rb") as file:
        assert hash_bytes(file, 2) == hashlib.sha256(b"ab").hexdigest()
        assert file.tell() == 2


def test_what_makes_no_sense_is_not_written(bundle: Bundle) -> None:
    with pytest.raises(InputError, match=r"no bundle can be made of this student: plan\.times: found \[3\.0, 0\.5\]"):
        write_bundle(dataclasses.replace(bundle, plan=StepPlan((3.0, 0.5), 4.5)))


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not a bundle: it has no bundle\.json\. Make one with: sprint-export --target"):
        read_bundle(tmp_path)


def test_artifacts_are_found_by_role_and_kind(bundle: Bundle) -> None:
    found = find_artifact(bundle, "transformer", "weights")
    assert found is not None
    assert (found.path, found.bytes) == ("transformer/model.onnx.data", 700)
    assert find_artifact(bundle, "transformer", "shadow") is None
    assert find_artifact(bundle, "tokenizer", "graph") is None


def test_a_new_artifact_takes_the_old_ones_place(bundle: Bundle) -> None:
    old = bundle.artifacts[0]
    new = dataclasses.replace(old, sha256="other")
    engine = Artifact("transformer", "engine", "transformer/model.sm89.engine", "engine", 1, "0", "rtx-4090")
    found = add_artifacts(bundle, [new, engine])
    assert set(found.artifacts) == {new, *bundle.artifacts[1:], engine}
    assert bundle.artifacts[0] == old, "the input is left alone"
