"""A folder that looks like a bundle to a page: app.json, two files and a reference, a few bytes in all."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

GRAPH, TOKENIZER = "decoder/model.onnx", "tokenizer/tokenizer.json"


def make_small_app(folder: Path, **fields: Any) -> Path:
    """Write it into a new folder; `fields` take the place of app.json's own."""
    contents = {GRAPH: b"graph", TOKENIZER: b"{}"}
    for path, content in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    (folder / "reference").mkdir()
    (folder / "reference/picture.png").write_bytes(b"picture")
    drawing = {"prompt": "a red circle", "seed": 3, "picture": {"file": "reference/picture.png"}}
    (folder / "reference/reference.json").write_text(json.dumps({"drawings": [drawing]}), "utf-8")
    app = {
        "name": "someone/student",
        "target": "onnx-int8",
        "runtimes": {"onnxruntime": "1.21.0"},
        "files": [describe(path, content) for path, content in contents.items()],
        "reference": "reference/reference.json",
        "examples": ["a blue square"],
    }
    (folder / "app.json").write_text(json.dumps(app | fields), "utf-8")
    return folder


def describe(path: str, content: bytes) -> dict[str, Any]:
    """An entry of app.json's files."""
    return {"path": path, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
