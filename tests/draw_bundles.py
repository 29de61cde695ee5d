"""The side of tests/runtimes/test_oldest.py that runs in another environment: bundles in, pictures out; it needs no torch.

    python tests/draw_bundles.py REQUEST.json      # {"bundles": [folders], "prompts": [texts], "out": an .npz to write}

Prints a JSON object: what each bundle ran on, and the version of every library that is loaded.
"""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import sprint_export


def main(request: Path) -> None:
    """Draw with every bundle."""
    wanted = json.loads(request.read_text("utf-8"))
    pictures: dict[str, Any] = {}
    descriptions = {}
    for folder in wanted["bundles"]:
        pipeline = sprint_export.open_bundle(folder)
        pictures[folder] = pipeline(wanted["prompts"], seed=0)
        descriptions[folder] = pipeline.description
    np.savez(wanted["out"], *pictures.values())
    versions = {d.metadata["Name"].lower(): d.version for d in metadata.distributions()}
    print(json.dumps({"descriptions": descriptions, "versions": versions, "torch": "torch" in sys.modules}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
