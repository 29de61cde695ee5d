"""Layers whose rounding does not pay: which are found, what a recipe then says of them, and a real network built for it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from sprint_export.conversion import convert, keep_components
from sprint_export.errors import RefusedError
from sprint_export.export.bundle import find_artifact, locate
from sprint_export.inspection import describe_recipe
from sprint_export.nouns.order import Order
from sprint_export.nouns.recipe import FLOAT, UNPAID, Recipe, Rule
from sprint_export.nouns.student import Student
from sprint_export.planning.building import build_network, round_plainly
from sprint_export.quantize.patterns import explain_recipe
from sprint_export.run_checks import check_order, describe_order
from sprint_export.runtimes.trt.kernels import list_real, read_kernels
from sprint_export.specialize import specialize_student
from sprint_export.unpaid import TOLERATED, Kind, Price, Unpaid, add_rules, describe_ratio, find_unpaid, group_layers
from sprint_export.validate.measure import count_unpaid

NETWORK = "text_encoder"  # of sprint-tiny: two layers
Q, K, V, OUT = (
    Kind(f"layers.*.{name}", (8, 8), frozenset({f"layers.0.{name}", f"layers.1.{name}"})) for name in ("q", "k", "v", "out")
)


def price_by(costs: dict[Kind, float], together: float = 0.0) -> tuple[list[int], Price]:
    """A price of 100 and what each kind adds that is left in float, `together` for each after the first."""
    asked: list[int] = []

    def price(left: frozenset[str]) -> float:
        found = [cost for kind, cost in costs.items() if kind.layers <= left]
        asked.append(len(found))
        return 100 + sum(found) + together * max(0, len(found) - 1)

    return asked, price


def test_kinds_are_left_in_float_cheapest_first_while_all_of_it_stays_within_two_percent() -> None:
    _, price = price_by({Q: 1.5, K: -3.0, V: 2.5, OUT: 4.0})
    dropped, ratio = find_unpaid(NETWORK, (Q, K, V, OUT), price)
    assert [each.kind for each in dropped] == [K, Q], "V alone costs 2.5 %: it pays, though K saves 3 %"
    assert ratio == pytest.approx(0.985)
    _, price = price_by({Q: 1.5, K: 1.0, V: 0.2, OUT: 0.7})
    dropped, ratio = find_unpaid(NETWORK, (Q, K, V, OUT), price)
    assert [each.kind for each in dropped] == [V, OUT, K]
    assert ratio == pytest.approx(1.019)
    assert ratio < TOLERATED


def test_a_combination_is_priced_itself_and_not_summed_up() -> None:
    asked, price = price_by({Q: 0.1, K: 0.2}, together=5.0)
    dropped, ratio = find_unpaid(NETWORK, (Q, K), price)
    assert [each.kind for each in dropped] == [Q]
    assert asked == [0, 1, 1, 2]
    assert dropped[0].reason == "does not pay: the priced engine is 0.1 % slower without"
    assert describe_ratio(0.952) == "4.8 % faster"
    assert describe_ratio(1.0001) == "as fast"
    assert ratio == pytest.approx(1.001)


def test_rules_come_first_name_layers_where_a_pattern_says_too_much_and_replace_what_decides_nothing(
    tiny_student: Student,
) -> None:
    student = keep_components(specialize_student(tiny_student), (NETWORK,))
    every = Kind("model.layers.*.mlp.up_proj", (256, 128), frozenset({f"model.layers.{i}.mlp.up_proj" for i in (0, 1)}))
    first = Kind("model.layers.*.mlp.down_proj", (128, 256), frozenset({"model.layers.0.mlp.down_proj"}))
    recipe = Recipe("mine", (Rule("*.up_proj", "w8a8"), Rule("*", "w8a8")), is_whole=True)
    changed = add_rules(recipe, student, [Unpaid(NETWORK, every, 1.01), Unpaid(NETWORK, first, 1.0)])
    assert [rule.pattern for rule in changed.rules] == [
        "text_encoder.model.layers.*.mlp.up_proj",
        "text_encoder.model.layers.0.mlp.down_proj",
        "*",
    ]
    assert not changed.is_whole, "no share of quantized weights is demanded of what leaves layers out on purpose"
    left = {each.layer: each.reason for each in explain_recipe(changed, student) if each.precision == FLOAT}
    assert set(left) == {f"{NETWORK}.{name}" for kind in (every, first) for name in kind.layers}
    assert left["text_encoder.model.layers.1.mlp.up_proj"].endswith("1.0 % slower without")


def test_a_pair_without_built_files_or_without_rounding_is_refused_and_a_dry_run_tells(tmp_path: Path) -> None:
    order = Order(out=tmp_path / "bundle", drop_unpaid=True)
    with pytest.raises(RefusedError, match=r"onnx builds no files that say what will run.*those that do: .*trt-fp8"):
        check_order(dataclasses.replace(order, target="onnx-int8"))
    with pytest.raises(RefusedError, match=r"trt-bf16 quantizes nothing; use .*trt-int8"):
        check_order(dataclasses.replace(order, target="trt-bf16"))
    checked = check_order(dataclasses.replace(order, target="trt-int8"))
    assert any(line.startswith("drop_unpaid: each kind of layer is priced for rtx-4090") for line in describe_order(checked))
    assert checked.deployment.hashed == {"drop_unpaid": True}


def test_layers_that_do_not_pay_are_float_in_the_built_bundle_with_the_reason(tiny_student: Student, tmp_path: Path) -> None:
    said: list[str] = []
    bundle = convert(
        tiny_student,
        "trt-fp8",
        tmp_path / "bundle",
        components=[NETWORK],
        drop_unpaid=True,
        validate=False,
        say=said.append,
    )
    (record,) = bundle.components
    left = {each.layer.removeprefix(f"{NETWORK}.") for each in record.decisions if each.reason.startswith(UNPAID)}
    assert left, "some kinds of so small a network cost launches alone"
    assert record.layers, "others pay"
    assert not left & set(record.layers)
    (row,) = count_unpaid(bundle)
    assert (row.metric, row.value) == ("unpaid_layers", len(left))
    assert "the priced engine is" in row.note
    assert any(line.startswith(f"{NETWORK}: ") and "do not pay" in line for line in said)
    assert any(layer["reason"].startswith(UNPAID) for layer in describe_recipe(bundle)["layers"])
    assert bundle.recipe is not None
    assert not bundle.recipe.is_whole

    table = find_artifact(bundle, NETWORK, "kernels", bundle.device)
    assert table is not None
    deployment = check_order(Order(target="trt-fp8", out=tmp_path / "other")).deployment
    trial = round_plainly(keep_components(specialize_student(tiny_student), (NETWORK,)), deployment, bundle.recipe)
    kernels, engine = build_network(trial, NETWORK, deployment)
    real = list_real(read_kernels(locate(bundle, table.path)))
    assert kernels is not None
    assert [each.name for each in kernels] == [each.name for each in real], "what was priced is what was built"
    assert engine > 0
    assert {name for kind in group_layers(trial.components[NETWORK]) for name in kind.layers} == set(record.layers)
