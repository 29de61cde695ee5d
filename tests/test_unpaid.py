"""Layers whose rounding does not pay: which are found, what a recipe then says of them, and a real network built for it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from sprint_export.conversion import convert, keep_components, load_orders
from sprint_export.errors import RefusedError
from sprint_export.estimates.jobs import EARLIER
from sprint_export.estimates.machine import TYPICAL
from sprint_export.estimates.plan import _plan_jobs
from sprint_export.estimates.stages import estimate_job
from sprint_export.export.bundle import find_artifact, locate
from sprint_export.inspection import describe_recipe
from sprint_export.nouns.order import Order
from sprint_export.nouns.recipe import FLOAT, UNPAID, Recipe, Rule
from sprint_export.nouns.student import Student
from sprint_export.planning.building import round_plainly
from sprint_export.planning.prices import list_peaks
from sprint_export.planning.trials import KeptTrials, NotKeptError
from sprint_export.quantize.patterns import explain_recipe
from sprint_export.run_checks import check_order, describe_order
from sprint_export.runtimes.trt.kernels import price_kernels, read_kernels
from sprint_export.specialize import specialize_student
from sprint_export.unpaid import TOLERATED, Kind, Unpaid, add_rules, describe_ratio, find_unpaid, recall_unpaid
from sprint_export.validate.measure import count_unpaid

NETWORK = "text_encoder"  # of sprint-tiny: two layers
Q, K, V, OUT = (
    Kind(f"layers.*.{name}", (8, 8), frozenset({f"layers.0.{name}", f"layers.1.{name}"})) for name in ("q", "k", "v", "out")
)


@dataclasses.dataclass
class MadePrices:
    """A price of 100 and what each kind adds that is left in float, `together` for each after the first.

    `told`: what the tables say that a kind adds, where that is something else.
    """

    costs: dict[Kind, float]
    together: float = 0.0
    told: dict[Kind, float] = dataclasses.field(default_factory=dict)
    joined: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    asked: list[set[Kind]] = dataclasses.field(default_factory=list)

    def price(self, left: frozenset[str]) -> float:
        found = {kind for kind in self.costs if kind.layers <= left}
        if found not in self.asked:
            self.asked.append(found)
        return 100 + sum(self.costs[kind] for kind in found) + self.together * max(0, len(found) - 1)

    def share(self, left: frozenset[str]) -> dict[str, float]:
        costs = self.costs | self.told
        return {next(iter(kind.layers)): 10 + costs[kind] * (kind.layers <= left) for kind in costs}

    def join(self, left: frozenset[str]) -> dict[str, tuple[str, ...]]:
        return {} if left else self.joined


def find(prices: MadePrices) -> tuple[list[Kind], float]:
    dropped, ratio = find_unpaid(NETWORK, tuple(prices.costs), prices)
    return [each.kind for each in dropped], round(ratio, 9)


def test_three_engines_tell_which_kinds_are_left_in_float_the_cheapest_first_within_two_percent() -> None:
    prices = MadePrices({Q: 1.5, K: -3.0, V: 2.5, OUT: 4.0})
    assert find(prices) == ([K, Q], 0.985), "V alone costs 2.5 %: it pays, though K saves 3 %"
    assert prices.asked == [set(), {Q, K, V, OUT}, {K, Q}]
    prices = MadePrices({Q: 1.5, K: 1.0, V: 0.2, OUT: 0.7})
    assert find(prices) == ([V, OUT, K], 1.019)
    assert TOLERATED > 1.019
    assert prices.asked == [set(), {Q, K, V, OUT}, {V, OUT, K}]


def test_where_all_of_it_is_as_fast_in_float_two_engines_tell_and_where_nothing_is_no_third_is_built() -> None:
    prices = MadePrices({Q: 1.9, K: -3.0, V: 2.5})
    assert find(prices) == ([K, Q, V], 1.014)
    assert prices.asked == [set(), {Q, K, V}]
    prices = MadePrices({Q: 2.5, K: 3.0})
    assert find(prices) == ([], 1.0)
    assert prices.asked == [set(), {Q, K}]


def test_the_built_price_decides_and_the_cheaper_half_is_tried_where_the_tables_said_too_little() -> None:
    prices = MadePrices({Q: 0.1, K: 0.2, V: 0.3, OUT: 9.0}, together=1.6)
    assert find(prices) == ([Q, K], 1.019)
    assert prices.asked == [set(), {Q, K, V, OUT}, {Q, K, V}, {Q}, {Q, K}]
    prices = MadePrices({Q: 5.0, K: 1.0}, told={Q: 0.1, K: 0.2})
    assert find(prices) == ([K], 1.01), "what fails alone is left out, and the rest is tried"
    assert prices.asked == [set(), {Q, K}, {Q}, {K}]


def test_where_the_built_price_leaves_room_what_should_fit_into_it_is_tried() -> None:
    prices = MadePrices({Q: -3.0, K: 1.8, V: 1.9, OUT: 9.0}, told={Q: 1.5})
    assert find(prices) == ([Q, K, V], 1.007)
    assert prices.asked == [set(), {Q, K, V, OUT}, {Q}, {Q, K, V}]


def test_kinds_that_one_product_computes_are_left_in_float_together() -> None:
    joined: dict[str, tuple[str, ...]] = {"layers.0.q": ("layers.0.k",), "layers.1.q": ("layers.1.k",)}
    prices = MadePrices({Q: 3.0, K: -2.0, V: 4.0}, joined=joined)
    assert find(prices) == ([Q, K], 1.01)
    assert prices.asked[-1] == {Q, K}


def test_progress_counts_engines_and_ends() -> None:
    told: list[tuple[int, int]] = []
    prices = MadePrices({Q: 0.1, K: 0.2, V: 0.3, OUT: 9.0}, together=1.6)
    find_unpaid(NETWORK, tuple(prices.costs), prices, lambda step, done, total: told.append((done, total)))
    assert told[0] == (0, 3)
    assert told[-1] == (5, 5)
    assert all(done < total for done, total in told[:-1])
    assert describe_ratio(0.952) == "4.8 % faster"
    assert describe_ratio(1.0001) == "as fast"
    reason = "does not pay: the priced engine is 0.1 % slower without, all such layers of the network together"
    assert Unpaid(NETWORK, Q, 1.0, 1.001).reason == reason


def test_rules_come_first_name_layers_where_a_pattern_says_too_much_and_replace_what_decides_nothing(
    tiny_student: Student,
) -> None:
    student = keep_components(specialize_student(tiny_student), (NETWORK,))
    every = Kind("model.layers.*.mlp.up_proj", (256, 128), frozenset({f"model.layers.{i}.mlp.up_proj" for i in (0, 1)}))
    first = Kind("model.layers.*.mlp.down_proj", (128, 256), frozenset({"model.layers.0.mlp.down_proj"}))
    recipe = Recipe("mine", (Rule("*.up_proj", "w8a8"), Rule("*", "w8a8")), is_whole=True)
    changed = add_rules(recipe, student, [Unpaid(NETWORK, every, 1.0, 1.01), Unpaid(NETWORK, first, 1.0, 1.01)])
    assert [rule.pattern for rule in changed.rules] == [
        "text_encoder.model.layers.*.mlp.up_proj",
        "text_encoder.model.layers.0.mlp.down_proj",
        "*",
    ]
    assert not changed.is_whole, "no share of quantized weights is demanded of what leaves layers out on purpose"
    left = {each.layer: each.reason for each in explain_recipe(changed, student) if each.precision == FLOAT}
    assert set(left) == {f"{NETWORK}.{name}" for kind in (every, first) for name in kind.layers}
    assert left["text_encoder.model.layers.1.mlp.up_proj"].startswith("does not pay: the priced engine is 1.0 % slower")


def test_a_pair_without_built_files_or_without_rounding_is_refused_and_a_dry_run_tells(tmp_path: Path) -> None:
    order = Order(out=tmp_path / "bundle", drop_unpaid=True)
    with pytest.raises(RefusedError, match=r"onnx builds no files that say what will run.*those that do: .*trt-fp8"):
        check_order(dataclasses.replace(order, target="onnx-int8"))
    with pytest.raises(RefusedError, match=r"trt-bf16 quantizes nothing; use .*trt-int8"):
        check_order(dataclasses.replace(order, target="trt-bf16"))
    checked = check_order(dataclasses.replace(order, target="trt-int8"))
    assert any(line.startswith("drop_unpaid: kinds of layers are priced for rtx-4090") for line in describe_order(checked))
    assert checked.deployment.hashed == {"drop_unpaid": True}


def test_layers_that_do_not_pay_are_float_in_the_built_bundle_with_the_reason(
    tiny_student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    prices = list_peaks(deployment.device, "gpu")
    assert prices is not None
    student = keep_components(specialize_student(tiny_student), (NETWORK,))
    kept = KeptTrials(round_plainly(student, deployment), NETWORK, deployment, prices)
    real = price_kernels(read_kernels(locate(bundle, table.path)), deployment.device)
    assert kept.price(frozenset(left)) == pytest.approx(real.milliseconds), "what was priced is what was built"
    with pytest.raises(NotKeptError):
        kept.price(frozenset({"model.layers.0.mlp.up_proj"}))
    assert recall_unpaid(student, deployment, None) == bundle.recipe, "nothing is built for it again"

    order = Order(tiny_student, out=tmp_path / "next", components=[NETWORK], drop_unpaid=True, validate=False)
    checked = check_order(order)
    assert _plan_jobs(load_orders([checked]))[0].job.kept["pricing layers"] == EARLIER
    monkeypatch.setenv("SPRINT_EXPORT_CACHE", str(tmp_path / "empty"))
    job = _plan_jobs(load_orders([checked]))[0].job
    assert "pricing layers" not in job.kept
    [stage] = (each for each in estimate_job(job, TYPICAL) if each.step.stage == "pricing layers")
    assert stage.seconds > 0, "a dry run counts the engines that are not there yet"
