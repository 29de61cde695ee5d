"""Specialize: fix the steps, the guidance and the prompt's instruction; what that makes constant, the family folds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from sprint_export.errors import InputError, unknown_choice
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.student import CHANNELS_FIRST, CHANNELS_LAST, PromptPlan, Student
from sprint_export.prompt_reader import PromptReader
from sprint_export.students.family import load_family, plan_steps
from sprint_export.thread_count import fixed_threads


@fixed_threads()
def specialize_student(
    student: Student,
    steps: int | Sequence[int] = 1,
    guidance: float | None = None,
    layout: str = CHANNELS_LAST,
    prefix_cache: bool = True,
    prompt_tokens: int | None = None,
    times: str | Sequence[float] | None = None,
) -> Student:
    """Fix the number of steps, the guidance and the prompt's instruction, and fold what that makes constant.

    Args:
        student: as `load_student` returns it.
        steps: 1 folds the whole time path into weights; 2 to 4 keep one small table a step, gathered by step index. Several,
            e.g. (1, 2, 4), share all weights and keep the tables of each; the first is the default.
        guidance: the scale the student's guidance embedding is fed, as in the pipeline's `guidance_scale`; default: the family's.
        layout: "channels-last", or "channels-first" for Apple's Neural Engine: the same function and layer names.
        prefix_cache: hold the text encoder's keys and values of the instruction prefix as constants and compute the prompt's
            positions only. False computes all: for a tokenizer that joins prompts to the prefix.
        prompt_tokens: rows of text the networks are fixed to, BOS and then the prompt; default and at most the pipeline's own
            (300). Fewer are exact for prompts that fit, and others are refused: rows beyond a prompt are hidden anyway.
        times: flow times of one schedule in place of the family's own for `steps`, as students/schedule.py reads them.

    Returns:
        A new student with a plan; the input is unchanged.

    Raises:
        InputError: the student is specialized already, steps, times or prompt_tokens is out of range, there is no such layout, a
            prompt that came with the student cannot follow a prefix that is held, or the stock tokenizer makes other ids of it.
    """
    if layout not in (CHANNELS_LAST, CHANNELS_FIRST):
        raise unknown_choice("layout", layout, (CHANNELS_LAST, CHANNELS_FIRST))
    if student.plan is not None:
        raise InputError(
            f"student {student.source!r} is specialized already (to {student.plan.steps} steps); "
            "load it again to specialize it differently"
        )
    family = load_family(student.family)
    plan = plan_steps(family, steps, guidance, times)
    family.check_tokenizer(student)
    prompt = _fix_prompt(student, prefix_cache and family.holds_prefix, prompt_tokens)
    specialized = dataclasses.replace(family.specialize(dataclasses.replace(student, prompt=prompt), plan), plan=plan)
    specialized = _keep_notes(specialized, student)
    return family.arrange_channels_first(specialized) if layout == CHANNELS_FIRST else specialized


def _keep_notes(specialized: Student, student: Student) -> Student:
    """Specialized, with what was noted of its networks when they were loaded."""
    noted = [network for network in student.components.values() if network.notes]
    components = dict(specialized.components)
    for network in noted:
        components[network.role] = dataclasses.replace(
            components[network.role], notes=(*network.notes, *components[network.role].notes)
        )
    return dataclasses.replace(specialized, components=components)


def specialize_like(student: Student, bundle: Bundle) -> Student:
    """The student as it was specialized for a bundle, with an encoder of pictures where that has one."""
    family, plan, prompt = load_family(student.family), bundle.plan, bundle.prompt
    if bundle.chain.names.source and not student.chain.names.source:
        student = family.add_encoder(student)
    is_own = plan.counts or plan.times == family.plan_times(plan.steps)
    times = None if is_own else plan.times
    steps, held = plan.counts or plan.steps, bool(prompt.prefix_ids)
    return specialize_student(student, steps, plan.guidance, bundle.layout, held, prompt.keep, times)


def _fix_prompt(student: Student, prefix_cache: bool, prompt_tokens: int | None) -> PromptPlan:
    """How prompts are read once their number of rows is fixed and their prefix held."""
    whole, file = student.prompt, student.tokenizer / "tokenizer.json"
    keep = whole.keep if prompt_tokens is None else prompt_tokens
    if not 2 <= keep <= whole.keep:
        raise InputError(f"prompt_tokens={keep}: expected 2 (BOS and one token) to {whole.keep}, the pipeline's own")
    plan = dataclasses.replace(whole, tokens=whole.tokens - whole.keep + keep, keep=keep, cuts=keep == whole.keep)
    if not prefix_cache:
        return plan
    ids, _ = PromptReader(plan, file).read([""])
    held = dataclasses.replace(plan, prefix_ids=tuple(ids[0, : plan.before].tolist()))
    # Where the tokenizer joins prompts to the prefix, better said now than by the first prompt of the finished bundle.
    PromptReader(dataclasses.replace(held, cuts=True), file).read(student.calibration_prompts)
    return held
