"""app.json: a reader that knows nothing else draws the same picture, bit for bit; it fits its schema and its manifest."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from sprint_export.app_contract import STRIPPED, describe_app
from sprint_export.bundle_files import APP, MANIFEST
from sprint_export.conversion import convert
from sprint_export.errors import BundleError
from sprint_export.export.bundle import add_artifacts, find_file, make_artifact, read_bundle, write_app, write_bundle
from sprint_export.noise import make_noise
from sprint_export.nouns.bundle import Artifact, Bundle, Part
from sprint_export.nouns.student import PromptPlan, Student
from sprint_export.runtimes import open_bundle
from sprint_export.session import Pipeline, to_uint8
from tests.app_interpreter import draw, encode, run
from tests.bundles import copy_bundle, drop_app, edit_manifest
from tests.made_student import PROMPTS
from tests.small_bundle import make_small_bundle
from tests.tree import ROOT

COUNTS = (1, 2, 4)
SCHEMA = json.loads((ROOT / "docs" / "app.schema.json").read_text("utf-8"))


def check_schema(app: Any) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(app)


def read_app(folder: Path) -> Any:
    return json.loads((folder / APP).read_text("utf-8"))


@pytest.fixture(scope="module")
def several(free_bundle: Path) -> Path:
    """A long held prefix, three step counts, free sizes, and an encoder to start from pictures."""
    return free_bundle


@pytest.fixture(scope="module")
def steered(steered_bundle: Path) -> Path:
    """With a ControlNet, in 16 bits."""
    return steered_bundle


@pytest.mark.parametrize("steps", COUNTS)
@pytest.mark.parametrize("prompt", ["  A Red CIRCLE above\u00a0a blue\tsquare\u3000\n", PROMPTS[0], "a red " * 400])
def test_a_reader_of_app_json_alone_draws_the_same_picture(several: Path, steps: int, prompt: str) -> None:
    pipe = open_bundle(several, steps=steps)
    wanted = pipe([prompt], seed=11)[0]
    assert wanted.std() > 10, "a flat picture proves nothing"
    np.testing.assert_array_equal(draw(several, prompt, make_noise(11, steps, 1, pipe.latent_shape)), wanted)


def test_one_step_takes_the_noise_as_it_is(several: Path) -> None:
    """TrigFlow's s = 1.0000037 is no factor that an app could forget."""
    schedules = read_app(several)["sampler"]["schedules"]
    assert schedules["1"] == {"times": [1.0], "rows": [0]}
    assert [schedule["times"][0] for schedule in schedules.values()] == [1.0] * 3
    assert read_bundle(several).plan.times[0] > 1, "what the network is specialized to"
    app, pipe = read_app(several), open_bundle(several)
    ids, mask = encode(several, app, PROMPTS[0])
    table = {app["values"]["ids"]: ids, app["values"]["mask"]: mask, app["values"]["step"]: np.zeros(1, np.int64)}
    table[app["values"]["state"]] = make_noise(4, 1, 1, pipe.latent_shape)[0]
    for stage in app["stages"]:
        table |= run(several, app, stage, table)
        if app["values"]["denoised"] in table:
            table[app["values"]["state"]] = table[app["values"]["denoised"]]
    picture = table[app["values"]["picture"]]
    np.testing.assert_array_equal(to_uint8(picture), pipe(PROMPTS[:1], seed=4))


def test_an_app_draws_another_size_too(several: Path) -> None:
    sizes = read_app(several)["sizes"]
    assert sizes == {"noise": [4, "height", "width"], "picture": ["4*height", "4*width"]}
    wanted = open_bundle(several)(PROMPTS[:1], seed=3, height=32, width=96)[0]
    np.testing.assert_array_equal(draw(several, PROMPTS[0], make_noise(3, 1, 1, (4, 8, 24))), wanted)


def test_a_start_from_a_picture_too(several: Path) -> None:
    """The last half of four steps, from what the encoder makes of a picture."""
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    pipe = dataclasses.replace(open_bundle(several), steps=4)
    noise = make_noise(3, 2, 1, pipe.latent_shape)
    wanted = pipe(PROMPTS[:1], noise=noise, image=pixels, strength=0.5)[0]
    app, source = read_app(several), normalize(pixels)
    encoder = next(stage for stage in app["stages"] if stage.get("optional"))
    state = run(several, app, encoder, {app["values"]["source"]: source})[app["values"]["encoded"]]
    schedule = app["sampler"]["schedules"]["4"]
    last = {name: values[-2:] for name, values in schedule.items()}
    np.testing.assert_array_equal(draw(several, PROMPTS[0], noise, rows=last, start=state), wanted)


def normalize(pixels: Any) -> Any:
    return (np.float32(2) * (pixels.astype(np.float32) / np.float32(255)) - np.float32(1)).transpose(2, 0, 1)[None]


@pytest.mark.parametrize("is_given", [True, False])
def test_a_picture_that_steers_too(steered: Path, is_given: bool) -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[16:48, 16:48] = 255
    pipe, values = open_bundle(steered, steps=2), read_app(steered)["values"]
    asked: dict[str, Any] = {"control": pixels, "control_scale": 0.75} if is_given else {}
    given = {values["source"]: normalize(pixels), values["scale"]: np.array([0.75], np.float32)} if is_given else {}
    wanted = pipe(["a red circle"], seed=2, **asked)[0]
    np.testing.assert_array_equal(draw(steered, "a red circle", make_noise(2, 2, 1, pipe.latent_shape), given), wanted)
    assert len(pipe.seconds) == (5 if is_given else 3)


def test_what_is_described_fits_the_schema(several: Path, steered: Path) -> None:
    for folder in (several, steered):
        check_schema(read_app(folder))
    assert [stage["network"] for stage in read_app(steered)["stages"] if stage.get("optional")] == ["vae_encoder", "controlnet"]


def test_the_schema_is_in_the_package() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert files("sprint_export").joinpath("app.schema.json").read_bytes() == (ROOT / "docs" / "app.schema.json").read_bytes()


def test_examples_are_the_students_own(several: Path, steered: Path) -> None:
    examples = read_app(steered)["examples"]
    assert len(examples) == 8 and all("square" in text or "circle" in text for text in examples[:2])
    bundle = read_bundle(steered)
    assert write_app(bundle) == bundle, "they stay"


def test_no_more_ships_than_what_draws(several: Path) -> None:
    app = read_app(several)
    paths = [file["path"] for file in app["files"]]
    networks = ("text_encoder", "vae_encoder", "transformer", "vae_decoder")
    wanted = {f"{role}/model.onnx{end}" for role in networks for end in ("", ".data")} | {"tokenizer/tokenizer.json"}
    assert set(paths) == wanted and paths == sorted(paths)
    for file in app["files"]:
        assert (several / file["path"]).stat().st_size == file["bytes"]
    assert len((several / APP).read_bytes()) < 20_000
    assert {path for network in app["networks"].values() for graph in network["graphs"] for path in graph["files"]} < set(paths)


def test_what_strip_takes_off_is_pythons() -> None:
    assert len(STRIPPED) == 29
    assert all(not chr(i).strip() for i in map(ord, STRIPPED))
    assert [chr(i) for i in range(0x3001) if not chr(i).strip()] == list(STRIPPED)


@pytest.fixture
def small(tmp_path: Path) -> Bundle:
    """A trt bundle of a few bytes."""
    return make_small_bundle(tmp_path / "bundle")


def add_engine(bundle: Bundle, role: str, device: str) -> Bundle:
    (bundle.folder / role / "model.sm89.engine").write_bytes(b"engine")
    path = bundle.folder / role / "model.sm89.engine"
    artifact = make_artifact(bundle.folder, path, role, "engine", "tensorrt-rtx")
    return add_artifacts(bundle, [dataclasses.replace(artifact, device=device)])


def without_cut(bundle: Bundle) -> Bundle:
    """Its tokenizer is none that can be asked."""
    return dataclasses.replace(bundle, prompt=dataclasses.replace(bundle.prompt, cuts=False))


def test_engines_stand_beside_their_graph(small: Bundle) -> None:
    bundle = add_engine(dataclasses.replace(small, runtimes={"tensorrt-rtx": "1.7.1"}), "transformer", "rtx-4090")
    app = describe_app(bundle)
    check_schema(app)
    (graph,) = app["networks"]["transformer"]["graphs"]
    assert [(each["path"], each["device"], each["version"]) for each in graph["engines"]] == [
        ("transformer/model.sm89.engine", "rtx-4090", "1.7.1")
    ]
    assert not any(file["path"].endswith("engine") for file in app["files"])
    assert "engines" not in app["networks"]["vae_decoder"]["graphs"][0]


def test_several_graphs_are_packages_in_order(small: Bundle) -> None:
    """As Core ML's parts are: a runtime is given the package's folder, and each package has files of its own."""
    record = next(record for record in small.components if record.role == "vae_decoder")
    tops = ("model_1.mlpackage", "model_2.mlpackage")
    names = [f"{top}/{name}" for top in tops for name in ("Data/model.mlmodel", "Data/weight.bin", "Manifest.json")]
    between = dataclasses.replace(record.outputs[0], name="between")
    parts = (
        Part("model_1.mlpackage/Data/model.mlmodel", record.inputs, (between,)),
        Part("model_2.mlpackage/Data/model.mlmodel", (between,), record.outputs),
    )
    kinds = {".mlmodel": "graph", ".bin": "weights", ".json": "package"}
    new = [Artifact("vae_decoder", kinds[Path(n).suffix], f"vae_decoder/{n}", "mlpackage", 1, "0" * 64) for n in names]
    kept = tuple(artifact for artifact in small.artifacts if artifact.role != "vae_decoder")
    components = tuple(dataclasses.replace(c, parts=parts) if c.role == "vae_decoder" else c for c in small.components)
    app = describe_app(dataclasses.replace(small, artifacts=(*kept, *new), components=components))
    check_schema(app)
    graphs = app["networks"]["vae_decoder"]["graphs"]
    assert [graph["path"] for graph in graphs] == [f"vae_decoder/{top}" for top in tops]
    assert [len(graph["files"]) for graph in graphs] == [3, 3]
    assert [graph["inputs"][0]["name"] for graph in graphs] == ["latents", "between"]


@pytest.mark.parametrize(
    ("plan", "steps", "kept"),
    [
        (PromptPlan("a", False, 8, 8, 0, cuts=False, strips=False), ["wrap", "tokenize", "refuse longer", "pad"], [[0, 8]]),
        (
            PromptPlan("a", True, 9, 4, 0, (1, 2, 3, 4, 5), cuts=True, keeps_first=False),
            ["lower", "strip", "wrap", "tokenize", "cut", "check prefix", "pad", "drop"],
            [[5, 9]],
        ),
        (PromptPlan("a", False, 9, 4, 0, cuts=True), ["strip", "wrap", "tokenize", "cut", "pad"], [[0, 1], [6, 9]]),
    ],
)
def test_a_prompt_has_the_steps_of_its_plan(small: Bundle, plan: PromptPlan, steps: list[str], kept: list[list[int]]) -> None:
    app = describe_app(dataclasses.replace(small, prompt=dataclasses.replace(plan, vocabulary=64)), ending=1)
    check_schema(app)
    assert [step["do"] for step in app["prompt"]["steps"]] == steps
    assert app["prompt"]["mask"]["kept"] == kept
    assert [step["keep_last"] for step in app["prompt"]["steps"] if step["do"] == "cut"] == [1] * plan.cuts


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("sprint-tiny", "sprint-tiny"),
        ("owner/name@rev", "owner/name@rev"),
        ("/home/someone/students/mine", "mine"),
        ("C:\\students\\mine", "mine"),
        ("./mine/", "mine"),
        ("~/mine", "mine"),
        ("random:1.6B", "random:1.6B"),
        ("/", "student"),
    ],
)
def test_where_a_folder_was_kept_is_not_told(small: Bundle, source: str, name: str) -> None:
    assert describe_app(dataclasses.replace(small, source=source))["name"] == name


EDITS: dict[str, tuple[Callable[[Any], object], str]] = {
    "another hash": (lambda app: app["files"][0].update(sha256="0" * 64), "files differ"),
    "another file": (lambda app: app["files"][0].update(path="../else"), "files differ"),
    "another time": (lambda app: app["sampler"]["schedules"]["2"].update(times=[1.0, 0.5]), "sampler differ"),
    "more": (lambda app: app.update(more=1), "more differ"),
    "less": (lambda app: app.pop("size"), "size differ"),
    "an ending that is none": (
        lambda app: app["prompt"]["steps"][4].update(keep_last=99),
        "keep_last: found 99, expected 0 to 16",
    ),
    "an ending of another type": (
        lambda app: app["prompt"]["steps"][4].update(keep_last="1"),
        "keep_last: found '1'",
    ),
    "no steps": (lambda app: app["prompt"].pop("steps"), "it is no description of an app"),
    "an example of another type": (lambda app: app.update(examples=[1]), "examples: expected at most 12 texts"),
    "many examples": (lambda app: app.update(examples=["a"] * 13), "examples: expected at most 12 texts"),
    "no networks": (lambda app: app.pop("networks"), "it is no description of an app"),
    "networks of another type": (lambda app: app.update(networks=[1]), "it is no description of an app"),
}


@pytest.mark.parametrize("case", EDITS)
def test_one_that_says_something_else_than_the_manifest_is_refused(several: Path, tmp_path: Path, case: str) -> None:
    """Signed again, so that hashes fit."""
    change, message = EDITS[case]
    folder = copy_bundle(several, tmp_path / "bundle")
    app = read_app(folder)
    change(app)
    (folder / APP).write_text(json.dumps(app), "utf-8")
    sign_app(folder)
    with pytest.raises(BundleError, match=rf"app\.json does not say what bundle\.json says: .*{message}"):
        read_bundle(folder)


@pytest.mark.parametrize("text", ["", "[]", "3", '{"prompt": NaN}', "[" * 100_000, '{"a": 1, "a": 2}'])
def test_one_that_is_none_is_refused(several: Path, tmp_path: Path, text: str) -> None:
    folder = copy_bundle(several, tmp_path / "bundle")
    (folder / APP).write_text(text, "utf-8")
    sign_app(folder)
    with pytest.raises(BundleError, match=r"app\.json does not say what bundle\.json says"):
        read_bundle(folder)


def sign_app(folder: Path) -> None:
    described = make_artifact(folder, folder / APP, "app", "app", "json")

    def change(value: Any) -> None:
        (entry,) = [artifact for artifact in value["artifacts"] if artifact["path"] == APP]
        entry.update(bytes=described.bytes, sha256=described.sha256)

    edit_manifest(folder, change)


def test_an_altered_one_is_refused(several: Path, tmp_path: Path) -> None:
    folder = copy_bundle(several, tmp_path / "bundle")
    data = bytearray((folder / APP).read_bytes())
    data[100] ^= 1
    (folder / APP).write_bytes(data)
    with pytest.raises(BundleError, match=r"app\.json was altered: its sha256"):
        read_bundle(folder)


def make_dying_write(survived: int) -> Callable[[Path, str], None]:
    """`write_text` that so many calls survive."""
    left = [None] * survived

    def write(path: Path, text: str) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        path.write_text(text, "utf-8")

    return write


def test_a_manifest_never_names_one_that_says_something_else(small: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at any write, the bundle can be read; the next run writes what is missing."""
    before = write_app(without_cut(small))
    assert read_bundle(before.folder) == before
    old_app = (before.folder / APP).read_bytes()
    later = add_engine(before, "transformer", "rtx-4090")
    for survived in range(3):
        (later.folder / APP).write_bytes(old_app)
        write_bundle(later)
        assert read_bundle(later.folder) == later, "an engine more than app.json names"
        with monkeypatch.context() as patch:
            patch.setattr("sprint_export.export.bundle.write_text", make_dying_write(survived))
            with pytest.raises(KeyboardInterrupt):
                write_app(later)
        found = read_bundle(later.folder)
        assert (find_file(found, APP) is not None) == (survived == 0)
    finished = write_app(read_bundle(later.folder))
    assert read_bundle(later.folder) == finished
    assert "engines" in read_app(later.folder)["networks"]["transformer"]["graphs"][0]
    manifest = (later.folder / MANIFEST).read_bytes()
    assert write_app(finished) == finished and (later.folder / MANIFEST).read_bytes() == manifest, "nothing is left to do"


def test_a_bundle_that_cannot_draw_has_none(made: Student, tmp_path: Path) -> None:
    bundle = convert(made, "onnx-fp32", tmp_path / "part", components=("vae_decoder",), validate=False)
    assert not (bundle.folder / APP).exists()


def test_a_pipeline_does_not_read_it(several: Path, tmp_path: Path) -> None:
    """A bundle made before there was one opens as it did."""
    pipe: Pipeline = open_bundle(drop_app(copy_bundle(several, tmp_path / "bundle")))
    assert pipe.latent_shape == (4, 16, 16)
