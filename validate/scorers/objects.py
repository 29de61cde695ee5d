"""What a detector found in a picture, held against what its prompt asks for: objects, counts, colours, positions.

Its four kinds of demands are GenEval's (arXiv:2310.11513), and so are the thresholds of positions: the centre of one box lies
left of another's where, less a tenth of both widths, it lies to the left by more than half of the distance. A picture is right
where all demands are met. Which objects it shows, and in which colours, is the detector's answer; nothing is detected here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sprint_export.validate.prompt_sets.prompt_set import WantedObject, WantedScene
from sprint_export.validate.scorers.conversation import ScorerError

KINDS = ("object", "count", "color", "position")
ALL = "prompt"
MARGIN = 0.1  # of both boxes' sides, by which centres may differ without a direction
LEAST_SHARE = 0.5  # of the distance, that lies in a direction
MOST_OBJECTS = 1000  # in one picture
FARTHEST = 1e6  # pixels from the corner: no picture's box lies there


@dataclass(frozen=True)
class Detection:
    """An object in a picture.

    Args:
        name: its class.
        box: left, top, right, bottom, in pixels.
        color: "" where the detector names none.
        score: how sure it is.
    """

    name: str
    box: tuple[float, float, float, float]
    color: str = ""
    score: float = 1.0


def read_detections(answer: Mapping[str, Any]) -> list[Detection]:
    """The objects of an answer, the surest first.

    Raises:
        ScorerError: they are not of the form that docs/metrics.md has.
    """
    objects = answer.get("objects")
    if not isinstance(objects, list) or len(objects) > MOST_OBJECTS:
        raise ScorerError(f"answered no list of at most {MOST_OBJECTS} 'objects': {str(answer)[:120]}")
    return sorted(map(_read_detection, objects), key=lambda each: -each.score)


def _read_detection(value: Any) -> Detection:
    found = value if isinstance(value, dict) else {}
    name, box, color, score = (found.get(key, left_out) for key, left_out in _FIELDS.items())
    is_box = isinstance(box, list) and len(box) == 4 and all(is_number(side) and abs(side) <= FARTHEST for side in box)
    if not (isinstance(name, str) and is_box and isinstance(color, str) and is_number(score)):
        raise ScorerError(
            f"answered an object {str(value)[:120]}; expected class, box of 4 numbers in pixels, and perhaps color and score"
        )
    left, top, right, bottom = map(float, box)
    return Detection(name, (left, top, right, bottom), color, float(score))


_FIELDS: Mapping[str, Any] = {"class": None, "box": None, "color": "", "score": 1.0}


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def score_scene(scene: WantedScene, found: Sequence[Detection]) -> dict[str, float]:
    """The share of demands of each kind that are met, from 0 to 1, and whether all are; without kinds that are not asked for."""
    demands: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    chosen = [[each for each in found if each.name == wanted.name] for wanted in scene.wanted]
    for wanted, objects in zip(scene.wanted, chosen, strict=True):
        demands["object"].append(bool(objects))
        if wanted.color:
            demands["color"].append(sum(each.color == wanted.color for each in objects) >= wanted.count)
        if wanted.count > 1:
            demands["count"].append(len(objects) >= wanted.count)
        if wanted.relation:
            others = chosen[wanted.beside][: scene.wanted[wanted.beside].count]
            demands["position"].append(_lie_so(wanted, objects[: wanted.count], others))
    for name, limit in scene.limits:
        demands["count"].append(sum(each.name == name for each in found) < limit)
    shares = {kind: sum(each) / len(each) for kind, each in demands.items() if each}
    return shares | {ALL: float(all(share == 1 for share in shares.values()))}


def _lie_so(wanted: WantedObject, objects: Sequence[Detection], others: Sequence[Detection]) -> bool:
    """Whether each of the objects lies so to each of the others, and there are such."""
    pairs = [(first, second) for first in objects for second in others if first is not second]
    return bool(pairs) and all(wanted.relation in find_relations(first.box, second.box) for first, second in pairs)


def find_relations(first: tuple[float, ...], second: tuple[float, ...]) -> set[str]:
    """Where the first box (left, top, right, bottom) lies to the second: some of left of, right of, above, below."""
    offsets = []
    for low in (0, 1):
        sides = [box[low + 2] - box[low] for box in (first, second)]
        offset = (first[low] + first[low + 2] - second[low] - second[low + 2]) / 2
        offsets.append(max(abs(offset) - MARGIN * sum(sides), 0.0) * (1 if offset > 0 else -1))
    x, y = offsets
    length = (x**2 + y**2) ** 0.5
    if not length:
        return set()
    named = {"left of": -x, "right of": x, "above": -y, "below": y}
    return {name for name, offset in named.items() if offset / length > LEAST_SHARE}
