"""A process as an image metric: each picture of both sides is scored by it, and the two sides are compared picture by picture.

    we      {"protocol": 1, "pictures": 128}
    it      {"protocol": 1, "gives": "scores", "title": "ImageReward 1.0", "unit": "", "better": "higher"}
    we      {"id": 0, "picture": "/tmp/.../0.png", "prompt": "..."}           with "objects" or "questions" where it gives these
    it      {"id": 0, "scores": {"reward": 0.53}}                             or "objects": [...], or "answers": [...]

The pictures of a prompt follow one another, exported and PyTorch's in turn; it is not told which is which.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sprint_export.files import open_temporary_folder
from sprint_export.nouns.report import Metric
from sprint_export.validate.image_metrics.metric import (
    Comparison,
    ImageMetric,
    Scores,
    Setting,
    UnmeasuredError,
    compare_sides,
    name_sides,
)
from sprint_export.validate.scorers.command import OPTION, ScorerCommand
from sprint_export.validate.scorers.conversation import ANSWER_S, START_S, Conversation, ScorerError
from sprint_export.validate.scorers.objects import ALL, read_detections, score_scene
from sprint_export.validate.scorers.questions import read_answers, score_answers

PROTOCOL = 1
SCORES, OBJECTS, ANSWERS = "scores", "objects", "answers"  # what a scorer may give
LONGEST_TEXT = 200  # letters of its title and unit
MOST_SCORES = 50  # of a picture
PERCENT = "%"
TAKEN = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)  # what such a process leaves behind


class Scorer(ImageMetric):
    """The rows that one process gives.

    Args:
        command: the process.
        start_s: seconds until its first answer.
        answer_s: seconds until each of the others.
    """

    unit, better = "", "higher"

    def __init__(self, command: ScorerCommand, start_s: float = START_S, answer_s: float = ANSWER_S) -> None:
        super().__init__(command.name)
        self.command, self.start_s, self.answer_s = command, start_s, answer_s
        self.title, self.needs = f"scores of the process {command.arguments[0]}", f"{OPTION} {command.name}=COMMAND"

    def declare(self) -> tuple[Metric, ...]:
        """Its rows, for gates: which scores it has is known once it runs."""
        return Metric(self.name, self.needs), Metric(f"{self.name}_*", self.needs)

    def measure(self, comparison: Comparison, setting: Setting) -> list[Scores]:
        try:
            with Conversation(self.command, self.start_s, self.answer_s) as process, make_folder() as folder:
                offer = read_offer(process.ask({"protocol": PROTOCOL, "pictures": 2 * len(comparison.prompts)}))
                _check_offer(offer, comparison)
                sides: list[list[dict[str, float]]] = [[], []]
                for i, question in enumerate(list_questions(comparison, offer, Path(folder))):
                    try:
                        sides[i % 2].append(read_scores(process.ask(question), offer, comparison, i))
                        _check_names(sides, offer)
                    except ScorerError as error:
                        raise ScorerError(f"picture {i + 1} of {2 * len(comparison.prompts)}: {error}") from error
        except ScorerError as error:
            raise UnmeasuredError(f"the process {self.command.arguments[0]!r} {error}") from error
        except TAKEN as error:
            said = f"took the pictures' folder away ({error.strerror})"
            raise UnmeasuredError(f"the process {self.command.arguments[0]!r} {said}") from error
        return self._make_rows(sides, offer)

    @property
    def rows(self) -> tuple[str, ...]:
        return name_sides(self.name)

    def _make_rows(self, sides: list[list[dict[str, float]]], offer: Mapping[str, str]) -> list[Scores]:
        """Rows of each score; a kind of demand that a prompt lacks is nan there."""
        names = list(dict.fromkeys(name for side in sides for scores in side for name in scores))
        import numpy as np

        rows = []
        for name in names:
            ours, theirs = (np.array([scores.get(name, math.nan) for scores in side], np.float64) for side in sides)
            if offer["gives"] != SCORES:
                ours, theirs = 100 * ours, 100 * theirs
            row = self.name if len(names) == 1 or name == self.name else f"{self.name}_{name}"
            rows += compare_sides(row, offer["unit"], ours, theirs, offer["title"], (offer["gives"], name) == (OBJECTS, ALL))
        return rows


def make_folder() -> tempfile.TemporaryDirectory[str]:
    """Where pictures lie while a process looks at them."""
    return open_temporary_folder()


def read_offer(answer: Mapping[str, Any]) -> dict[str, str]:
    """What a scorer says that it gives: gives, title, unit.

    Raises:
        ScorerError: it speaks another protocol, or gives something else.
    """
    if answer.get("protocol") != PROTOCOL:
        raise ScorerError(f"answered with protocol {str(answer.get('protocol'))[:40]!r}; expected {PROTOCOL} (docs/metrics.md)")
    gives = answer.get("gives", SCORES)
    if gives not in (SCORES, OBJECTS, ANSWERS):
        raise ScorerError(f"gives {str(gives)[:40]!r}; expected {SCORES}, {OBJECTS} or {ANSWERS}")
    texts = {key: answer.get(key, "") for key in ("title", "unit")}
    if not all(isinstance(text, str) and len(text) <= LONGEST_TEXT for text in texts.values()):
        raise ScorerError(f"gave a title or unit that is no text of at most {LONGEST_TEXT} letters")
    return texts | {"gives": gives} | ({} if gives == SCORES else {"unit": PERCENT})


def _check_offer(offer: Mapping[str, str], comparison: Comparison) -> None:
    needed = {OBJECTS: (comparison.scenes, "geneval:FILE"), ANSWERS: (comparison.questions, "geneval2:FILE")}
    there, example = needed.get(offer["gives"], (True, ""))
    if not there:
        raise ScorerError(f"gives {offer['gives']}, and these prompts do not say what is right; expected --prompts {example}")


def _check_names(sides: list[list[dict[str, float]]], offer: Mapping[str, str]) -> None:
    """Refuse scores whose names change; of demands and questions they do."""
    first, last = sides[0][0], (sides[0] if len(sides[0]) > len(sides[1]) else sides[1])[-1]
    if offer["gives"] == SCORES and set(first) != set(last):
        raise ScorerError(f"names the scores {', '.join(sorted(last))}; it began with {', '.join(sorted(first))}")


def list_questions(comparison: Comparison, offer: Mapping[str, str], folder: Path) -> Iterator[dict[str, Any]]:
    """What a scorer is asked, one picture at a time; a picture's file is there until the next one is asked for."""
    from PIL import Image

    from sprint_export.validate.rows import take_row

    for i in range(2 * len(comparison.prompts)):
        place, side = i // 2, (comparison.exported, comparison.reference)[i % 2]
        path = folder / f"{i}.png"
        Image.fromarray(take_row(side, place)).save(path)
        question: dict[str, Any] = {"id": i, "picture": str(path), "prompt": comparison.prompts[place]}
        if offer["gives"] == OBJECTS:
            question["objects"] = sorted({each.name for each in comparison.scenes[place].wanted})
        if offer["gives"] == ANSWERS:
            question["questions"] = [[each.text, each.answer] for each in comparison.questions[place]]
        yield question
        path.unlink(missing_ok=True)


def read_scores(answer: Mapping[str, Any], offer: Mapping[str, str], comparison: Comparison, number: int) -> dict[str, float]:
    """The scores by name that an answer stands for.

    Raises:
        ScorerError: it is for another picture, says an error, or is of another form.
    """
    if answer.get("id") != number:
        raise ScorerError(f"answered for id {str(answer.get('id'))[:40]!r}; expected {number}")
    if "error" in answer:
        raise ScorerError(f"says: {str(answer['error'])[:200]}")
    if offer["gives"] == OBJECTS:
        return score_scene(comparison.scenes[number // 2], read_detections(answer))
    if offer["gives"] == ANSWERS:
        questions = comparison.questions[number // 2]
        return score_answers(questions, read_answers(answer, questions))
    return _read_numbers(answer)


def _read_numbers(answer: Mapping[str, Any]) -> dict[str, float]:
    scores = answer.get(SCORES)
    if not isinstance(scores, dict) or not 0 < len(scores) <= MOST_SCORES:
        raise ScorerError(f"answered no object of 1 to {MOST_SCORES} 'scores': {str(answer)[:120]}")
    for name, value in scores.items():
        if not (name.isascii() and name.isidentifier() and name == name.lower() and len(name) <= 40):
            raise ScorerError(f"names a score {name[:40]!r}; expected small letters, digits and _")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ScorerError(f"gives {name} = {str(value)[:40]!r}; expected a number")
    return {name: float(value) for name, value in scores.items()}
