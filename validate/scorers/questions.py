"""Soft-TIFA (Kamath et al. 2025, arXiv:2512.16853): probabilities of the right answers to a prompt's questions, joined.

am = mean of p        how much of the prompt is there        gm = (product of p)^(1/n)        whether all of it is
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sprint_export.validate.prompt_sets.prompt_set import Question
from sprint_export.validate.scorers.conversation import ScorerError
from sprint_export.validate.scorers.objects import is_number

ARITHMETIC, GEOMETRIC = "am", "gm"


def read_answers(answer: Mapping[str, Any], questions: Sequence[Question]) -> list[float]:
    """A probability for each question.

    Raises:
        ScorerError: they are not as many, or no probabilities.
    """
    found = answer.get("answers")
    if not isinstance(found, list) or not all(is_number(each) and 0 <= each <= 1 for each in found):
        raise ScorerError(f"answered no list of 'answers' from 0 to 1: {str(answer)[:120]}")
    if len(found) != len(questions):
        raise ScorerError(f"gave {len(found)} answers to {len(questions)} questions")
    return [float(each) for each in found]


def score_answers(questions: Sequence[Question], answers: Sequence[float]) -> dict[str, float]:
    """Both means, and the mean of each skill, from 0 to 1."""
    product = 1.0
    for each in answers:
        product *= each
    scores = {ARITHMETIC: sum(answers) / len(answers), GEOMETRIC: product ** (1 / len(answers))}
    for skill in sorted({question.skill for question in questions if question.skill}):
        of_skill = [each for question, each in zip(questions, answers, strict=True) if question.skill == skill]
        scores[name_skill(skill)] = sum(of_skill) / len(of_skill)
    return scores


def name_skill(skill: str) -> str:
    """A skill's part of the name of its row, which no other row has."""
    name = skill.lower().replace(" ", "_")
    return f"skill_{name}" if name in (ARITHMETIC, GEOMETRIC) else name
