"""One contract for all targets, whatever files there are; and what opening and building a bundle chooses."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from sprint_export.conversion import convert
from sprint_export.devices import find_device
from sprint_export.errors import BundleError, InputError, MachineError, RefusedError
from sprint_export.export.bundle import find_artifact, read_bundle
from sprint_export.libraries import is_installed
from sprint_export.nouns.recipe import FLOAT_DTYPES
from sprint_export.nouns.student import CHANNELS_FIRST, CHANNELS_LAST, Student
from sprint_export.nouns.target import BuiltTarget, OptionValue, Target
from sprint_export.options import complete_options, list_options
from sprint_export.quantize.schemes.scheme import load_scheme
from sprint_export.registry import list_members, load_target
from sprint_export.runtimes import build_bundle, engines, open_bundle
from sprint_export.runtimes.engines import count_at_once
from sprint_export.runtimes.runtime import Runtime, load_runtime
from sprint_export.runtimes.trt import runtime as trt_runtime
from sprint_export.runtimes.trt.runtime import TensorRT
from sprint_export.runtimes.trt.target import TrtTarget
from sprint_export.session import list_findings
from tests.bundles import copy_bundle, drop_app, edit_manifest, list_files, shared_bundle
from tests.tree import ROLES

TARGETS = list(list_members("target"))
HEAVY = {"torch", "onnx", "onnx_ir", "onnxruntime", "tensorrt_rtx", "tensorrt", "cuda", "openvino", "coremltools", "coreai"}
HEAVY |= {"coreai_torch", "numpy"}


@pytest.fixture
def fp8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("tensorrt_rtx")
    return shared_bundle(tmp_path_factory.getbasetemp(), "trt-fp8")


@pytest.fixture(scope="module")
def int8(tiny_student: Student, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One component of a two-layer student as trt-int8: engines of it build in a second."""
    pytest.importorskip("tensorrt_rtx")
    folder = tmp_path_factory.mktemp("int8") / "bundle"
    convert(tiny_student, "trt-int8", folder, components=("vae_decoder",), prompts=["a red circle"])
    return folder


def test_the_targets_of_this_tree() -> None:
    assert {"onnx", "trt"} <= set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_a_room_offers_all_a_target_needs(name: str) -> None:
    target = load_target(name)
    assert isinstance(target, Target)
    assert target.name == name
    assert "-" not in name, "a target string is <target>-<precision>"
    for alias, offer in target.offers.items():
        assert load_scheme(offer.scheme).is_quantized == offer.is_quantized
        if offer.is_quantized:
            assert target.find_offer(alias) == offer
            assert target.find_offer(offer.scheme).scheme == offer.scheme, "a fitted recipe can be fitted again"
    assert set(target.graph_dtype.values()) <= set(FLOAT_DTYPES)
    assert len(target.precisions) == len(set(target.precisions)) > 0
    assert target.title and target.panel
    assert isinstance(target, BuiltTarget) == target.needs_build == any(option.is_for_building for option in target.options)
    assert set(target.runtimes) <= set(list_members("runtime"))
    assert not set(target.lacks) & {*target.precisions, *(option.name for option in target.options)}


@pytest.mark.parametrize("name", list_members("runtime"))
def test_a_runtime_takes_a_number_of_threads_or_says_that_it_cannot(name: str) -> None:
    runtime = load_runtime(name)
    assert runtime.limit_threads(None) is runtime
    if runtime.takes_threads:
        assert runtime.limit_threads(2).threads == 2
        return
    with pytest.raises(RefusedError, match=f"runtime {name} cannot be told how many threads to take; leave --threads out"):
        runtime.limit_threads(2)


@pytest.mark.parametrize("name", list_members("runtime"))
def test_a_runtime_says_why_it_cannot_run(name: str) -> None:
    runtime = load_runtime(name)
    assert isinstance(runtime, Runtime)
    assert runtime.name == name
    reason = runtime.can_run()
    assert reason is None or len(reason) > 10
    assert any(name in load_target(target).runtimes for target in TARGETS), "no target names it"


@pytest.mark.parametrize("name", TARGETS)
def test_options_are_declared_so_that_a_command_can_ask_for_them(name: str) -> None:
    """Those of one name are of one kind, under one flag, whoever declares them; completed ones stay as they are."""
    target = load_target(name)
    for option in target.options:
        assert option.flags[0].startswith("--") and option.help
        assert {(each.kind, each.flags) for each in list_options()[option.name].values()} == {(option.kind, option.flags)}
        assert option.default is None or option.default is False or option.default in option.choices
        assert option.kind is not int or option.unit
    device = find_device(target.default_device)
    for precision in target.precisions:
        completed = complete_options(target, precision, device, {})
        assert set(completed) <= {option.name for option in target.options}
        assert complete_options(target, precision, device, completed) == completed
        assert target.oldest(completed)
        assert target.choose_layout(completed) in (CHANNELS_FIRST, CHANNELS_LAST)


def test_what_no_target_has_is_an_unknown_option() -> None:
    with pytest.raises(InputError, match=r"unknown option 'dynamyc'; choose from: batch, dynamic\. Did you mean 'dynamic'\?"):
        complete_options(load_target("onnx"), "int8", find_device("cpu"), {"dynamyc": True})


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("dynamic", "yes", "dynamic='yes': expected true or false"),
        ("part_megabytes", True, "part_megabytes=True (--part-mb): expected a whole number"),
        ("part_megabytes", -1, "part_megabytes=-1 (--part-mb): expected at least 1 (10^6 bytes of a file of weights)"),
        ("part_megabytes", 1 << 50, "part_megabytes=1125899906842624 (--part-mb): expected at most 4398046511104"),
        ("compute_unit", 3, "compute_unit=3: expected a text"),
    ],
)
def test_an_option_has_one_kind_of_value(option: str, value: OptionValue, said: str) -> None:
    name = next(iter(list_options()[option]))
    target = load_target(name)
    with pytest.raises(InputError, match=re.escape(said)):
        complete_options(target, target.precisions[0], find_device(target.default_device), {option: value})


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_accepts_its_own_defaults_and_gives_reasons_for_the_rest(name: str) -> None:
    target = load_target(name)
    device = find_device(target.default_device)
    for precision in target.precisions:
        assert target.refuses(precision, device) is None, precision
    for precision in set(list_members("scheme")) - set(target.precisions):
        assert f"no precision {precision!r}; choose from: {', '.join(target.precisions)}" in str(
            target.refuses(precision, device)
        )


@pytest.mark.parametrize("kind", ["target", "runtime"])
def test_importing_a_room_loads_none_of_its_libraries(kind: str) -> None:
    code = (
        f"import sys, importlib; [importlib.import_module(name) for name in {list(list_members(kind).values())!r}];"
        f"print(sorted({HEAVY!r} & {{m.split('.')[0] for m in sys.modules}}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_a_gpu_an_engine_bundle_opens_on_its_shadows_and_says_so(fp8: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trt_runtime, "find_gpus", tuple)
    pipe = open_bundle(fp8)
    assert tuple(pipe.sessions) == ROLES
    assert pipe.description.startswith("ONNX Runtime ")
    assert pipe.description.endswith(" CPU, fp32-compute shadow"), "one phrase for all three"
    picture = pipe(["a large red circle in the center"], seed=3)
    assert picture.dtype == np.uint8
    assert picture.shape == (1, 64, 64, 3)
    np.testing.assert_array_equal(picture, open_bundle(fp8, "onnx")(["a large red circle in the center"], seed=3))
    assert picture.std() > 10, "a flat picture proves nothing"


def test_a_runtime_that_was_asked_for_is_not_replaced(fp8: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trt_runtime, "find_gpus", tuple)
    with pytest.raises(MachineError, match="trt cannot run here: no NVIDIA GPU or no driver") as caught:
        open_bundle(fp8, "trt")
    assert caught.value.exit_status == 3


def test_an_unknown_runtime_lists_the_bundles_own(fp8: Path) -> None:
    with pytest.raises(InputError, match="unknown runtime for trt bundles: 'coreml'; choose from: onnx, trt"):
        open_bundle(fp8, "coreml")


def test_with_a_gpu_the_engine_is_taken(fp8: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which file is opened for which component; running one is test_trt_engine's."""
    opened = []
    monkeypatch.setattr(TensorRT, "can_run", lambda runtime: None)
    monkeypatch.setattr(TensorRT, "open_session", lambda runtime, path, inputs, outputs: opened.append(path.relative_to(fp8)))
    open_bundle(fp8)
    assert [str(path) for path in opened] == [f"{role}/model.sm89.engine" for role in ROLES]


def test_an_engine_for_another_gpu_is_not_tried(fp8: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TensorRT, "can_run", lambda runtime: None)
    monkeypatch.setattr(trt_runtime, "find_gpus", lambda: ((9, 0),))
    assert open_bundle(fp8).description.endswith(" CPU, fp32-compute shadow")
    with pytest.raises(MachineError) as caught:
        open_bundle(fp8, "trt")
    assert str(caught.value) == ("trt cannot run here: its engine is for rtx-4090, compute capability 8.9; the GPU here has 9.0")


def test_a_runtime_older_than_the_bundles_oldest_is_refused_by_name(fp8: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", "1.20.1")
    message = (
        "onnx cannot run here: onnxruntime 1.20.1 is installed and 1.21.0 is the oldest that opens this bundle; "
        "run: pip install 'onnxruntime>=1.21.0'"
    )
    with pytest.raises(MachineError, match=re.escape(message)):
        open_bundle(fp8, "onnx")
    monkeypatch.setattr(onnxruntime, "__version__", "1.21.0")
    assert open_bundle(fp8, "onnx").description == "ONNX Runtime 1.21.0 CPU, fp32-compute shadow"


def test_an_engine_opens_in_the_version_that_built_it(fp8: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = read_bundle(fp8).runtimes["tensorrt-rtx"]
    assert built == importlib.metadata.version("tensorrt-rtx")
    monkeypatch.setattr(TensorRT, "can_run", lambda runtime: None)
    monkeypatch.setattr(TensorRT, "open_session", lambda runtime, path, inputs, outputs: None)
    assert open_bundle(fp8, "trt").sessions
    for other in ("1.6.0", "1.8.0.1"):
        monkeypatch.setattr(trt_runtime, "find_version", lambda builder, other=other: other)
        with pytest.raises(
            MachineError, match=f"tensorrt-rtx {other} is installed and an engine opens in the version that built it"
        ):
            open_bundle(fp8, "trt")
    assert open_bundle(fp8).description.startswith("ONNX Runtime"), "the shadow is there for that"


def test_engines_of_two_versions_do_not_meet_in_one_bundle(int8: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copy_bundle(int8, tmp_path / "bundle")
    before, files = read_bundle(folder).runtimes["tensorrt-rtx"], list_files(folder)
    monkeypatch.setattr(TrtTarget, "find_version", lambda target, builder: "9.9")
    with pytest.raises(MachineError, match=re.escape(f"has engines by tensorrt-rtx {before}, and 9.9 is installed")):
        build_bundle(folder, "rtx-3090")
    assert list_files(folder) == files


def test_a_bundle_of_one_component_cannot_draw_and_says_why(int8: Path) -> None:
    with pytest.raises(BundleError, match=r"has no text_encoder, transformer: it was exported with --component"):
        open_bundle(int8)


def test_a_second_device_gets_its_engine_beside_the_first(int8: Path, tmp_path: Path) -> None:
    folder = copy_bundle(int8, tmp_path / "bundle")
    before, files = read_bundle(folder), list_files(folder)
    built = build_bundle(folder, "rtx-3090")
    stem = "vae_decoder/model.sm86"
    assert list_files(folder) - files == {f"{stem}.engine", f"{stem}.layers.txt"}
    after = read_bundle(folder)
    assert {(a.path, a.kind, a.device) for a in set(after.artifacts) - set(before.artifacts)} == {
        (f"{stem}.engine", "engine", "rtx-3090"),
        (f"{stem}.layers.txt", "kernels", "rtx-3090"),
    }
    assert set(before.artifacts) <= set(after.artifacts), "what was there stays as it was"
    assert (built.device, after.device) == ("rtx-3090", "rtx-4090")


def test_a_device_of_the_same_capability_shares_the_engine(int8: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine is for sm89, not for a card: a 4070's is not built again, and the 4090's is not lost."""
    folder = copy_bundle(int8, tmp_path / "bundle")
    monkeypatch.setattr(TrtTarget, "build", lambda *arguments: pytest.fail("built again"))
    build_bundle(folder, "rtx-4070")
    engines = {
        device: find_artifact(read_bundle(folder), "vae_decoder", "engine", f"rtx-{device}") for device in ("4070", "4090")
    }
    assert engines["4070"] is not None
    assert engines["4090"] is not None
    assert engines["4070"].path == engines["4090"].path == "vae_decoder/model.sm89.engine"


def test_engines_built_side_by_side_are_those_built_one_by_one(
    fp8: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = []
    for count in (1, 3):
        folder = copy_bundle(fp8, tmp_path / str(count))
        monkeypatch.setattr(engines, "count_at_once", lambda *_, count=count: count)
        built = build_bundle(folder, "rtx-5090")
        made = [a for a in built.artifacts if a.device == "rtx-5090"]
        assert {a.kind for a in made} == {"engine", "kernels"}
        digests.append({a.path: a.sha256 for a in made})
    assert len(digests[0]) == 2 * len(ROLES)
    assert digests[0] == digests[1]
    assert read_bundle(folder).artifacts == built.artifacts, "its manifest names them"


def test_as_many_engines_are_built_at_once_as_processors_and_memory_allow() -> None:
    sizes = [3_200_000_000, 600_000_000, 300_000_000]
    assert count_at_once(sizes, 2, 24 << 30) == 1, "a builder has use for two"
    assert count_at_once(sizes, 4, 24 << 30) == 2
    assert count_at_once(sizes, 16, 24 << 30) == 3
    assert count_at_once(sizes, 16, 7_200_000_000) == 2
    assert count_at_once(sizes, 16, 1 << 30) == count_at_once(sizes, 16, None) == count_at_once([1], 16, 1) == 1


def test_an_engine_that_is_there_is_not_built_again(int8: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrtTarget, "build", lambda *arguments: pytest.fail("built again"))
    manifest = (int8 / "bundle.json").read_bytes()
    assert build_bundle(int8).device == "rtx-4090"
    assert (int8 / "bundle.json").read_bytes() == manifest


def test_a_device_the_precision_cannot_use_is_refused_with_what_can(fp8: Path) -> None:
    files = list_files(fp8)
    with pytest.raises(RefusedError, match=r"FP8 needs compute capability 8\.9 or newer; rtx-3090 has 8\.6; use trt-int8"):
        build_bundle(fp8, "rtx-3090")
    with pytest.raises(InputError, match=r"unknown device 'rtx-9090'; choose from: core-ultra-7-258v, cpu, h100, h200, "):
        build_bundle(fp8, "rtx-9090")
    assert list_files(fp8) == files


def test_a_bundle_without_its_engine_falls_back_only_when_nothing_was_asked(int8: Path, tmp_path: Path) -> None:
    folder = drop_app(copy_bundle(int8, tmp_path / "bundle"))
    edit_manifest(folder, lambda value: value.update(artifacts=[a for a in value["artifacts"] if a["kind"] != "engine"]))
    with pytest.raises(MachineError, match=r"trt cannot run here: the bundle has no engine; build it with: sprint-export build"):
        open_bundle(folder, "trt")


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_exports_and_opens_and_draws_the_tiny_twin(name: str, tiny_student: Student, tmp_path: Path) -> None:
    """Whatever targets there are: files of its own kinds, rows that are declared, a picture from a runtime that can run here."""
    target = load_target(name)
    if not all(map(is_installed, target.needs)) or all(load_runtime(each).can_run() for each in target.runtimes):
        pytest.skip(f"{name} is neither made nor run here")
    device = find_device(target.default_device)
    bundle = convert(tiny_student, f"{name}-{target.precisions[0]}", tmp_path / "out", prompts=["a red circle"], validate=False)
    assert bundle.options == complete_options(target, target.precisions[0], device, {})
    assert {(a.kind, a.device) for a in bundle.artifacts if a.device} == (
        {("engine", device.name), ("kernels", device.name)} if target.needs_build else set()
    )
    for row in target.read_rows(bundle):
        assert any(metric.fits(row.metric) for metric in target.metrics), row.metric
    pipeline = open_bundle(bundle.folder)
    picture = pipeline(["a red circle"], seed=0)
    assert picture.dtype == np.uint8 and picture.shape[0] == 1 and picture.std() > 0
    for session in pipeline.sessions.values():
        for finding in list_findings(session):
            assert any(metric.fits(finding.metric) for metric in target.metrics), finding.metric
