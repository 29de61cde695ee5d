"""Recipes: every layer has one decision with a reason; a rule that does nothing is an error; TOML in and out."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from sprint_export.errors import InputError
from sprint_export.nouns.recipe import Recipe, Rule
from sprint_export.nouns.student import Student
from sprint_export.quantize import preset_files
from sprint_export.quantize.patterns import FLOAT, explain_recipe, is_pointwise, place_pattern
from sprint_export.quantize.preset_files import check_name, find_preset, list_presets, preset_folder
from sprint_export.quantize.recipes import CALIBRATION_PROMPTS, default_recipe, fit_recipe, read_preset
from sprint_export.quantize.schemes.scheme import MIN_CHANNELS, load_scheme
from sprint_export.recipe_toml import read_recipe, write_recipe
from sprint_export.registry import list_members, load_target
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from tests.tree import ROLES

TARGETS = {name: load_target(name) for name in list_members("target")}
ONNX = TARGETS["onnx"]


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
    decisions = explain_recipe(default_recipe(precision, student, ONNX), student)
    assert [decision.layer for decision in decisions] == list(layers_of(student))
    assert {decision.precision for decision in decisions} == {FLOAT, ONNX.offers[precision].scheme}
    assert all(decision.reason for decision in decisions)
    for decision in decisions:
        assert decision.values == layers_of(student)[decision.layer].get_parameter("weight").numel()


def test_the_default_leaves_the_doors_open(student: Student) -> None:
    decided = {decision.layer: decision.precision for decision in explain_recipe(default_recipe("int8", student, ONNX), student)}
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
        assert any(precision == "w8a8" for layer, precision in decided.items() if layer.startswith(role))
    assert decided["transformer.transformer_blocks.1.attn1.to_q"] == "w8a8"
    assert decided["transformer.transformer_blocks.1.ff.conv_inverted"] == "w8a8"


@pytest.mark.parametrize(("target", "wanted"), [("trt", "w8a8"), ("onnx", "fp8"), ("coreai", "fp8a16")])
@pytest.mark.parametrize("name", ["fast", "balanced", "faithful"])
def test_a_decoder_gets_what_the_targets_convolutions_are_fastest_in(
    student: Student, name: str, target: str, wanted: str
) -> None:
    goal = load_target(target)
    recipe = read_preset(name, "fp8", student, goal)
    scheme = goal.offers["fp8"].scheme
    if name != "faithful":
        decisions = explain_recipe(recipe, student)
        found = {role: {d.precision for d in decisions if d.layer.startswith(role)} - {FLOAT} for role in ROLES}
        assert found == {"text_encoder": {scheme}, "transformer": {scheme}, "vae_decoder": {wanted}}
    assert [rule.precision for rule in recipe.rules if rule.pattern == "vae_decoder.*"] == [wanted]


def test_depthwise_convolutions_are_never_quantized(student: Student) -> None:
    layers = layers_of(student)
    depthwise = {name for name, m in layers.items() if isinstance(m, torch.nn.Conv2d) and m.groups > 1}
    assert {name.split(".")[0] for name in depthwise} == {"transformer", "vae_decoder"}, "both networks have them"
    for decision in explain_recipe(recipe(("*", "w8a8")), student):
        if decision.layer in depthwise:
            assert decision.precision == FLOAT
            assert "depthwise" in decision.reason
            assert decision.is_refused
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
    found = load_scheme("w8a8").refuse(module)
    assert found == reason or (found is not None and reason is not None and found.startswith(reason))


def test_what_counts_as_a_matmul() -> None:
    assert is_pointwise(torch.nn.Linear(4, 4))
    assert is_pointwise(torch.nn.Conv2d(4, 4, 1))
    assert not is_pointwise(torch.nn.Conv2d(4, 4, 3))
    assert not is_pointwise(torch.nn.Conv2d(4, 4, 1, groups=4))


def test_the_first_match_wins(student: Student) -> None:
    mine = recipe(("transformer.*.to_k", FLOAT), ("transformer.*", "fp8"), ("*", "w8a8"))
    decided = {decision.layer: decision for decision in explain_recipe(mine, student)}
    assert decided["transformer.transformer_blocks.0.attn1.to_k"].precision == FLOAT
    assert decided["transformer.transformer_blocks.0.attn1.to_q"].precision == "fp8"
    assert decided["text_encoder.model.layers.0.mlp.up_proj"].precision == "w8a8"
    assert decided["transformer.transformer_blocks.0.attn1.to_q"].rule == "transformer.*"
    assert decided["transformer.transformer_blocks.0.attn1.to_q"].reason == "because"


@pytest.mark.parametrize("rules", [(), (("transformer.*", "int8"),), (("*", "int8"), ("transformer.*", FLOAT))])
def test_a_recipe_needs_a_catch_all_at_its_end(student: Student, rules: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(InputError, match=r"recipe 'test' needs a last rule with pattern '\*'"):
        explain_recipe(recipe(*rules), student)


def test_a_pattern_that_matches_nothing_shows_what_names_look_like(student: Student) -> None:
    with pytest.raises(InputError) as caught:
        explain_recipe(recipe(("transformer.blocks.*", FLOAT), ("*", "w8a8")), student)
    names = list(layers_of(student))
    for part in ("pattern 'transformer.blocks.*' matches no layer", student.source, repr(names[0]), repr(names[-1])):
        assert part in str(caught.value)


def test_a_rule_that_an_earlier_one_hides_does_nothing_and_is_an_error(student: Student) -> None:
    with pytest.raises(InputError, match=r"pattern 'transformer\.proj_out'"):
        explain_recipe(recipe(("transformer.*", FLOAT), ("transformer.proj_out", "w8a8"), ("*", "w8a8")), student)


def test_the_default_fits_a_part_of_a_student(student: Student) -> None:
    part = dataclasses.replace(student, components={"vae_decoder": student.components["vae_decoder"]})
    mine = default_recipe("fp8", part, ONNX)
    assert {rule.pattern.split(".")[0] for rule in mine.rules} == {"vae_decoder", "*"}
    assert "transformer" in {rule.pattern.split(".")[0] for rule in default_recipe("fp8", student, ONNX).rules}
    assert explain_recipe(mine, part)


def test_the_default_calibrates_with_the_students_own_prompts() -> None:
    student = specialize_student(load_student("sprint-tiny"))
    assert default_recipe("int8", student, ONNX).prompts == student.calibration_prompts[:CALIBRATION_PROMPTS]


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
        ["unknown key in recipe", "'sed'", "correct_bias, gptq, is_whole, meaning, name, observer, prompts, rules, seed, smooth"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_damaged_recipe_says_what_is_wrong_with_it(tmp_path: Path, case: str) -> None:
    text, parts = BAD[case]
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_recipe(path)
    for part in parts:
        assert part in str(caught.value)


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--recipe .*none\.toml: cannot be read \(No such file"):
        read_recipe(tmp_path / "none.toml")


PRESETS = ("balanced", "faithful", "fast")
PAIRS = [(name, asked) for name, target in TARGETS.items() for asked in target.precisions if target.offers[asked].is_quantized]


def test_the_presets_are_there_with_a_meaning() -> None:
    found = list_presets("sana_sprint")
    assert tuple(found) == PRESETS
    assert all(found.values())
    assert all(rule.reason for path in preset_folder("sana_sprint").glob("*.toml") for rule in read_recipe(path).rules)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize(("target", "precision"), PAIRS)
def test_a_preset_fits_every_pair_and_student(student: Student, name: str, target: str, precision: str) -> None:
    goal = TARGETS[target]
    recipe = read_preset(name, precision, student, goal)
    assert recipe.name == f"{precision}-{name}"
    assert {rule.precision for rule in recipe.rules} <= {FLOAT, *(offer.scheme for offer in goal.offers.values())}
    decisions = explain_recipe(recipe, student)  # no rule does nothing
    assert goal.offers[precision].scheme in {decision.precision for decision in decisions}
    assert recipe.is_whole == (name != "faithful")
    assert fit_recipe(recipe, precision, student, goal) == recipe


def test_fast_quantizes_more_than_balanced_and_balanced_more_than_faithful(student: Student) -> None:
    decided = {name: explain_recipe(read_preset(name, "int8", student, ONNX), student) for name in PRESETS}
    left = {name: {d.layer for d in decisions if d.precision == FLOAT} for name, decisions in decided.items()}
    assert left["fast"] < left["balanced"] < left["faithful"]
    assert all(d.is_refused for d in decided["fast"] if d.precision == FLOAT)


def test_faithful_keeps_what_it_says(student: Student) -> None:
    decided = {d.layer: d.precision for d in explain_recipe(read_preset("faithful", "fp8", student, ONNX), student)}
    for layer, precision in {
        "transformer.transformer_blocks.0.attn1.to_q": FLOAT,
        "transformer.transformer_blocks.2.attn1.to_q": FLOAT,  # the last of three
        "transformer.transformer_blocks.1.attn1.to_q": "fp8",
        "transformer.transformer_blocks.1.attn2.to_k": FLOAT,
        "transformer.transformer_blocks.1.attn2.to_v": FLOAT,
        "text_encoder.model.layers.1.mlp.down_proj": FLOAT,
        "text_encoder.model.layers.1.mlp.up_proj": "fp8",
    }.items():
        assert decided[layer] == precision, layer


@pytest.mark.parametrize(
    ("target", "precision", "gentler"),
    [
        ("trt", "int8", FLOAT),
        ("onnx", "fp8", FLOAT),
        ("coreml", "w4", "w8a16"),
        ("coreml", "w8a8", "w8a16"),
        ("coreml", "int8", FLOAT),
        ("coreai", "fp8", "w8a16"),
    ],
)
def test_gentler_is_8_bit_weights_where_weights_are_stored_alone(
    student: Student, target: str, precision: str, gentler: str
) -> None:
    decided = explain_recipe(read_preset("faithful", precision, student, TARGETS[target]), student)
    assert {d.layer: d.precision for d in decided}["transformer.transformer_blocks.1.attn2.to_k"] == gentler


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("a.{first}.b", "a.2.b"),
        ("a.{last}.b", "a.10.b"),
        ("a.{last}.c", "a.{last}.c"),
        ("*.{first}.*", "*.2.*"),
        ("a.b", "a.b"),
        ("{last}", "{last}"),
    ],
)
def test_first_and_last_are_numbers_compared_as_numbers(pattern: str, wanted: str) -> None:
    assert place_pattern(pattern, ["a.10.b", "a.2.b", "a.9.b.99"]) == wanted


def test_the_most_special_file_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preset_files, "preset_folder", lambda family: tmp_path)
    for stem in ("mine", "fp8-mine", "trt-fp8-mine"):
        (tmp_path / f"{stem}.toml").write_text(CATCH_ALL)
    for target, precision, stem in (("trt", "fp8", "trt-fp8-mine"), ("onnx", "fp8", "fp8-mine"), ("trt", "int8", "mine")):
        assert find_preset("any", "mine", precision, target) == tmp_path / f"{stem}.toml"
    assert set(list_presets("any")) == {"mine"}, "what serves one precision is no name of its own"


def test_an_unknown_name_lists_the_names_and_asks_for_a_path(student: Student, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown recipe 'best'; choose from: auto, balanced, faithful, fast, or the path of a"):
        check_name("best")
    with pytest.raises(InputError, match=r"'best'; choose from: auto, balanced, faithful, fast\. A file of your own"):
        read_preset("best", "int8", student, ONNX)
    (tmp_path / "x.toml").write_text(CATCH_ALL)
    assert check_name(str(tmp_path / "x.toml")) == tmp_path / "x.toml"
    assert all(check_name(name) is None for name in (*PRESETS, "auto"))


def test_a_users_file_may_say_first_last_and_gentler(student: Student, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        '[[rules]]\npattern = "transformer.*.{last}.*"\nprecision = "{gentler}"\n'
        '[[rules]]\npattern = "*"\nprecision = "{precision}"\n'
    )
    fitted = fit_recipe(read_recipe(path), "w4", student, TARGETS["coreml"])
    assert fitted.rules == (Rule("transformer.*.2.*", "w8a16"), Rule("*", "p4a16"))
    assert read_recipe(_write(tmp_path, fitted)) == fitted


def _write(folder: Path, recipe: Recipe) -> Path:
    path = folder / "written.toml"
    path.write_text(write_recipe(recipe))
    return path


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_written_and_read_is_the_same(student: Student, tmp_path: Path, name: str) -> None:
    recipe = read_preset(name, "int8", student, ONNX)
    assert read_recipe(_write(tmp_path, recipe)) == recipe
