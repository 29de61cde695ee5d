"""A detector: the shapes of sprint-tiny's world with their boxes and colours, for prompts that say what a picture shall show.

    sprint-export validate my-bundle --prompts geneval:shapes.jsonl --scorer 'shapes=python examples/scorers/detect_shapes.py'

A line of shapes.jsonl is one of GenEval's evaluation_metadata.jsonl, its classes circle, square and triangle. A detector of
photographs differs in `find_objects` alone.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from sprint_export.students.sprint_tiny.adherence import MIN_AREA, MIN_DISTANCE, detect_scene


def find_objects(path: str) -> list[dict[str, Any]]:
    """Class, colour and box (left, top, right, bottom) of each shape in a picture of 64 px."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    base = np.median(border, axis=0)
    labels, count = ndimage.label(np.linalg.norm(pixels - base, axis=-1) > MIN_DISTANCE)
    objects = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels, count), 1):
        inside = ndimage.binary_dilation(labels == number, iterations=3)
        alone = np.where(inside[..., None], pixels, base.astype(np.uint8))
        scene = detect_scene(alone)
        if (labels == number).sum() >= MIN_AREA and scene is not None:
            box = [columns.start, rows.start, columns.stop, rows.stop]
            objects += [{"class": shape.form, "color": shape.colour, "box": box} for shape in scene.shapes]
    return objects


def main() -> None:
    """Answer until stdin ends."""
    for line in sys.stdin:
        question = json.loads(line)
        if "protocol" in question:
            answer: dict[str, Any] = {"protocol": 1, "gives": "objects", "title": "shapes by their pixels"}
        else:
            answer = {"id": question["id"], "objects": find_objects(question["picture"])}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
