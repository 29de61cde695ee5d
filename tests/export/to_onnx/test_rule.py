"""Rules: found by name, pull no weight, fire as often as a network computes what they serve, and are missed where they do not."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
import pytest

import sprint_export.export.to_onnx.rules as rules
from sprint_export.errors import InputError, MachineError
from sprint_export.export.to_onnx import writer
from sprint_export.export.to_onnx.passes import SMALL, run_passes
from sprint_export.export.to_onnx.rule import PatternRule, apply_rules, load_rule
from sprint_export.export.to_onnx.writer import EXPORTER, capture_graph
from sprint_export.nouns.bundle import RuleCount
from sprint_export.nouns.student import Student
from sprint_export.registry import list_members, load_target
from tests.export.to_onnx.graphs import quantize, run_onnx
from tests.export.to_onnx.meter import Meter
from tests.made_student import Array, relative_error

FILES = {path.stem: path for path in sorted(Path(rules.__path__[0]).glob("*.py")) if path.stem != "__init__"}
TARGETS = [name for name in list_members("target") if load_target(name).rewrites]
BY_HAND = {"channels_last", "fewer_transposes", "merged_projections", "separate_gate"}
TOLERANCE = 5e-6  # relative, float32


@pytest.mark.parametrize("name", FILES)
def test_a_rule_opens_with_its_algebra_and_is_a_pattern_or_says_why_not(name: str) -> None:
    rule, document = load_rule(name), ast.get_docstring(ast.parse(FILES[name].read_text("utf-8")))
    assert rule.name == name
    assert document is not None and document.split("\n")[2].startswith("    "), "a formula after the first line"
    assert isinstance(rule, PatternRule) == (name not in BY_HAND)
    assert "by hand" in FILES[name].read_text("utf-8") or name not in BY_HAND


def test_every_rule_is_some_targets_and_every_name_a_rule() -> None:
    named = {name for target in TARGETS for name in load_target(target).rewrites}
    assert named == set(FILES)
    for target in map(load_target, TARGETS):
        assert set(target.required_rules) <= set(target.rewrites)
    with pytest.raises(InputError, match=r"a target names the rewrite rule 'no_such'; there is no file no_such\.py in export/"):
        load_rule("no_such")


@pytest.mark.parametrize(("target", "precision"), [("onnx", "int8"), ("trt", "fp8"), ("openvino", "int8")])
def test_no_rule_pulls_a_weight_and_every_new_value_has_a_type(tiny_special: Student, target: str, precision: str) -> None:
    component, meter = quantize(tiny_special, target, precision).components["transformer"], Meter()
    model = capture_graph(meter.watch(component), load_target(target).graph_dtype[precision])
    before = {value.name for node in model.graph for value in node.outputs}
    counts = apply_rules(model, load_target(target).rewrites)
    assert sum(map(bool, counts.values())) > len(counts) / 2, counts
    assert not [load for load in meter.loads if load[1] > SMALL]
    new = [value for node in model.graph for value in node.outputs if value.name not in before]
    assert new and all(value.dtype is not None for value in new)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["tiny_special", "made_special"])
def test_rules_fire_as_often_as_networks_compute_what_they_serve(name: str, target: str, request: pytest.FixtureRequest) -> None:
    student: Student = request.getfixturevalue(name)
    chosen, served = load_target(target), set[str]()
    for component in student.components.values():
        counts = apply_rules(capture_graph(component, "bf16" if target == "trt" else "fp32"), chosen.rewrites)
        expected = {rule: load_rule(rule).expected(component) for rule in counts}
        assert not {rule: count for rule, count in counts.items() if count < expected[rule]}, expected
        served |= {rule for rule, count in expected.items() if count}
    assert served == {rule for rule in chosen.rewrites if load_rule(rule).serves}, "every word is one of a network's"


def put_identity(before: str) -> Callable[[ir.Model], ir.Model]:
    """The passes of tomorrow: an Identity stands before every node of this operator."""

    def run(model: ir.Model) -> ir.Model:
        run_passes(model)
        for node in [node for node in model.graph if node.op_type == before]:
            source = node.inputs[0]
            assert source is not None
            identity = ir.node("Identity", [source], name=f"{source.name}.{before}.identity")
            identity.outputs[0].name, identity.outputs[0].type = f"{source.name}.{before}.same", source.type
            identity.outputs[0].shape = source.shape
            model.graph.insert_before(node, identity)
            node.replace_input_with(0, identity.outputs[0])
        return model

    return run


@pytest.mark.parametrize(("operator", "rule"), [("Softmax", "cross_attention"), ("ReduceSum", "linear_attention")])
def test_a_form_that_torch_never_wrote_ends_an_export_whose_target_requires_the_rule(
    tiny_special: Student, operator: str, rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "run_passes", put_identity(operator))
    wanted = rf"^rule {rule} fired 0 times, transformer has 2 of what it serves \(.* attention\): torch 2\..* on trt; install "
    with pytest.raises(MachineError, match=wanted):
        EXPORTER.write_component(tiny_special.components["transformer"], load_target("trt"), "bf16", {}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_elsewhere_it_is_a_note_and_the_same_function(
    tiny_special: Student, tiny_feeds: dict[str, dict[str, Array]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    component, target, outputs = tiny_special.components["transformer"], load_target("onnx"), []
    for folder in (tmp_path / "today", tmp_path / "tomorrow"):
        folder.mkdir()
        record = EXPORTER.write_component(component, target, "fp32", {}, folder)
        outputs.append(run_onnx(folder / "model.onnx", tiny_feeds["transformer"], fuse=False))
        silent = [note for note in record.notes if note.startswith("rule ")]
        assert [note.split()[1] for note in silent] == ([] if folder.name == "today" else ["masked_keys", "cross_attention"])
        assert record.rewrites["cross_attention"] == RuleCount(2 if folder.name == "today" else 0, 2)
        assert record.rewrites["norm_divisions"] == RuleCount(9, 9)
        (fired,) = (note for note in record.notes if note.startswith("rules: "))
        assert "norm_divisions 9" in fired and ("cross_attention 2" in fired) == (folder.name == "today")
        monkeypatch.setattr(writer, "run_passes", put_identity("Softmax"))
    assert relative_error(outputs[1], outputs[0]) <= TOLERANCE
