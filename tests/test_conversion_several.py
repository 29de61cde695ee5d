"""Several targets in one run: all are checked first, each bundle is what it is alone, and a failure loses no other."""

from __future__ import annotations

import json
import re
from contextvars import Context
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import typer

from sprint_export import conversion, specialize
from sprint_export.cli.results import show_results
from sprint_export.cli.screen import stdout
from sprint_export.conversion import convert, convert_each, convert_targets
from sprint_export.errors import BundleError, InputError, MachineError, RefusedError
from sprint_export.nouns.order import Order
from sprint_export.nouns.report import Measurement, Report, Verdict
from sprint_export.nouns.student import Student
from sprint_export.progress import Step
from sprint_export.run_checks import check_orders
from tests.bundles import list_files, run_command

ONE: dict[str, Any] = {"components": ("vae_decoder",), "validate": False}


def test_each_bundle_is_what_the_single_run_makes(tiny_student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte for byte, the manifest too: quantized, in both layouts, and of a translation that two share."""
    pytest.importorskip("openvino")
    pytest.importorskip("coremltools")
    layouts, steps, specialize_student = [], [], specialize.specialize_student

    def note_layout(*arguments: Any) -> Student:
        layouts.append(arguments[3])
        return specialize_student(*arguments)

    monkeypatch.setattr(specialize, "specialize_student", note_layout)
    targets, asked = (
        ["onnx-int8", "onnx-fp32", "openvino-int8", "coreml-fp16", "coreml-int8"],
        {**ONE, "prompts": ["a red circle"]},
    )
    run = partial(convert_targets, tiny_student, targets, tmp_path / "all", progress=lambda step, *_: steps.append(step))
    bundles = Context().run(partial(run, **asked))  # a context of its own does not see what tests have captured
    assert sorted(layouts) == sorted({bundle.layout for bundle in bundles}) == ["channels-first", "channels-last"]
    assert list(dict.fromkeys(step.target for step in steps if step == Step("exporting", "vae_decoder", step.target))) == targets
    assert "onnx-fp32, exporting: vae_decoder" in map(str, steps)
    assert [bundle.folder for bundle in bundles] == [tmp_path / "all" / target for target in targets]
    for target in targets:
        together, alone = tmp_path / "all" / target, tmp_path / target
        convert(tiny_student, target, alone, **asked)
        assert list_files(together) == list_files(alone)
        assert not [name for name in list_files(alone) if (together / name).read_bytes() != (alone / name).read_bytes()]
    assert {path.name for path in tmp_path.iterdir()} == {"all", *targets}


def test_one_bundle_is_of_one_target() -> None:
    with pytest.raises(InputError, match="expected one target; convert_targets makes a bundle of each"):
        convert("sprint-tiny", "onnx-fp32,onnx-fp16")


@pytest.mark.parametrize(
    ("target", "asked", "error", "message"),
    [
        ("onnx-fp32,onnx-fp23", {}, InputError, "unknown target 'onnx-fp23'"),
        ("onnx-fp32,", {}, InputError, "unknown target ''"),
        ("onnx-fp32,coreml-fp8", {}, RefusedError, "coreml-fp8: Core ML has no FP8 type"),
        ("onnx-fp32,onnx-fp16,onnx-fp32", {}, InputError, "--target onnx-fp32,onnx-fp16,onnx-fp32 names onnx-fp32 twice"),
        (
            "onnx-fp32,openvino-fp16",
            {"options": {"builder": "tensorrt"}},
            InputError,
            "builder=tensorrt: onnx targets have no such option",
        ),
        ("onnx-int8,onnx-fp16", {"recipe": "fast"}, RefusedError, "onnx-fp16 quantizes nothing and takes no recipe"),
        ("onnx-fp32,trt-int8", {"device": "cpu"}, RefusedError, "trt-int8 --device cpu: "),
        ("openvino-fp16,onnx-fp32", {"gates": ["load_s<=9"], "validate": True}, InputError, "onnx-fp32: gate metric 'load_s'"),
        ("onnx-fp32,onnx-fp16", {"steps": 9}, InputError, "steps=9: distilled students take 1 to 4 steps"),
        ("onnx-fp32,onnx-fp16", {"out": "full"}, InputError, "--out full/onnx-fp16 holds files but no bundle.json"),
        ("onnx-fp32,onnx-fp16", {"out": "bundle"}, InputError, "--out bundle is a bundle; for several targets expected"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_all_is_checked_before_anything_is_loaded(
    tiny_student: Student,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    asked: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(conversion, "load_libraries", lambda _: pytest.fail("something was loaded"))
    for name in ("full/onnx-fp16/thesis.txt", "bundle/bundle.json"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("{}")
    before = list_files(tmp_path)
    with pytest.raises(error, match=f"(^|: ){re.escape(message)}"):
        convert_targets(tiny_student, target, **{"validate": False, **asked})
    assert list_files(tmp_path) == before


def test_an_option_goes_to_the_targets_that_have_it(tmp_path: Path) -> None:
    pytest.importorskip("coremltools")
    order = Order(target="coreml-fp16, onnx-fp32", validate=False, options={"deployment_target": "iOS17"})
    coreml, onnx = check_orders(order)
    assert coreml.deployment.options["deployment_target"] == "iOS17"
    assert onnx.order.options == {}
    assert [checked.out.name for checked in (coreml, onnx)] == ["sprint-tiny-coreml-fp16", "sprint-tiny-onnx-fp32"]
    assert [checked.order for checked in check_orders(Order(target="onnx-fp32", validate=False))] == [
        Order(target="onnx-fp32", validate=False)
    ]


def test_a_failure_loses_no_other(tiny_student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnx-fp32").mkdir()
    (tmp_path / "onnx-fp32" / "bundle.json").write_text("{}")
    said: list[str] = []
    asked = {**ONE, "options": {"compute_unit": "cpu"}}
    with pytest.raises(BundleError, match=r"^onnx-fp32: .*add --overwrite\. Finished and kept: openvino-fp16; the same command"):
        convert_targets(tiny_student, "onnx-fp32,openvino-fp16", tmp_path, say=said.append, **asked)
    assert {path.name for path in tmp_path.iterdir()} == {"onnx-fp32", "openvino-fp16"}
    assert "onnx-fp32: has no option compute_unit and is made without" in said
    assert any(line.startswith("onnx-fp32: ") and "bundle.json" in line for line in said), "said when it happens, too"

    def lack_memory(*_: Any) -> None:
        raise MemoryError

    (tmp_path / "onnx-fp16").mkdir()
    monkeypatch.setattr(conversion, "_make_bundle", lack_memory)
    with pytest.raises(MachineError, match=r"^onnx-fp16: memory ran short .*; onnx-fp32: .*kept: none; the same command goes on"):
        list(convert_each(Order(tiny_student, "onnx-fp16,onnx-fp32", tmp_path, **ONE)))


def test_the_command_reports_each_and_leaves_with_the_worst(tmp_path: Path) -> None:
    """One that meets its gate, one that does not, one whose folder holds a damaged bundle."""
    (tmp_path / "out" / "onnx-fp8").mkdir(parents=True)
    (tmp_path / "out" / "onnx-fp8" / "bundle.json").write_text("{}")
    command = ("--target", "onnx-fp32,onnx-fp16,onnx-fp8", "--out", "out", "--count", 3, "--gate", "psnr_db>=80")
    checked = run_command(*command, "--dry-run", folder=tmp_path)
    assert [line.split(",")[0] for line in checked.stdout.splitlines() if line.startswith("target")] == [
        "target: onnx-fp32",
        "target: onnx-fp16",
        "target: onnx-fp8",
    ]
    done = run_command(*command, "--json", folder=tmp_path)
    assert done.returncode == 2, done.stderr
    reports = json.loads(done.stdout)
    assert [(report["target"], report["passed"]) for report in reports] == [("onnx-fp32", True), ("onnx-fp16", False)]
    lines = done.stderr.splitlines()
    assert "onnx-fp16, exporting ..." in lines
    assert [line for line in lines if line.startswith("onnx-fp16: gate not met: psnr_db is ")]
    assert lines[-1].startswith("error: onnx-fp8: ")
    assert lines[-1].endswith("Finished and kept: onnx-fp32, onnx-fp16; the same command goes on")


def test_a_gate_that_one_does_not_meet_is_status_1() -> None:
    verdicts: tuple[Verdict, ...] = ("met", "not met")
    rows = tuple(Measurement("psnr_db", 40.0, "dB", limit="psnr_db>=50", verdict=verdict) for verdict in verdicts)
    good, bad = (Report(name, name, "a runtime", "a machine", 1, (row,)) for name, row in zip("ab", rows, strict=True))
    for results, status in (([good, good], 0), ([bad, good], 1)):
        with stdout.capture() as captured:
            try:
                show_results(results, as_json=False, as_list=True)
                assert status == 0
            except typer.Exit as left:
                assert left.exit_code == status == 1
        assert [line for line in captured.get().splitlines() if line.startswith("bundle: ")] == [
            f"bundle: {each.bundle}" for each in results
        ]
