"""What a run is asked for is checked without a library, whatever is wrong with it; what it needs is asked for before any work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from sprint_export.errors import InputError, MachineError
from sprint_export.nouns.order import CheckedOrder, Order
from sprint_export.nouns.student import Student
from sprint_export.run_checks import check_order, describe_order
from tests.test_house import run_python
from tests.tree import ROLES


def check(student: str | Path | Student = "sprint-tiny", target: str = "onnx-int8", **named: Any) -> CheckedOrder:
    return check_order(Order(student, target, **named))


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"target": "trt-fp9"}, r"unknown target 'trt-fp9'; .*Did you mean 'trt-fp8'\?"),
        ({"student": "random:sana"}, r"unknown random preset 'sana'; .*Did you mean 'sana-sprint-0.6b'\?"),
        ({"student": "sprint-tny"}, r"unknown student 'sprint-tny'; .*Did you mean 'sprint-tiny'\? Or give an existing"),
        ({"student": "x" * 5000}, r"unknown student 'x{200}\.\.\.'"),
        ({"student": "~nosuchuser/x"}, "--student ~nosuchuser/x: cannot be a path"),
        ({"student": "/dev/null"}, "unknown student '/dev/null'"),
        ({"device": "rtx-409"}, r"unknown device 'rtx-409'; .*Did you mean 'rtx-4090'\?"),
        ({"steps": (1, 5)}, "steps=5: distilled students take 1 to 4 steps; choose one of 1, 2, 3, 4"),
        ({"guidance": float("nan")}, "guidance=nan: expected a number, e.g. 4.5"),
        ({"prompt_tokens": 1}, "prompt_tokens=1: expected at least 2"),
        ({"max_mb": float("nan"), "target": "coreml-w4"}, "max_mb=nan: expected a size above 0"),
        ({"options": {"part_megabytes": 0}, "target": "coreml-int8"}, r"part_megabytes=0 \(--part-mb\): expected at least 1"),
        ({"components": ("unet",)}, "unknown component 'unet'; choose from: controlnet, text_encoder, transformer, vae_decoder"),
        ({"gates": ("psnr>=30",)}, r"unknown gate metric 'psnr'; .*Did you mean 'psnr_db'\?"),
        ({"gates": ("engine_mb<=1",)}, "gate metric 'engine_mb': onnx bundles have no such row"),
        ({"gates": ("ssim>=1",), "validate": False}, "gate 'ssim>=1' is held by the validation, which --no-validate leaves out"),
        ({"provider": "cpu", "validate": False}, "provider 'cpu' is for the check, which --no-validate leaves out"),
        ({"provider": "gpu"}, "unknown provider for onnx bundles: "),
        ({"gates": ("ssim>=1",), "components": ROLES[:1]}, "needs all networks; leave --gate or --component out"),
        ({"recipe": "auto", "gates": ("psnr_db<=9",)}, "--recipe auto needs a gate from below, found 'psnr_db<=9'"),
        ({"recipe": "fats"}, r"unknown recipe 'fats'; .*Did you mean 'fast'\?"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_said(named: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check(**named)


def test_checks_load_no_library(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom sprint_export.nouns.order import Order\nfrom sprint_export.run_checks import check_order\n"
        "check_order(Order('sprint-tiny', 'trt-fp8', gates=('psnr_db>=3',), recipe='fast'))\n"
        "print([name for name in ('torch', 'onnx', 'onnxruntime', 'diffusers', 'tensorrt_rtx') if name in sys.modules])"
    )
    assert run_python(code) == "[]"


@pytest.mark.parametrize(
    ("target", "module", "said"),
    [
        ("onnx-int8", "onnxscript", "onnxscript is not installed; run: pip install 'sprint-export[export]'"),
        ("trt-fp8", "tensorrt_rtx", r"tensorrt_rtx is not installed; run: pip install 'sprint-export\[trt\]'"),
        ("coreml-int8", "coremltools", r"coremltools is not installed; run: pip install 'sprint-export\[coreml\]'"),
        ("coreai-int8", "coreai", r"coreai is not installed; run: pip install 'sprint-export\[coreai\]'"),
        ("openvino-int8", "openvino", r"openvino is not installed; run: pip install 'sprint-export\[openvino\]'"),
        ("onnx-int8", "onnxruntime", "the bundle could not be validated: onnx cannot run here: onnxruntime is not installed"),
        ("onnx-int8", "skimage", "skimage is not installed; run: pip install 'sprint-export[export]'"),
    ],
)
def test_what_a_run_needs_is_asked_for_first(target: str, module: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MachineError, match=said.replace("[export]", r"\[export\]")):
        check(target=target)


def test_what_validation_needs_is_not_asked_for_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    check(validate=False)
    check(components=ROLES[:1])


def test_an_out_that_cannot_be_written_is_said_first(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for out, said in (
        ("/proc/x", r"cannot write to /proc/\.x\.partial .*; choose another --out"),
        (tmp_path / "loop", "loop: cannot be a path"),
        (tmp_path / ("x" * 300) / "y", "x: cannot|cannot write|File name too long"),
    ):
        with pytest.raises(InputError, match=said):
            check(out=out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loop"], "the probe is gone"


def test_the_choices_are_described() -> None:
    lines = list(describe_order(check(target="coreml-int8", gates=("psnr_db>=40", "psnr_db<=90"))))
    assert lines[0].startswith("target: coreml-int8, Core ML package")
    assert "device: iphone-15-pro, Apple iPhone 15 Pro (A17 Pro, 8 GB)" in lines
    assert "deployment_target: iOS18" in lines
    assert "recipe: balanced" in lines
    assert lines[-1].endswith("psnr_db>=40, psnr_db<=90")
    asked = set(describe_order(check(decoder="sprint-tiny", times="tbcm")))
    assert {"decoder: sprint-tiny", "times: tbcm"} <= asked
