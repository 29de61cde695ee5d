"""Recipes: every layer has one decision with a reason; a rule that does nothing is an error; TOML in and out."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from sprint_export.errors import InputError
from sprint_export.quantize.patterns import FLOAT, MIN_CHANNELS, explain_recipe, is_pointwise, refuse_layer
from sprint_export.quantize.recipes import CALIBRATION_PROMPTS, default_recipe, read_recipe
from sprint_export.schema import ROLES, Recipe, Rule, Student
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student


@pytest.fixture(scope="module")
def student(made: Student) -> Student:
    return specialize_student(made)


def layers_of(student: Student) -> dict[str, torch.nn.Module]:
    return {
        f"{role}.{name}": module
        for role, component in student.components.items()
        for name, module in component.module.named_modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
    }


def recipe(*rules: tuple[str, str]) -> Recipe:
    return Recipe("test", tuple(Rule(pattern, precision, "because") for pattern, precision in rules))


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_the_default_decides_every_layer_once_in_order(student: Student, precision: str) -> None:
    decisions = explain_recipe(default_recipe(precision, student), student)
    assert [decision.layer for decision in decisions] == list(layers_of(student))
    assert {decision.precision for decision in decisions} == {FLOAT, precision}
    assert all(decision.reason for decision in decisions)
    for decision in decisions:
        assert decision.values == layers_of(student)[decision.layer].get_parameter("weight").numel()


def test_the_default_leaves_the_doors_open(student: Student) -> None:
    decided = {decision.layer: decision.precision for decision in explain_recipe(default_recipe("int8", student), student)}
    for door in (
        "transformer.patch_embed.proj",
        "transformer.caption_projection.linear_1",
        "transformer.proj_out",
        "vae_decoder.decoder.conv_in",
        "vae_decoder.decoder.conv_out.conv",
    ):
        floats = [layer for layer in decided if layer.startswith(door.removesuffix(".conv"))]
        assert floats, door
        assert {decided[layer] for layer in floats} == {FLOAT}
    for role in ROLES:
        assert any(precision == "int8" for layer, precision in decided.items() if layer.startswith(role))
    assert decided["transformer.transformer_blocks.1.attn1.to_q"] == "int8"
    assert decided["transformer.transformer_blocks.1.ff.conv_inverted"] == "int8"


def test_depthwise_convolutions_are_never_quantized(student: Student) -> None:
    layers = layers_of(student)
    depthwise = {name for name, m in layers.items() if isinstance(m, torch.nn.Conv2d) and m.groups > 1}
    assert {name.split(".")[0] for name in depthwise} == {"transformer", "vae_decoder"}, "both networks have them"
    for decision in explain_recipe(recipe(("*", "int8")), student):
        if decision.layer in depthwise:
            assert decision.precision == FLOAT
            assert "depthwise" in decision.reason
            assert not decision.is_pointwise


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (torch.nn.Linear(16, 16), None),
        (torch.nn.Linear(8, 64), f"8 -> 64 channels: fewer than {MIN_CHANNELS}"),
        (torch.nn.Conv2d(32, 3, 3), f"32 -> 3 channels: fewer than {MIN_CHANNELS}"),
        (torch.nn.Conv2d(32, 32, 3, groups=32), "grouped or depthwise convolution"),
        (torch.nn.Conv2d(32, 32, 3), None),
    ],
)
def test_why_a_layer_is_refused(module: torch.nn.Linear | torch.nn.Conv2d, reason: str | None) -> None:
    found = refuse_layer(module)
    assert found == reason or (found is not None and reason is not None and found.startswith(reason))


def test_what_counts_as_a_matmul() -> None:
    assert is_pointwise(torch.nn.Linear(4, 4))
    assert is_pointwise(torch.nn.Conv2d(4, 4, 1))
    assert not is_pointwise(torch.nn.Conv2d(4, 4, 3))
    assert not is_pointwise(torch.nn.Conv2d(4, 4, 1, groups=4))


def test_the_first_match_wins(student: Student) -> None:
    mine = recipe(("transformer.*.to_k", FLOAT), ("transformer.*", "fp8"), ("*", "int8"))
    decided = {decision.layer: decision for decision in explain_recipe(mine, student)}
    assert decided["transformer.transformer_blocks.0.attn1.to_k"].precision == FLOAT
    assert decided["transformer.transformer_blocks.0.attn1.to_q"].precision == "fp8"
    assert decided["text_encoder.model.layers.0.mlp.up_proj"].precision == "int8"
    assert decided["transformer.transformer_blocks.0.attn1.to_q"].reason == "rule 'transformer.*': because"


@pytest.mark.parametrize("rules", [(), (("transformer.*", "int8"),), (("*", "int8"), ("transformer.*", FLOAT))])
def test_a_recipe_needs_a_catch_all_at_its_end(student: Student, rules: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(InputError, match=r"recipe 'test' needs a last rule with pattern '\*'"):
        explain_recipe(recipe(*rules), student)


def test_a_pattern_that_matches_nothing_shows_what_names_look_like(student: Student) -> None:
    with pytest.raises(InputError) as caught:
        explain_recipe(recipe(("transformer.blocks.*", FLOAT), ("*", "int8")), student)
    names = list(layers_of(student))
    for part in ("pattern 'transformer.blocks.*' matches no layer", student.source, repr(names[0]), repr(names[-1])):
        assert part in str(caught.value)


def test_a_rule_that_an_earlier_one_hides_does_nothing_and_is_an_error(student: Student) -> None:
    with pytest.raises(InputError, match=r"pattern 'transformer\.proj_out'"):
        explain_recipe(recipe(("transformer.*", FLOAT), ("transformer.proj_out", "int8"), ("*", "int8")), student)


def test_the_default_fits_a_part_of_a_student(student: Student) -> None:
    part = dataclasses.replace(student, components={"vae_decoder": student.components["vae_decoder"]})
    mine = default_recipe("fp8", part)
    assert {rule.pattern.split(".")[0] for rule in mine.rules} == {"vae_decoder", "*"}
    assert explain_recipe(mine, part)


def test_the_default_calibrates_with_the_students_own_prompts() -> None:
    student = specialize_student(load_student("sprint-tiny"))
    assert default_recipe("int8", student).prompts == student.calibration_prompts[:CALIBRATION_PROMPTS]


def test_a_recipe_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\nseed = 7\nprompts = ["one", "two"]\n'
        '[[rules]]\npattern = "transformer.*"\nprecision = "float"\nreason = "why"\n'
        '[[rules]]\npattern = "*"\nprecision = "fp8"\n'
    )
    wanted = Recipe("mine", (Rule("transformer.*", "float", "why"), Rule("*", "fp8", "")), ("one", "two"), 7)
    assert read_recipe(path) == wanted


def test_a_recipes_file_may_leave_out_all_but_the_rules(tmp_path: Path) -> None:
    path = tmp_path / "short.toml"
    path.write_text('rules = [{pattern = "*", precision = "int8"}]')
    assert read_recipe(path) == Recipe("short", (Rule("*", "int8"),), (), 1)


CATCH_ALL = '[[rules]]\npattern = "*"\nprecision = "int8"\n'
BAD = {
    "not TOML": ("name = ", ["bad.toml: cannot be read as TOML"]),
    "no rules": ('name = "x"', ["bad.toml: expected", "[[rules]]", "'rules'"]),
    "rules is a text": ('rules = "x"', ["bad.toml: expected"]),
    "a rule without a pattern": ('[[rules]]\nprecision = "int8"', ["bad.toml: expected", "pattern"]),
    "a rule without a precision": ('[[rules]]\npattern = "*"', ["bad.toml: expected", "precision"]),
    "a rule with another key": (CATCH_ALL + 'scale = "max"', ["bad.toml: expected", "scale"]),
    "a pattern that is a number": ('[[rules]]\npattern = 3\nprecision = "int8"', ["bad.toml: expected", "expected str, found 3"]),
    "prompts is a text": (f'prompts = "a red circle"\n{CATCH_ALL}', ["bad.toml: expected", "prompts", "found str"]),
    "a prompt is a number": (f"prompts = [1]\n{CATCH_ALL}", ["bad.toml: expected", "expected str, found 1"]),
    "seed is a text": (f'seed = "x"\n{CATCH_ALL}', ["bad.toml: expected", "expected int, found 'x'"]),
    "name is a number": (f"name = 3\n{CATCH_ALL}", ["bad.toml: expected", "expected str, found 3"]),
    "an unknown key": (
        f"sed = 1\n{CATCH_ALL}",
        ["unknown key in recipe", "'sed'", "correct_bias, name, observer, prompts, rules, seed, smooth"],
    ),
    "an unknown precision": (
        '[[rules]]\npattern = "*"\nprecision = "int7"',
        ["unknown precision in rule '*'", "'int7'", "float, fp8, int4, int8, w4, w6, w8a16, w8a8"],
    ),
    "a float type by its name": (
        '[[rules]]\npattern = "*"\nprecision = "fp16"',
        ["unknown precision", "'fp16'", "float, fp8, int4, int8, w4, w6, w8a16, w8a8"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_damaged_recipe(tmp_path: Path, case: str) -> None:
    text, parts = BAD[case]
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_recipe(path)
    for part in parts:
        assert part in str(caught.value)


def test_a_missing_recipe(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--recipe .*none\.toml: cannot be read as TOML .*No such file"):
        read_recipe(tmp_path / "none.toml")
