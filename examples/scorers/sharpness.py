"""A scorer in thirty lines: how sharp pictures are, as the mean slope of their brightness.

    sprint-export validate my-bundle --scorer 'sharpness=python examples/scorers/sharpness.py'

One JSON object a line on stdin, one on stdout for each; all else goes to stderr. docs/metrics.md has the protocol.
"""

from __future__ import annotations

import json
import sys

import numpy as np
from PIL import Image


def measure_sharpness(path: str) -> float:
    """Levels of 255 by which neighbouring pixels differ, on average."""
    grey = np.asarray(Image.open(path).convert("L"), np.float64)
    down, across = np.gradient(grey)
    return float(np.hypot(down, across).mean())


def main() -> None:
    """Answer until stdin ends."""
    for line in sys.stdin:
        question = json.loads(line)
        if "protocol" in question:  # the first one: models would be loaded here
            answer = {"protocol": 1, "gives": "scores", "title": "mean slope of brightness", "unit": "levels", "better": "higher"}
        else:
            answer = {"id": question["id"], "scores": {"sharpness": measure_sharpness(question["picture"])}}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
