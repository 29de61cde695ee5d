"""GenEval 2 (Kamath et al. 2025, arXiv:2512.16853): 800 prompts, each with a question for every atom of it, in JSON lines.

    {"prompt": "four white bicycles ...", "atom_count": 7, "vqa_list": [["How many bicycles are in the image?", "four"], ...],
     "skills": ["count", ...]}

A process that answers questions of pictures gives each right answer's probability (--scorer); scorers/questions.py joins them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sprint_export.errors import InputError
from sprint_export.validate.prompt_sets.json_lines import find_lines, read_json_lines, take
from sprint_export.validate.prompt_sets.prompt_set import PromptLayout, PromptSet, Question, check_count, check_prompt

FILE = "geneval2_data.jsonl"
MOST_QUESTIONS = 100  # of a prompt
MOST_SKILLS = 50  # of all prompts: each becomes rows of the report
SKILL = re.compile(r"[A-Za-z][A-Za-z0-9 _-]{0,39}")


class Geneval2(PromptLayout):
    """Prompts with the questions of each."""

    title, path = "GenEval 2: a question for every atom of a prompt", f"{FILE}, or its folder"

    def read(self, path: Path) -> PromptSet:
        texts, questions = [], []
        for where, line in read_json_lines(find_lines(f"--prompts {self.name}:{path}", path, FILE)):
            texts.append(check_prompt(where, line.get("prompt")))
            questions.append(_read_questions(where, line))
        check_count(f"--prompts {self.name}:{path}", len(texts))
        _check_skills(f"--prompts {self.name}:{path}", {each.skill for asked in questions for each in asked} - {""})
        return PromptSet(tuple(texts), questions=tuple(questions), title="GenEval 2")


def _read_questions(where: str, line: dict[str, Any]) -> tuple[Question, ...]:
    pairs = take(where, line, "vqa_list", list)
    skills = take(where, line, "skills", list, [""] * len(pairs))
    if not 0 < len(pairs) <= MOST_QUESTIONS or len(skills) != len(pairs):
        raise InputError(
            f"{where}: {len(pairs)} questions with {len(skills)} skills; expected 1 to {MOST_QUESTIONS}, as many of both"
        )
    for each in (*pairs, skills):
        if not (isinstance(each, list) and all(isinstance(text, str) for text in each)):
            raise InputError(f"{where}: expected pairs of texts in 'vqa_list', and texts in 'skills'")
    if odd := next((pair for pair in pairs if len(pair) != 2), None):
        raise InputError(f"{where}: a question has {len(odd)} texts; expected the question and its answer")
    return tuple(Question(text, answer, skill) for (text, answer), skill in zip(pairs, skills, strict=True))


def _check_skills(where: str, skills: set[str]) -> None:
    """Refuse skills that are no names, or more than a benchmark has."""
    if odd := sorted(skill for skill in skills if SKILL.fullmatch(skill) is None):
        raise InputError(f"{where}: a skill is called {odd[0][:80]!r}; expected letters, digits, spaces, _ and -, at most 40")
    if len(skills) > MOST_SKILLS:
        raise InputError(f"{where}: {len(skills):,} skills; expected at most {MOST_SKILLS}")


PROMPT_SET = Geneval2(name="geneval2")
