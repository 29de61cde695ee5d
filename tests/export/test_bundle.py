"""bundle.json: every noun survives the round trip, and a bundle that does not fit its manifest is refused with the reason."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sprint_export.bundle_files import MANIFEST
from sprint_export.errors import BundleError, InputError
from sprint_export.export.bundle import (
    FORMAT,
    add_artifacts,
    find_artifact,
    make_artifact,
    read_bundle,
    write_bundle,
)
from sprint_export.json_forms import from_json, to_json
from sprint_export.registry import load_member
from sprint_export.schema import (
    Artifact,
    Bundle,
    ComponentRecord,
    Measurement,
    Options,
    Part,
    PromptPlan,
    QuantizedLayer,
    Recipe,
    Report,
    Rule,
    StepPlan,
    TensorSpec,
)

SPEC = TensorSpec("latents", "float32", (1, "height", 8), "noise")
LAYER = QuantizedLayer(load_member("precision", "fp8").PRECISION, 1 / 3, None, "bf16")
RECORD = ComponentRecord(
    "transformer",
    (SPEC,),
    (SPEC,),
    (Part("model.onnx", (SPEC,), (SPEC,)),),
    {"FLOAT8E4M3FN": 12},
    {"blocks.0": LAYER},
    ("a note",),
)
RECIPE = Recipe("mine", (Rule("transformer.*", "float", "why"), Rule("*", "fp8")), ("ein grüner Kreis",), 3)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A bundle of two files."""
    folder = tmp_path / "bundle"
    (folder / "transformer").mkdir(parents=True)
    for name, content in (("model.onnx", b"graph"), ("model.onnx.data", b"weights" * 100)):
        (folder / "transformer" / name).write_bytes(content)
    made = Bundle(
        folder=folder,
        family="sana_sprint",
        source="made",
        revision=None,
        licence="none",
        target="trt",
        precision="fp8",
        device="rtx-4090",
        options=Options(part_megabytes=900),
        layout="channels-first",
        plan=StepPlan((1.0000036732185957, 1 / 3), 4.5),
        prompt=PromptPlan("prefix\n", True, 490, 300, 0),
        latent_shape=(4, 16, 16),
        components=(RECORD,),
        artifacts=tuple(
            make_artifact(folder, folder / "transformer" / name, "transformer", kind, "onnx")
            for name, kind in (("model.onnx", "graph"), ("model.onnx.data", "weights"))
        ),
        recipe=RECIPE,
        fingerprint="f",
        key="k",
        tools={"torch": "2.13.0"},
    )
    write_bundle(made)
    return made


NOUNS = [
    SPEC,
    LAYER,
    LAYER.precision,
    dataclasses.replace(LAYER, weight_axis=0),
    RECORD,
    RECIPE,
    StepPlan((1.0, 0.1 + 0.2), 4.5, "bfloat16"),
    PromptPlan("a\n", False, 3, 2, 0),
    Artifact("vae_decoder", "engine:rtx-4090", "a/b", "engine", 3, "00"),
    Measurement("psnr_db", 45.1, "dB", "transformer", ">=30", True, "why"),
    Measurement("bytes", 3.0, "B"),
    Report("b", "trt-fp8", "runtime", "machine", 2, (Measurement("p50_ms", 1.5, "ms"),)),
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
            {"times": [1.0], "guidance": 4.5, "counts": []},
            "expected fields ['counts', 'dtype', 'guidance', 'times'], found ['counts'",
        ),
        ({"times": [1.0], "guidance": 4.5, "dtype": "x", "counts": [], "more": 1}, "expected fields"),
        ({"times": ["1"], "guidance": 4.5, "dtype": "x", "counts": []}, "StepPlan.times[0]: expected float, found '1'"),
        ({"times": 1.0, "guidance": 4.5, "dtype": "x", "counts": []}, "StepPlan.times: expected a list, found float"),
        ({"times": [1.0], "guidance": True, "dtype": "x", "counts": []}, "StepPlan.guidance: expected float, found True"),
        ({"times": [1.0], "guidance": None, "dtype": "x", "counts": []}, "StepPlan.guidance: expected float, found None"),
        ([], "StepPlan: expected an object, found list"),
    ],
)
def test_a_value_of_another_type_is_named(value: Any, part: str) -> None:
    with pytest.raises((TypeError, KeyError)) as caught:
        from_json(StepPlan, value)
    assert part in str(caught.value)


def test_an_integer_is_a_float_but_not_the_reverse() -> None:
    assert from_json(StepPlan, {"times": [1], "guidance": 4, "dtype": "x", "counts": []}) == StepPlan((1.0,), 4.0, "x")
    with pytest.raises(TypeError, match=r"PromptPlan\.tokens: expected int, found 3\.5"):
        from_json(PromptPlan, to_json(PromptPlan("", True, 1, 1, 0)) | {"tokens": 3.5})


def edit(**values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / MANIFEST
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def point(path: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        value = json.loads((folder / MANIFEST).read_text())
        value["artifacts"][0]["path"] = path
        (folder / MANIFEST).write_text(json.dumps(value))

    return change


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
    "another field": (edit(more=1), "expected fields"),
    "a field of another type": (edit(latent_shape=[4, 16]), "bundle.json is damaged (zip()"),
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
    "a folder in its place": (point("transformer"), "transformer is missing"),
    "above": (point("../outside.onnx"), OUTSIDE),
    "above and back": (point("transformer/../../bundle2/model.onnx"), OUTSIDE),
    "absolute": (point("/etc/hostname"), OUTSIDE),
    "a link to outside": (link_outside, OUTSIDE),
    "a path that is none": (point("a\0b"), "names 'a\\x00b'"),
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


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not a bundle: it has no bundle\.json\. Make one with: sprint-export --target"):
        read_bundle(tmp_path)


def test_artifacts_are_found_by_role_and_kind(bundle: Bundle) -> None:
    found = find_artifact(bundle, "transformer", "weights")
    assert found is not None
    assert (found.path, found.bytes) == ("transformer/model.onnx.data", 700)
    assert find_artifact(bundle, "transformer", "shadow") is None
    assert find_artifact(bundle, "vae_decoder", "graph") is None


def test_a_new_artifact_takes_the_old_ones_place(bundle: Bundle) -> None:
    old = bundle.artifacts[0]
    new = dataclasses.replace(old, sha256="other")
    engine = Artifact("transformer", "engine:rtx-4090", "transformer/model.sm89.engine", "engine", 1, "0")
    found = add_artifacts(bundle, [new, engine])
    assert set(found.artifacts) == {new, bundle.artifacts[1], engine}
    assert bundle.artifacts[0] == old, "the input is left alone"
