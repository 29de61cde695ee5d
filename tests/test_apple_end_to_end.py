"""Apple targets from end to end, on Linux: the embedded student to every one of them, and a student nobody made for it.

What runs is the saved file: Core ML packages in the numeric checker, Core AI assets in Apple's own CPU runtime. None of Apple's
hardware is in it; README's status table says so.
"""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("coremltools")

from sprint_export import load_student, open_bundle
from sprint_export.conversion import convert
from sprint_export.export.bundle import read_bundle
from sprint_export.registry import load_target
from tests.bundles import COREML_COUNT, check_refused, read_rows, run_command, shared_bundle
from tests.made_student import PROMPTS
from tests.tree import ROLES

POINTS = 100 / COREML_COUNT
MIN_PSNR_DB = {"fp32": 60.0, "fp16": 40.0, "int8": 30.0, "w8a8": 28.0, "w6": 25.0, "w4": 20.0, "fp8": 25.0}
MAX_DROP_POINTS = {"int8": 1.0, "w8a8": 2.0}  # elsewhere 1 as well


@pytest.fixture
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp()


@pytest.mark.parametrize("precision", load_target("coreml").precisions)
def test_the_embedded_student_as_a_core_ml_bundle(precision: str, base: Path) -> None:
    """Must show 1: half precision within 55 dB a component, pictures and adherence within their limits, nothing infinite."""
    bundle = read_bundle(shared_bundle(base, f"coreml-{precision}"))
    rows = read_rows(bundle.folder)
    assert rows["", "psnr_db"]["value"] >= MIN_PSNR_DB[precision]
    drop = rows["", "adherence_drop_points"]["value"]
    assert drop <= max(MAX_DROP_POINTS.get(precision, 1.0), POINTS), "more than one picture of the few drawn here"
    for role in ROLES:
        assert rows[role, "infinities"]["value"] == rows[role, "nans"]["value"] == 0
        assert rows[role, "departures"]["value"] == 0, rows[role, "departures"]["note"]
        if precision != "w8a8":  # there a value on a rounding step falls either way
            assert rows[role, "converter_psnr_db"]["value"] >= 55, role
    assert rows["transformer", "transposes"]["value"] == 1
    assert bundle.layout == "channels-first"
    assert bundle.options == {"deployment_target": "iOS18", "compute_unit": "neural-engine", "part_megabytes": 1000}
    assert (bundle.folder / "contact_sheet.png").is_file()


@pytest.mark.parametrize("precision", load_target("coreai").precisions)
def test_the_embedded_student_as_a_core_ai_bundle(precision: str, tmp_path: Path) -> None:
    pytest.importorskip("coreai")
    bundle = convert("sprint-tiny", f"coreai-{precision}", tmp_path / "out", count=8)
    rows = read_rows(bundle.folder)
    assert rows["", "psnr_db"]["value"] >= MIN_PSNR_DB[precision]
    assert rows["", "adherence_drop_points"]["value"] <= 0
    assert "Core AI" in open_bundle(bundle.folder).description


@pytest.mark.parametrize("device", ["iphone-15-pro", "mac-m4"])
def test_a_student_the_tests_made(made_folder: Path, tmp_path: Path, device: str) -> None:
    """Must show 2: odd widths, heads and window; the checker agrees with PyTorch."""
    for precision, least in (("fp32", 45.0), ("fp16", 40.0)):
        bundle = convert(str(made_folder), f"coreml-{precision}", tmp_path / precision, device=device, prompts=PROMPTS)
        rows = read_rows(bundle.folder)
        assert rows["", "psnr_db"]["value"] >= least
        for role in ROLES:
            if precision == "fp32":
                assert rows[role, "converter_relative_error"]["value"] <= 1e-5, role
            assert rows[role, "converter_psnr_db"]["value"] >= 55, role
            assert rows[role, "departures"]["value"] == 0, rows[role, "departures"]["note"]


def test_a_phone_gets_parts_that_draw_the_same(base: Path, tmp_path: Path) -> None:
    whole = read_bundle(shared_bundle(base, "coreml-int8"))
    parts = convert("sprint-tiny", "coreml-int8", tmp_path / "parts", validate=False, options={"part_megabytes": 1})
    assert {record.role: len(record.parts) for record in whole.components} == dict.fromkeys(ROLES, 1)
    assert len(next(record for record in parts.components if record.role == "transformer").parts) >= 2
    sizes = [artifact.bytes for artifact in parts.artifacts if artifact.kind == "weights"]
    assert max(sizes) <= 1.05e6
    prompt = ["a large red circle above a small blue square"]
    drawn = [open_bundle(bundle.folder)(prompt, seed=1).astype(int) for bundle in (whole, parts)]
    assert abs(drawn[0] - drawn[1]).max() <= 3, "half precision rounds what one part hands to the next"


def test_a_size_is_kept(tmp_path: Path) -> None:
    bundle = convert("sprint-tiny", "coreml-w4", tmp_path / "out", max_mb=2.7, validate=False, prompts=PROMPTS)
    sizes = sum(artifact.bytes for artifact in bundle.artifacts if artifact.kind == "weights")
    assert sizes <= 2.7e6
    assert bundle.recipe is not None
    used = {layer.scheme for record in bundle.components for layer in record.layers.values()}
    assert len(used) >= 2, "a mix"


def test_manifest_and_files_say_the_same(base: Path) -> None:
    folder = shared_bundle(base, "coreml-w6")
    bundle = read_bundle(folder)
    for record in bundle.components:
        for part in record.parts:
            assert (folder / record.role / part.graph).is_file()
        assert {spec.dtype for spec in record.inputs} <= {"float32", "int32"}


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("--target coreml-fp8", ["Core ML has no FP8 type", "coreml-w8a8", "coreai-fp8"]),
        ("--target coreml-w4 --deployment-target iOS17", ["need iOS18 or macOS15", "nearest is coreml-int8"]),
        ("--target coreml-int8 --deployment-target iOS16", ["iOS16", "iOS17, iOS18, iOS26"]),
        ("--target coreml-int8 --device rtx-4090", ["Core ML runs on Apple devices and rtx-4090 is none"]),
        ("--target coreml-w8a8 --device iphone-14", ["A17 Pro and M4", "use coreml-int8"]),
        ("--target coreml-int8 --compute-unit npu", ["unknown compute unit 'npu'", "neural-engine"]),
        ("--target coreml-int8 --max-mb 2", ["coreml-int8 does not mix bits", "coreml-w4 and coreml-w6"]),
        ("--target trt-fp8 --deployment-target iOS18", ["trt targets have no such option"]),
    ],
)
def test_what_cannot_work_is_refused_with_the_nearest_that_does(arguments: str, parts: list[str], tmp_path: Path) -> None:
    check_refused(run_command(*arguments.split(), folder=tmp_path), 2, *parts)
    assert not list(tmp_path.iterdir())


def test_the_licence_is_named(base: Path) -> None:
    folder = shared_bundle(base, "coreml-int8")
    assert read_bundle(folder).licence == load_student("sprint-tiny").licence
