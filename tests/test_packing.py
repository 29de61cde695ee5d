"""`pack`: what ships of a bundle and nothing else, the same picture, and nobody's files harmed."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from sprint_export import open_bundle, pack_bundle
from sprint_export.bundle_files import APP, LICENCES, MANIFEST, TOKENIZER
from sprint_export.errors import BundleError, InputError, MachineError, RefusedError
from sprint_export.export import publishing
from sprint_export.export.bundle import read_bundle
from sprint_export.export.packing.packer import Layout
from sprint_export.export.to_onnx.packer import OnnxPacker
from sprint_export.noise import make_noise
from sprint_export.nouns.bundle import Bundle, ComponentRecord
from sprint_export.nouns.destination import DESTINATIONS
from sprint_export.registry import list_members, load_target
from sprint_export.runtimes.checking import check_bundle, read_reference
from sprint_export.runtimes.onnx_cpu.runtime import OnnxRuntime, make_options
from tests.bundles import check_refused, copy_bundle, edit_manifest, list_files, run_command, shared_bundle
from tests.tree import ROLES

PROMPTS = ["a small red circle above a large blue square", "a green triangle"]
TEXTS = {APP, MANIFEST, LICENCES, TOKENIZER}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_bundle(tmp_path_factory.getbasetemp(), "onnx-int8")


@pytest.fixture(scope="module")
def packed(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "node"
    result = pack_bundle(bundle, "node", folder)
    assert result.comparison is not None
    assert (result.comparison.pixels, result.comparison.values) == (0, 0.0)
    assert result.bytes == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert result.largest.path == "transformer/model.onnx"
    return folder


def test_a_packed_folder_holds_what_ships_and_nothing_else(bundle: Path, packed: Path) -> None:
    reference = {name for name in list_files(bundle) if name.startswith("reference/")}
    assert list_files(packed) == TEXTS | {f"{role}/model.onnx" for role in ROLES} | reference
    assert list_files(bundle) > {"report.json", "transformer/quantization.safetensors", "transformer/config.json"}


def test_it_opens_as_the_bundle_does_and_draws_its_pictures(bundle: Path, packed: Path) -> None:
    first, second = (open_bundle(folder)(PROMPTS, seed=3) for folder in (bundle, packed))
    np.testing.assert_array_equal(first, second)


def test_app_json_lists_the_files_that_are_there(packed: Path) -> None:
    app = json.loads((packed / APP).read_text("utf-8"))
    listed = {file["path"]: file["bytes"] for file in app["files"]}
    assert listed == {name: (packed / name).stat().st_size for name in {LICENCES, TOKENIZER, *(f"{r}/model.onnx" for r in ROLES)}}
    assert [graph["files"] for graph in app["networks"]["transformer"]["graphs"]] == [["transformer/model.onnx"]]


def test_its_manifest_is_the_bundles_without_what_only_validation_reads(bundle: Path, packed: Path) -> None:
    before, after = read_bundle(bundle), read_bundle(packed)
    assert (before.is_packed, after.is_packed) == (False, True)
    assert (after.chain, after.plan, after.prompt, after.runtimes) == (before.chain, before.plan, before.prompt, before.runtimes)
    assert any(record.layers for record in before.components)
    assert not any(record.layers or record.decisions or record.notes for record in after.components)
    assert (packed / MANIFEST).stat().st_size < (bundle / MANIFEST).stat().st_size / 3


def test_the_tokenizer_means_the_same_in_fewer_bytes(bundle: Path, packed: Path) -> None:
    before, after = ((folder / TOKENIZER).read_bytes() for folder in (bundle, packed))
    assert json.loads(before) == json.loads(after)
    assert len(after) < 0.75 * len(before)


def test_licences_name_the_student_and_its_terms(packed: Path) -> None:
    text = (packed / LICENCES).read_text("utf-8")
    assert "Made from sprint-tiny; its licence, as its model card states it: apache-2.0" in text
    assert "Gemma" not in text  # an embedded student holds nothing of Gemma's


def test_one_graph_of_all_networks_gives_the_chains_very_bits(bundle: Path, tmp_path: Path) -> None:
    result = pack_bundle(bundle, "web", tmp_path / "one", one_graph=True)
    found = list_files(tmp_path / "one")
    assert {name for name in found if not name.startswith("reference/")} == TEXTS | {"one_graph/model.onnx"}
    assert [check.largest for check in check_bundle(tmp_path / "one")] == [0]
    (before,), (after,) = (read_reference(read_bundle(folder)) for folder in (bundle, tmp_path / "one"))
    assert after["picture"]["sha256"] == before["picture"]["sha256"]
    assert [stage["network"] for stage in after["stages"]] == ["one_graph"]
    assert result.comparison is not None
    assert result.comparison.values == 0
    pipeline = open_bundle(bundle)
    noise = make_noise(5, 1, 2, pipeline.latent_shape)
    session = onnxruntime.InferenceSession(str(tmp_path / "one/one_graph/model.onnx"), make_options())
    ids, mask = pipeline.reader.read(PROMPTS)
    for i, table in enumerate(pipeline.draw(PROMPTS, noise=noise)):
        (picture,) = session.run(
            ["image"], {"input_ids": ids[i : i + 1], "prompt_mask": mask[i : i + 1], "latents": noise[0, i : i + 1]}
        )
        np.testing.assert_array_equal(picture, table["image"])
    np.testing.assert_array_equal(open_bundle(tmp_path / "one")(PROMPTS, seed=5), pipeline(PROMPTS, seed=5))
    app = json.loads((tmp_path / "one" / APP).read_text("utf-8"))
    assert app["stages"] == [{"network": "one_graph", "when": "once"}]
    assert app["sampler"]["start"] == "noise"
    assert "denoised" not in app["values"]


def test_weights_beside_graphs_stand_in_files_of_the_size_that_is_asked_for(bundle: Path, tmp_path: Path) -> None:
    result = pack_bundle(bundle, "web", tmp_path / "shards", shard_megabytes=1)
    shards = [file for file in result.files if file.path.endswith(".data")]
    assert len([file for file in shards if file.path.startswith("transformer/")]) == 3
    assert max(file.bytes for file in shards) <= 1_000_000
    app = json.loads((tmp_path / "shards" / APP).read_text("utf-8"))
    (graph,) = app["networks"]["transformer"]["graphs"]
    assert sorted(graph["files"]) == sorted(file.path for file in result.files if file.path.startswith("transformer/"))
    assert result.comparison is not None
    assert result.comparison.values == 0


def test_a_shard_that_the_manifest_does_not_name_is_not_opened(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    pack_bundle(bundle, "web", folder, shard_megabytes=1, draws=False)
    name = "transformer/model-00002-of-00003.onnx.data"
    shutil.rmtree(copy_bundle(folder, tmp_path / "copy") / "reference", ignore_errors=True)

    def drop(value: dict[str, list[dict[str, str]]]) -> None:
        gone = {name, APP}
        value["artifacts"] = [each for each in value["artifacts"] if each["path"] not in gone and "reference" not in each["path"]]

    edit_manifest(tmp_path / "copy", drop)
    with pytest.raises(BundleError, match=rf"{name} lies beside model\.onnx and the manifest does not name it"):
        open_bundle(tmp_path / "copy")


def test_engines_ship_and_shadows_do_not(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    source = shared_bundle(tmp_path_factory.getbasetemp(), "trt-fp8")
    result = pack_bundle(source, "windows", tmp_path / "app")
    engines = {name for name in list_files(source) if name.endswith(".engine")}
    assert {name for name in list_files(tmp_path / "app") if name.endswith(".engine")} == engines
    with pytest.raises(RefusedError, match="engines of trt bundles are built network by network"):
        pack_bundle(source, "windows", tmp_path / "one", one_graph=True)
    assert not [name for name in list_files(tmp_path / "app") if "shadow" in name or "layers" in name]
    assert result.comparison is None
    assert "shadows that check them do not ship" in result.undrawn


def test_the_same_again_is_nothing_to_do(bundle: Path, packed: Path) -> None:
    before = {name: (packed / name).stat().st_mtime_ns for name in list_files(packed)}
    assert not pack_bundle(bundle, "node", packed).is_new
    assert {name: (packed / name).stat().st_mtime_ns for name in list_files(packed)} == before
    assert not packed.with_name(".node.partial").exists()


def test_a_run_that_is_killed_publishes_nothing_and_the_next_goes_on(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packs, asked = OnnxPacker.pack_network, []

    def pack_two(packer: OnnxPacker, bundle: Bundle, record: ComponentRecord, layout: Layout, folder: Path) -> None:
        asked.append(record.role)
        if len(asked) > 2:
            raise KeyboardInterrupt
        packs(packer, bundle, record, layout, folder)

    monkeypatch.setattr(OnnxPacker, "pack_network", pack_two)
    with pytest.raises(KeyboardInterrupt):
        pack_bundle(bundle, "cpp", tmp_path / "app", draws=False)
    assert [path.name for path in tmp_path.iterdir()] == [".app.partial"]
    with pytest.raises(KeyboardInterrupt):
        pack_bundle(bundle, "cpp", tmp_path / "app", draws=False)
    assert asked == ["text_encoder", "transformer", "vae_decoder", "vae_decoder"]
    monkeypatch.setattr(OnnxPacker, "pack_network", packs)
    pack_bundle(bundle, "cpp", tmp_path / "app", draws=False)
    assert [path.name for path in tmp_path.iterdir()] == ["app"]


def test_a_run_that_is_killed_once_it_published_leaves_nothing_to_the_next(
    bundle: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder that it took the place of lies in the work folder then, and the same command finds nothing to do."""

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    out = copy_bundle(packed, tmp_path / "app")
    with monkeypatch.context() as patch:
        patch.setattr(publishing, "recover", kill)
        with pytest.raises(KeyboardInterrupt):
            pack_bundle(bundle, "cpp", out, overwrite=True, draws=False)
    assert (tmp_path / ".app.partial" / "old" / "bundle.json").exists()
    assert not pack_bundle(bundle, "cpp", out, overwrite=True, draws=False).is_new
    assert [path.name for path in tmp_path.iterdir()] == ["app"]


def test_one_graph_that_cannot_be_drawn_here_is_not_published(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OnnxRuntime, "can_run", lambda runtime: "no such library")
    with pytest.raises(MachineError, match="none can be drawn here: onnx cannot run here: no such library"):
        pack_bundle(bundle, "node", tmp_path / "app", one_graph=True)
    assert not (tmp_path / "app").exists()
    assert pack_bundle(bundle, "node", tmp_path / "app").undrawn == "onnx cannot run here: no such library"


def test_graphs_that_are_none_or_read_other_files_are_refused(bundle: Path, tmp_path: Path) -> None:
    copy = copy_bundle(bundle, tmp_path / "copy")
    graph = copy / "transformer/model.onnx"
    other = graph.read_bytes().replace(b"model.onnx.data", b"model.onnx.dat2")
    for content, message in ((b"x" * 9, "cannot be read as an ONNX graph"), (other, r"reads weights from 'model\.onnx\.dat2'")):
        graph.write_bytes(content)

        def sign(value: dict[str, list[dict[str, object]]], content: bytes = content) -> None:
            for each in value["artifacts"]:
                if each["path"] == "transformer/model.onnx":
                    each |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            value["artifacts"] = [each for each in value["artifacts"] if each["kind"] not in ("app", "reference")]

        edit_manifest(copy, sign)
        with pytest.raises(BundleError, match=message):
            pack_bundle(copy, "node", tmp_path / "app", draws=False)


def test_another_picture_is_not_published(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sprint_export.packing._draw", lambda bundle, runtime: np.full((1, 3, 4, 4), 0.1 * bundle.is_packed))
    with pytest.raises(BundleError, match=r"draws another picture than .*: 12 of 255 apart, expected at most 2; nothing was"):
        pack_bundle(bundle, "node", tmp_path / "app")
    assert not (tmp_path / "app").exists()


def test_a_weight_that_changed_on_the_way_is_not_published(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sprint_export.export.to_onnx import packer

    def write(model: object, layout: object, folder: Path) -> None:
        written(model, layout, folder)  # type: ignore[arg-type]
        data = bytearray((folder / "model.onnx").read_bytes())
        data[len(data) // 2] ^= 1
        (folder / "model.onnx").write_bytes(data)

    written = packer._write_model
    monkeypatch.setattr(packer, "_write_model", write)
    with pytest.raises(BundleError, match=r"text_encoder/model\.onnx changed while it was packed, or the disk is failing"):
        pack_bundle(bundle, "node", tmp_path / "app", draws=False)
    assert not (tmp_path / "app").exists()


def test_what_is_at_out_is_left_alone(bundle: Path, packed: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match=r"holds files but no bundle\.json"):
        pack_bundle(bundle, "node", tmp_path / "thesis", overwrite=True)
    copy = copy_bundle(packed, tmp_path / "copy")
    with pytest.raises(InputError, match="holds another bundle; choose another folder, or add --overwrite"):
        pack_bundle(bundle, "web", copy)
    (copy / "mine.txt").write_text("x")
    with pytest.raises(InputError, match=r"holds what is not a bundle's: mine\.txt"):
        pack_bundle(bundle, "web", copy, overwrite=True)
    (copy / "mine.txt").unlink()
    assert pack_bundle(bundle, "web", copy, overwrite=True, draws=False).is_new
    for place in (bundle, bundle / "inner"):
        with pytest.raises(InputError, match=r"the bundle is there, or around it|is not a bundle"):
            pack_bundle(bundle, "web", place, overwrite=True)


def test_what_cannot_be_packed_is_refused_with_the_choices(bundle: Path, packed: Path, tmp_path: Path) -> None:
    for message, error, destination, source, asked in (
        ("onnx bundles cannot be packed for apple .*; choose from: web, node, cpp, windows", RefusedError, "apple", bundle, {}),
        ("unknown destination 'phone'; choose from: apple, cpp, node, web, windows", InputError, "phone", bundle, {}),
        ("is packed already; give the bundle that it was packed from", RefusedError, "web", packed, {}),
        ("is not a bundle: it has no bundle.json", InputError, "web", tmp_path, {}),
        ("cannot reach the Hugging Face hub for 'some/bundle'", MachineError, "web", "some/bundle", {}),
        (r"shard_megabytes=0 \(--shard-mb\): expected 1 to 4000", InputError, "web", bundle, {"shard_megabytes": 0}),
        ("one graph is checked by the picture that it draws", InputError, "web", bundle, {"one_graph": True, "draws": False}),
    ):
        with pytest.raises(error, match=message):
            pack_bundle(source, destination, tmp_path / "out", **asked)
    assert not (tmp_path / "out").exists()


def test_every_target_ships_somewhere_that_is_known() -> None:
    known = {each.name for each in DESTINATIONS}
    for target in map(load_target, list_members("target")):
        assert target.ships_to, target.name
        assert set(target.ships_to) <= known, target.name


def test_the_command_prints_every_file_the_whole_and_the_comparison(bundle: Path, tmp_path: Path) -> None:
    done = run_command("pack", bundle, "--for", "web", "--out", tmp_path / "web", "--quiet", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("transformer/model.onnx")
    assert "MB; the largest is transformer/model.onnx" in lines[-2]
    assert lines[-1] == "one picture beside the bundle's on onnx: at most 0 of 255 apart, 0 before rounding"
    refused = run_command("pack", bundle, "--for", "apple", folder=tmp_path)
    check_refused(refused, 2, "onnx bundles cannot be packed for apple")


def test_a_packed_folder_cannot_be_validated(packed: Path, tmp_path: Path) -> None:
    from sprint_export import validate_bundle

    with pytest.raises(RefusedError, match="is packed: it holds what ships, not what a validation compares"):
        validate_bundle(copy_bundle(packed, tmp_path / "copy"), count=1)
