"""GenEval (Ghosh et al. 2023, arXiv:2310.11513): 553 prompts about objects, counts, colours and positions, in JSON lines.

    {"tag": "position", "prompt": "a photo of a dog right of a couch",
     "include": [{"class": "couch", "count": 1}, {"class": "dog", "count": 1, "position": ["right of", 0]}]}
    {"tag": "counting", "prompt": ..., "include": [{"class": "clock", "count": 2}], "exclude": [{"class": "clock", "count": 3}]}
    {"tag": "colors", "prompt": ..., "include": [{"class": "dog", "count": 1, "color": "black"}]}

A detector's process looks for them (--scorer); scorers/objects.py scores what it finds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sprint_export.errors import InputError, unknown_choice
from sprint_export.validate.prompt_sets.json_lines import find_lines, read_json_lines, take
from sprint_export.validate.prompt_sets.prompt_set import (
    PromptLayout,
    PromptSet,
    WantedObject,
    WantedScene,
    check_count,
    check_prompt,
)

FILE = "evaluation_metadata.jsonl"
RELATIONS = ("left of", "right of", "above", "below")
MOST_OBJECTS, MOST_COUNT = 50, 1000  # of a prompt; of one class


class Geneval(PromptLayout):
    """Prompts with the scene that each asks for."""

    title, path = "GenEval: objects, counts, colours, positions", f"{FILE}, or its folder"

    def read(self, path: Path) -> PromptSet:
        texts, scenes = [], []
        for where, line in read_json_lines(find_lines(f"--prompts {self.name}:{path}", path, FILE)):
            texts.append(check_prompt(where, line.get("prompt")))
            scenes.append(_read_scene(where, line))
        check_count(f"--prompts {self.name}:{path}", len(texts))
        return PromptSet(tuple(texts), scenes=tuple(scenes), title="GenEval")


def _read_scene(where: str, line: dict[str, Any]) -> WantedScene:
    include, exclude = (take(where, line, key, list, []) for key in ("include", "exclude"))
    if not 0 < len(include) <= MOST_OBJECTS or len(exclude) > MOST_OBJECTS:
        raise InputError(f"{where}: {len(include)} objects to include; expected 1 to {MOST_OBJECTS}")
    wanted = tuple(_read_object(where, each, len(include)) for each in include)
    limits = tuple((each.name, each.count) for each in (_read_object(where, other, len(include)) for other in exclude))
    return WantedScene(wanted, limits, take(where, line, "tag", str, ""))


def _read_object(where: str, value: Any, count: int) -> WantedObject:
    if not isinstance(value, dict):
        raise InputError(f"{where}: an object is {type(value).__name__}; expected one with class and count")
    number = take(where, value, "count", int, 1)
    if not 0 < number <= MOST_COUNT:
        raise InputError(f"{where}: 'count' is {number}; expected 1 to {MOST_COUNT}")
    relation, beside = _read_position(where, value.get("position"), count)
    return WantedObject(take(where, value, "class", str), number, take(where, value, "color", str, ""), relation, beside)


def _read_position(where: str, value: Any, count: int) -> tuple[str, int]:
    if value is None:
        return "", 0
    if not (isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and type(value[1]) is int):
        raise InputError(f"{where}: 'position' is {value!r}; expected a relation and the place of an object, e.g. ['above', 0]")
    relation, beside = value
    if relation not in RELATIONS:
        raise InputError(f"{where}: {unknown_choice('relation', relation, RELATIONS)}")
    if not 0 <= beside < count:
        raise InputError(f"{where}: 'position' names object {beside}; there are 0 to {count - 1}")
    return relation, beside


PROMPT_SET = Geneval(name="geneval")
