"""An order: every option is declared once, and reaches the command, `convert` and the bundle's key from there."""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sprint_export import conversion
from sprint_export.cli.options import ORDER_OPTIONS, read_order
from sprint_export.cli.signature import make_signature
from sprint_export.conversion import convert, convert_order
from sprint_export.errors import InputError
from sprint_export.export.student import bundle_key
from sprint_export.nouns.order import Order, hashed, list_options
from sprint_export.nouns.student import Student
from sprint_export.options import list_options as list_target_options
from sprint_export.options import merge_options
from sprint_export.run_checks import check_order
from sprint_export.specialize import specialize_student
from sprint_export.validate.prompt_sets.prompt_set import PromptSet

DEFAULTS = {option.name: option.default for option in (*ORDER_OPTIONS, *merge_options())}


@dataclass(frozen=True)
class LargerOrder(Order):
    """An order with one option more: its one line."""

    grain: float = field(default=0.0, metadata=hashed("How much grain to leave.", float))


def test_a_new_option_is_one_line_and_reaches_the_command_convert_and_the_key(
    tiny_student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    option = list_options(LargerOrder)[-1]
    assert (option.name, option.help, option.kind, option.default) == ("grain", "How much grain to leave.", float, 0.0)

    def command(**values: object) -> None: ...

    parameter = make_signature(command, list_options(LargerOrder)).parameters["grain"]
    assert parameter.default == 0.0
    orders: list[Order] = []
    monkeypatch.setattr(conversion, "Order", LargerOrder)
    monkeypatch.setattr(conversion, "convert_order", lambda order, *_: orders.append(order))
    convert(tiny_student, "onnx-fp32", "out", grain=0.5)
    assert orders == [LargerOrder(tiny_student, "onnx-fp32", "out", options={}, grain=0.5)]
    student = specialize_student(tiny_student)
    keys = [bundle_key(student, check_order(order).deployment) for order in (orders[0], Order(tiny_student, "onnx-fp32", "out"))]
    assert keys[0] != keys[1]
    without = LargerOrder(tiny_student, "onnx-fp32", "out")
    assert bundle_key(student, check_order(without).deployment) == keys[1], "an option left alone changes no key"


def test_a_wrong_keyword_lists_the_choices() -> None:
    with pytest.raises(InputError, match=r"unknown option of convert 'stepz'; choose from: .*Did you mean 'steps'\?"):
        convert("sprint-tiny", "onnx-fp32", stepz=2)
    for name in ("say", "progress", *list_target_options(), *(each.name for each in dataclasses.fields(Order))):
        with pytest.raises(InputError, match=rf"choose from: .*\b{name}\b"):
            convert("sprint-tiny", "onnx-fp32", nothing_like_it=2)


def test_convert_and_an_order_have_the_same_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    orders: list[Order] = []
    monkeypatch.setattr(conversion, "convert_order", lambda order, *_: orders.append(order))
    convert()
    assert orders == [Order(options={})]
    own = inspect.signature(convert).parameters
    assert [own[name].default for name in ("student", "target", "out")] == ["sprint-tiny", "trt-fp8", None]


def test_an_option_of_a_target_is_a_keyword_or_in_options(monkeypatch: pytest.MonkeyPatch) -> None:
    orders: list[Order] = []
    monkeypatch.setattr(conversion, "convert_order", lambda order, *_: orders.append(order))
    convert(target="coreml-int8", deployment_target="iOS17", part_megabytes=5)
    convert(target="coreml-int8", deployment_target="iOS17", options={"part_megabytes": 5})
    assert orders[0] == orders[1] == Order(target="coreml-int8", options={"deployment_target": "iOS17", "part_megabytes": 5})


def test_what_is_typed_becomes_an_order(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a red circle\n# a remark\n")
    typed = {"target": "onnx-int8", "steps": "1,2", "gates": ["psnr_db>=9"], "validate": False, "part_megabytes": 5}
    order = read_order(DEFAULTS | typed | {"prompts": tmp_path / "prompts.txt"})
    assert order == Order(
        target="onnx-int8",
        steps=(1, 2),
        gates=["psnr_db>=9"],
        validate=False,
        prompts=PromptSet(("a red circle",)),
        options={"part_megabytes": 5},
    )
    assert read_order(DEFAULTS | {"target": "trt-fp8"}) == Order(steps=(1,), options={})


def test_every_option_is_one_of_the_order_and_has_help() -> None:
    names = {each.name for each in dataclasses.fields(Order)}
    assert {option.name for option in list_options()} == names - {"options"}
    assert all(option.help.endswith(".") for option in list_options())


def test_an_order_that_is_made_by_hand_is_carried_out(tiny_student: Student, tmp_path: Path) -> None:
    bundle = convert_order(Order(tiny_student, "onnx-fp32", tmp_path / "out", components=("vae_decoder",)))
    assert [record.role for record in bundle.components] == ["vae_decoder"]
