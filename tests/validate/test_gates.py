"""Gates: their defaults, what a user may write, and the verdict on every row."""

from __future__ import annotations

import re

import numpy as np
import pytest

from sprint_export.errors import InputError
from sprint_export.nouns.report import Gate, Measurement, Report, Verdict
from sprint_export.quantize.schemes.scheme import list_schemes
from sprint_export.registry import load_target
from sprint_export.validate.confidence.evidence import Evidence, Loss, Mean
from sprint_export.validate.gates import add_defaults, apply_gates, drop_unreachable, read_gates
from sprint_export.validate.report import list_complaints, name_failures, render_report
from sprint_export.validate.sampled import sample_mean

COREML = load_target("coreml")
ROWS = (
    Measurement("psnr_db", 30.0, "dB"),
    Measurement("converter_psnr_db", 61.0, "dB", "transformer"),
    Measurement("converter_psnr_db", 42.0, "dB", "vae_decoder"),
)


def test_every_precision_has_gates_each_with_its_reason() -> None:
    for name, scheme in list_schemes().items():
        gates = add_defaults((), name, of_target=COREML.gates)
        assert gates == (*scheme.gates, *COREML.gates)
        assert len({gate.metric for gate in gates}) == len(gates)
        assert all(len(gate.reason) > 20 for gate in gates)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("psnr_db>=30", ("psnr_db", ">=", 30.0)),
        ("  ssim >  0.9 ", ("ssim", ">", 0.9)),
        ("denoised_relative_error<=1e-4", ("denoised_relative_error", "<=", 1e-4)),
        ("adherence_drop_points<-1.5", ("adherence_drop_points", "<", -1.5)),
        ("kernels_16-bit<=3", ("kernels_16-bit", "<=", 3.0)),
    ],
)
def test_a_users_gate_is_read(text: str, expected: tuple[str, str, float]) -> None:
    gate = add_defaults(read_gates([text]), "fp32")[-1]
    found = next(g for g in add_defaults(read_gates([text]), "fp32") if g.metric == expected[0])
    assert (found.metric, found.sign, found.limit) == expected
    assert found.reason == "asked for"
    assert gate.text.startswith(gate.metric)


@pytest.mark.parametrize(
    "text", ["", "psnr_db", "psnr_db=30", "psnr_db>=", ">=30", "psnr_db>=high", "psnr_db>=30dB", "a b>=3", "x==3"]
)
def test_a_malformed_gate_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"gate {text!r} is not of the form metric>=number, e.g. 'psnr_db>=30'")):
        add_defaults(read_gates([text]), "w8a8")


def test_a_users_gate_takes_the_place_of_the_default_on_its_metric_only() -> None:
    gates = {gate.metric: gate for gate in add_defaults(read_gates(["psnr_db>=12"]), "fp8")}
    assert gates["psnr_db"].text == "psnr_db>=12"
    others = {gate.metric: gate for gate in add_defaults((), "fp8") if gate.metric != "psnr_db"}
    assert {name: gate for name, gate in gates.items() if name != "psnr_db"} == others


@pytest.mark.parametrize(
    ("sign", "limit", "passed"), [(">=", 30, True), (">", 30, False), ("<=", 30, True), ("<", 30, False), (">=", 30.01, False)]
)
def test_the_verdict_at_the_limit(sign: str, limit: float, passed: bool) -> None:
    row = apply_gates(ROWS, [Gate("psnr_db", sign, limit, "why")])[0]
    assert (row.passed, row.limit) == (passed, f"psnr_db{sign}{limit:g}")


def test_a_gate_holds_for_every_row_of_its_name_and_no_other() -> None:
    judged = apply_gates(ROWS, [Gate("converter_psnr_db", ">=", 50, "why")])
    assert [row.passed for row in judged] == [None, True, False]
    assert [row.limit for row in judged] == [None, "converter_psnr_db>=50", "converter_psnr_db>=50"]
    assert [(row.metric, row.value, row.component) for row in judged] == [(r.metric, r.value, r.component) for r in ROWS]
    assert not Report("b", "t", "r", "m", 1, judged).passed
    assert Report("b", "t", "r", "m", 1, judged[:2]).passed


def test_a_value_that_is_no_number_fails_its_gate() -> None:
    judged = apply_gates([Measurement("psnr_db", float("nan"), "dB")], [Gate("psnr_db", ">=", 0, "why")])
    assert judged[0].passed is False


def test_a_default_gate_without_its_metric_is_silent_but_a_demanded_one_lists_the_metrics() -> None:
    gate = Gate("adherence_percent", ">=", 80, "why")
    assert apply_gates(ROWS, [gate]) == ROWS
    with pytest.raises(
        InputError,
        match=r"gate metric 'adherence_percent' is not in this report .*captions.*: converter_psnr_db, psnr_db",
    ):
        apply_gates(ROWS, [gate], [gate])


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_recipe_that_leaves_layers_in_float_on_purpose_owes_no_share(is_whole: bool) -> None:
    gates = {gate.metric for gate in add_defaults((), "w8a8", is_whole)}
    assert ("quantized_share" in gates) is is_whole
    assert {"psnr_db", "adherence_drop_points"} <= gates
    asked = {gate.metric: gate.limit for gate in add_defaults(read_gates(["quantized_share>=0.5"]), "w8a8", is_whole)}
    assert asked["quantized_share"] == 0.5


def test_a_missed_gate_says_what_a_search_had_promised() -> None:
    missed = Measurement("psnr_db", 49.512, "dB", limit="psnr_db>=50", verdict="not met")
    promised = Measurement("searched_psnr_db", 50.63, "dB")
    plain = Report("b", "trt-fp8", "r", "m", 2, (missed,))
    assert name_failures(plain) == "psnr_db is 49.51, demanded psnr_db>=50"
    text = name_failures(Report("b", "trt-fp8", "r", "m", 2, (missed, promised)))
    assert "demanded psnr_db>=50 (its recipe was searched on other prompts, where it has 50.63:" in text
    assert "ask for a higher gate" in text


@pytest.mark.parametrize(
    ("texts", "limit", "passed"),
    [
        (["psnr_db>=999", "psnr_db>=1"], "psnr_db>=999 and psnr_db>=1", False),
        (["psnr_db>=1", "psnr_db>=999"], "psnr_db>=1 and psnr_db>=999", False),
        (["psnr_db>=20", "psnr_db<=40"], "psnr_db>=20 and psnr_db<=40", True),
        (["psnr_db>=20", "psnr_db<=25"], "psnr_db>=20 and psnr_db<=25", False),
        (["psnr_db>=20", "psnr_db>=20"], "psnr_db>=20", True),
    ],
)
def test_all_gates_of_one_metric_hold_whatever_their_order(texts: list[str], limit: str, passed: bool) -> None:
    row = apply_gates(ROWS, add_defaults(read_gates(texts), "fp32"))[0]
    assert (row.limit, row.passed) == (limit, passed)


def test_a_float32_export_is_held_to_what_float32_gives() -> None:
    gates = {gate.metric: gate for gate in add_defaults((), "fp32")}
    assert gates["psnr_db"].text == "psnr_db>=75", "right exports have 86 dB and more"
    assert gates["converter_psnr_db"].text == "converter_psnr_db>=90", "right components have 99 dB and more"


def test_a_component_that_misses_its_gate_is_named() -> None:
    judged = apply_gates(ROWS, [Gate("converter_psnr_db", ">=", 50, "why")])
    report = Report("b", "t", "r", "m", 1, judged)
    assert name_failures(report) == "converter_psnr_db of vae_decoder is 42, demanded converter_psnr_db>=50"
    shown = [cell for table in render_report(report) for column in table.columns for cell in column.cells]
    assert "42, NOT MET: >=50" in shown
    assert "61" in shown


@pytest.mark.parametrize(("limit", "verdict"), [(25, "met"), (29, "not decided"), (31, "not decided"), (36, "not met")])
def test_a_limit_within_the_interval_is_not_decided(limit: float, verdict: Verdict) -> None:
    values = np.array([27.0, 31.0, 29.0, 33.0])
    row = sample_mean("psnr_db", "dB", "the mean of {}", values).as_row()
    (judged,) = apply_gates([row], [Gate("psnr_db", ">=", limit, "why")], evidence={"psnr_db": Mean(values)})
    assert (judged.verdict, judged.passed, judged.note) == (verdict, verdict == "met", "the mean of 4 pictures")
    assert judged.needed == (68 if verdict == "not decided" else None), "4 x (4.11 / 1)^2"
    report = Report("b", "t", "r", "m", 4, (judged,), 512.3)
    (table,) = render_report(report)
    assert table.title == "t: 4 pictures in 512 s on r"
    assert "25.9 to 34.1" in table.columns[2].cells
    assert report.verdict == verdict
    said = {
        "met": (f"met: >={limit}", []),
        "not met": (f"NOT MET: >={limit}", [f"gate not met: psnr_db is 30 (25.9 to 34.1 at 95 %), demanded psnr_db>={limit}"]),
        "not decided": (
            f"NOT DECIDED (68 pictures would): >={limit}",
            [
                f"gate not decided: psnr_db is 30 (25.9 to 34.1 at 95 %), demanded psnr_db>={limit}; 68 pictures like these "
                "would decide it: --count 68, or --allow-undecided"
            ],
        ),
    }[verdict]
    assert (next(iter(table.columns[3].cells)), list_complaints(report)) == said


def test_a_report_is_as_bad_as_its_worst_gate() -> None:
    verdicts: tuple[Verdict, ...] = ("met", "not decided", "not met")
    rows = [Measurement("psnr_db", 40.0, "dB", limit="psnr_db>=1", verdict=verdict) for verdict in verdicts]
    found = [Report("b", "t", "r", "m", 1, tuple(rows[:count])).verdict for count in (0, 1, 2, 3)]
    assert found == ["met", "met", "not decided", "not met"]


def test_a_default_that_these_few_pictures_cannot_decide_is_said_and_does_not_fail() -> None:
    drop, psnr = Gate("adherence_drop_points", "<=", 3, "why"), Gate("psnr_db", ">=", 25, "why")
    evidence: dict[str, Evidence] = {"adherence_drop_points": Loss(0, 0, 4), "psnr_db": Mean(np.array([40.0, 41.0, 42.0, 41.0]))}
    kept, said = drop_unreachable([drop, psnr], [], evidence)
    assert kept == (psnr,)
    sentence = "4 pictures cannot decide it, whatever they show; it takes at least 125 (--count 125)"
    assert said == (f"adherence_drop_points<=3: {sentence}",)
    assert drop_unreachable([drop, psnr], [drop], evidence) == ((drop, psnr), ()), "what the user asks for is not left out"
    broken = {"adherence_drop_points": Loss(16, 0, 16)}
    assert drop_unreachable([drop], [], broken) == ((drop,), ()), "few pictures can show that it is missed"
    enough = {"adherence_drop_points": Loss(2, 0, 128)}
    assert drop_unreachable([drop], [], enough) == ((drop,), ()), "as many could have decided it"
    single = {"psnr_db": Mean(np.array([40.0]))}
    assert drop_unreachable([psnr], [], single)[1] == (
        "psnr_db>=25: 1 picture cannot decide it, whatever they show; it takes at least 4 (--count 4)",
    )
