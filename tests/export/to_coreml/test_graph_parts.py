"""Cutting a program: parts fit the limit and hand on what later parts need (tests/export/to_coreml/test_writer.py runs them)."""

from __future__ import annotations

import itertools

import torch

from sprint_export.export.to_coreml.graph_parts import INNER, GraphPart, capture_program, cut_program
from sprint_export.nouns.student import Component, Student

UNLIMITED = float("inf")


def count_bytes(component: Component, name: str) -> float:
    return 4.0 * torch.Size(component.weights[name].shape).numel()


def cut(component: Component, limit: float) -> list[GraphPart]:
    program = capture_program(component.module, component.inputs)
    return cut_program(program, component.inputs, component.outputs, lambda name: count_bytes(component, name), limit)


def weight_names(part: GraphPart) -> set[str]:
    return set(part.program.state_dict)


def test_every_weight_is_in_a_part_and_parts_keep_to_the_limit(made_special: Student) -> None:
    component = made_special.components["transformer"]
    limit = sum(count_bytes(component, name) for name in component.weights) / 3
    parts = cut(component, limit)
    assert set().union(*map(weight_names, parts)) == set(component.weights)
    for part in parts:
        assert sum(count_bytes(component, name) for name in weight_names(part)) <= limit


def test_a_cut_runs_where_few_values_are_alive(made_special: Student) -> None:
    component = made_special.components["transformer"]
    parts = cut(component, sum(count_bytes(component, name) for name in component.weights) / 3)
    for before, after in itertools.pairwise(parts):
        handed = [spec for spec in before.outputs if spec.name in {spec.name for spec in after.inputs}]
        assert 1 <= len(handed) <= 3, "the residual stream, and the first time the text and its mask"
        assert all(spec.meaning == INNER for spec in handed)
    assert parts[-1].outputs == component.outputs


def test_a_weight_beyond_the_limit_gets_a_part_of_its_own(made_special: Student) -> None:
    component = made_special.components["text_encoder"]
    largest = max(component.weights, key=lambda name: count_bytes(component, name))
    parts = cut(component, count_bytes(component, largest) / 2)
    alone = [part for part in parts if largest in weight_names(part)]
    assert len(alone) == 1
    others = weight_names(alone[0]) - {largest}
    assert sum(count_bytes(component, name) for name in others) <= count_bytes(component, largest) / 2


def test_without_a_limit_there_is_one_part(made_special: Student) -> None:
    component = made_special.components["vae_decoder"]
    parts = cut(component, UNLIMITED)
    assert [(part.inputs, part.outputs) for part in parts] == [(component.inputs, component.outputs)]
