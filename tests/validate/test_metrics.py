"""The list of metrics: every row that code can write is on it, and a gate on none of them is refused at once."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from sprint_export.errors import InputError
from sprint_export.registry import list_members, load_target
from sprint_export.validate.gates import add_defaults
from sprint_export.validate.metrics import METRICS, check_judged, check_metrics, find_metric, list_metrics
from tests.tree import ROOT

ONNX, TRT, COREML = (load_target(name) for name in ("onnx", "trt", "coreml"))


def test_names_are_declared_once() -> None:
    for target in map(load_target, list_members("target")):
        names = [metric.name for metric in (*METRICS, *target.metrics)]
        assert len(set(names)) == len(names)


WRITERS = ("Measurement", "Finding", "Rule", "Sampled", "sample_mean")


def written_names(path: Path) -> list[str]:
    """First arguments of what becomes a row in a file; what is computed in one stands as *."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in WRITERS and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant):
                found.append(str(name.value))
            elif isinstance(name, ast.JoinedStr):
                found.append("".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in name.values))
    return found


def test_every_row_that_code_writes_is_declared() -> None:
    rooms = {"latency", "comparing", "against_reference"}  # of other verbs, whose rows no validation has
    files = [path for folder in ("validate", "runtimes") for path in (ROOT / folder).rglob("*.py")]
    files = [path for path in files if not rooms & {*path.parts, path.stem}]
    names = {name for path in files for name in written_names(path)}
    assert {"psnr_db", "departures", "kernels_*", "infinities"} <= names, "the walk is broken"
    declared = [metric.name for metric in list_metrics()]

    def is_declared(name: str) -> bool:
        form = re.compile(re.escape(name).replace(r"\*", ".+"))
        return find_metric(name) is not None or any(form.fullmatch(each) for each in declared)

    missing = sorted(name for name in names if not is_declared(name))
    assert not missing, f"give these a line in validate/metrics.py or in a target's metrics: {missing}"


def test_default_gates_speak_about_declared_metrics() -> None:
    for scheme in list_members("scheme"):
        assert all(find_metric(gate.metric) is not None for gate in add_defaults((), scheme))


@pytest.mark.parametrize(
    ("name", "target", "said"),
    [
        ("psnr", ONNX, r"unknown gate metric 'psnr'; choose from: .*ssim.* Did you mean 'psnr_db'\?"),
        ("engine_mb", ONNX, "gate metric 'engine_mb': onnx bundles have no such row; choose from: "),
        ("infinities", TRT, "gate metric 'infinities': trt bundles have no such row"),
        ("kernels_", TRT, "unknown gate metric 'kernels_'"),
        ("searched_psnr_db", TRT, r"gate metric 'searched_psnr_db': it takes a recipe that was searched \(--recipe auto\)"),
    ],
)
def test_a_gate_on_a_row_that_no_report_will_have_is_refused(name: str, target: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_metrics([name], target)  # type: ignore[arg-type]  # a Target out of a parametrized list


CAPTION = "a small red circle above a large blue square on a white background"


def test_what_a_report_can_have_may_be_asked_for() -> None:
    check_metrics(["psnr_db", "engine_mb", "kernels_fp8", "adherence_percent"], TRT)
    check_metrics(["infinities", "departures", "ops_on_gpu"], COREML)
    check_metrics(["searched_psnr_db"], TRT, is_searched=True)
    check_judged(["psnr_db"], ["a dog"])
    check_judged(["flips"], [CAPTION])
    check_judged(["flips"], [CAPTION], 64)
    with pytest.raises(InputError, match="gate metric 'flips': it takes prompts that are captions of the shapes world"):
        check_judged(["flips"], ["a dog"])
    with pytest.raises(InputError, match="its pictures of 64 px"):
        check_judged(["flips"], [CAPTION], 128)
