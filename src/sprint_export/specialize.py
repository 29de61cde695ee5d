"""Specialize: turn everything that depends only on the fixed times and the fixed guidance into constants.

The algebra is general (an affine-free norm, a scale and shift, a matmul; a matmul, a gate); which modules it applies to is
the family's business. Each rule wraps weight handles in weight handles, computes in at least float32 and is exact.
Source of adaLN: arXiv 2212.09748; the folds are measured against diffusers in float64 in tests/test_specialize.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch

from sprint_export.errors import InputError, unknown_choice
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.student import CHANNELS_FIRST, CHANNELS_LAST, PromptPlan, StepPlan, Student
from sprint_export.prompt_reader import PromptReader
from sprint_export.registry import load_member
from sprint_export.sampler import trigflow_times
from sprint_export.thread_count import fixed_threads
from sprint_export.weights import Handle, LazyHandle, constant

DEFAULT_GUIDANCE = 4.5  # SanaSprintPipeline.__call__'s default


@fixed_threads()
def specialize_student(
    student: Student,
    steps: int | Sequence[int] = 1,
    guidance: float = DEFAULT_GUIDANCE,
    layout: str = CHANNELS_LAST,
    prefix_cache: bool = True,
    prompt_tokens: int | None = None,
) -> Student:
    """Fix the number of steps, the guidance and the prompt's instruction, and fold what that makes constant.

    Args:
        student: as `load_student` returns it.
        steps: 1 folds the whole time path into weights; 2 to 4 keep one small table a step, gathered by step index. Several,
            e.g. (1, 2, 4), share all weights and keep the tables of each; the first is the default.
        guidance: the scale the student's guidance embedding is fed, as in the pipeline's `guidance_scale`.
        layout: "channels-last", or "channels-first" for Apple's Neural Engine: the same function and layer names.
        prefix_cache: hold the text encoder's keys and values of the instruction prefix as constants and compute the prompt's
            positions only. False computes all: for a tokenizer that joins prompts to the prefix.
        prompt_tokens: rows of text the networks are fixed to, BOS and then the prompt; default and at most the pipeline's own
            (300). Fewer are exact for prompts that fit, and others are refused: rows beyond a prompt are hidden anyway.

    Returns:
        A new student with a plan; the input is unchanged.

    Raises:
        InputError: the student is specialized already, steps or prompt_tokens is out of range, there is no such layout, a prompt
            that came with the student cannot follow a prefix that is held, or the stock tokenizer makes other ids of it.
    """
    if layout not in (CHANNELS_LAST, CHANNELS_FIRST):
        raise unknown_choice("layout", layout, (CHANNELS_LAST, CHANNELS_FIRST))
    if student.plan is not None:
        raise InputError(
            f"student {student.source!r} is specialized already (to {student.plan.steps} steps); "
            "load it again to specialize it differently"
        )
    counts = (steps,) if isinstance(steps, int) else tuple(dict.fromkeys(steps))
    if not counts:
        raise InputError("steps=(): expected at least one step count from 1 to 4")
    times = tuple(s for count in counts for s in trigflow_times(count))
    plan = StepPlan(times, guidance, counts=counts if len(counts) > 1 else ())
    family = load_member("student", student.family)
    family.check_tokenizer(student)
    prompt = _fix_prompt(student, prefix_cache, prompt_tokens)
    specialized: Student = family.specialize(dataclasses.replace(student, prompt=prompt), plan)
    if layout == CHANNELS_FIRST:
        specialized = family.arrange_channels_first(specialized)
    return specialized


def specialize_like(student: Student, bundle: Bundle) -> Student:
    """The student as it was specialized for a bundle."""
    counts, prompt = bundle.plan.counts or bundle.plan.steps, bundle.prompt
    return specialize_student(
        student, counts, bundle.plan.guidance, bundle.layout, prefix_cache=bool(prompt.prefix_ids), prompt_tokens=prompt.keep
    )


def _fix_prompt(student: Student, prefix_cache: bool, prompt_tokens: int | None) -> PromptPlan:
    """How prompts are read once their number of rows is fixed and their prefix held."""
    whole, file = student.prompt, student.tokenizer / "tokenizer.json"
    keep = whole.keep if prompt_tokens is None else prompt_tokens
    if not 2 <= keep <= whole.keep:
        raise InputError(f"prompt_tokens={keep}: expected 2 (BOS and one token) to {whole.keep}, the pipeline's own")
    plan = dataclasses.replace(whole, tokens=whole.before + keep - 1, keep=keep, cuts=keep == whole.keep)
    if not prefix_cache:
        return plan
    ids, _ = PromptReader(plan, file).read([""])
    held = dataclasses.replace(plan, prefix_ids=tuple(ids[0, : plan.before].tolist()))
    # Where the tokenizer joins prompts to the prefix, better said now than by the first prompt of the finished bundle.
    PromptReader(dataclasses.replace(held, cuts=True), file).read(student.calibration_prompts)
    return held


def fold_scale_shift(weights: Mapping[str, Handle], layer: str, scale: torch.Tensor, shift: torch.Tensor) -> dict[str, Handle]:
    """y = W (n * (1 + scale) + shift) + b  =  W diag(1 + scale) n + (b + W shift).

    Always fires: W may be a Linear [out, in] or a 1x1 convolution [out, in, 1, 1] (no border, so the shift stays constant).

    Raises:
        InputError: the layer's kernel is larger than 1x1; a shift would meet the zero padding at the border.
    """
    weight, bias = weights[f"{layer}.weight"], weights.get(f"{layer}.bias")
    if any(size != 1 for size in weight.shape[2:]):
        raise InputError(f"{layer}: cannot fold a shift into a {weight.shape[2:]} kernel; expected a Linear or 1x1 convolution")
    tail = (1,) * len(weight.shape[2:])

    def folded_weight() -> torch.Tensor:
        value = _wide(weight.load())
        return value * (1 + scale.to(value.dtype)).reshape(1, -1, *tail)

    def folded_bias() -> torch.Tensor:
        value = _wide(weight.load()).flatten(1)
        added = value @ shift.to(value.dtype)
        return added if bias is None else added + _wide(bias.load())

    dtype = _wide_dtype(weight.dtype)
    return {
        f"{layer}.weight": LazyHandle(weight.shape, dtype, folded_weight),
        f"{layer}.bias": LazyHandle((weight.shape[0],), dtype, folded_bias),
    }


def fold_gate(weights: Mapping[str, Handle], layer: str, gate: torch.Tensor) -> dict[str, Handle]:
    """gate * (W x + b)  =  (diag(gate) W) x + gate * b.

    Always fires: a gate scales output rows only, which a per-output-channel quantizer absorbs. Without a bias there is no
    second term.
    """
    folded: dict[str, Handle] = {}
    for name in ("weight", "bias"):
        handle = weights.get(f"{layer}.{name}")
        if handle is not None:
            folded[f"{layer}.{name}"] = _scale_rows(handle, gate)
    return folded


def _scale_rows(handle: Handle, gate: torch.Tensor) -> LazyHandle:
    def compute() -> torch.Tensor:
        value = _wide(handle.load())
        return value * gate.to(value.dtype).reshape(-1, *(1,) * (value.ndim - 1))

    return LazyHandle(handle.shape, _wide_dtype(handle.dtype), compute)


def tabulate(rows: list[torch.Tensor]) -> LazyHandle:
    """One row of modulation values per step, [steps, ...]; the graph gathers by step index instead of computing them."""
    return constant(torch.stack(rows))


def _wide_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _wide(value: torch.Tensor) -> torch.Tensor:
    return value.to(_wide_dtype(value.dtype))
