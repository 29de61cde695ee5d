"""A copy of a bundle whose prompts are read by another tokenizer, and by nothing else."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

LONGEST, PADDING = 1024, (1 << 20) - 1  # tokens of a prompt; an id that none of them has
FILE = "tokenizer/tokenizer.json"


def copy_with_tokenizer(source: Path, target: Path, tokenizer: bytes) -> None:
    """The copy, whose app.json names the new file."""
    shutil.copytree(source, target)
    (target / FILE).write_bytes(tokenizer)
    app = json.loads((target / "app.json").read_text("utf-8"))
    entry = next(entry for entry in app["files"] if entry["path"] == FILE)
    entry |= {"bytes": len(tokenizer), "sha256": hashlib.sha256(tokenizer).hexdigest()}
    steps = [{"do": "tokenize", "file": FILE}, {"do": "pad", "tokens": LONGEST, "id": PADDING}]
    app["prompt"] = {"steps": steps, "mask": {"tokens": LONGEST, "kept": [[0, 1]]}, "vocabulary": 1 << 20}
    (target / "app.json").write_text(json.dumps(app), "utf-8")
    (target / "bundle.json").unlink()  # it names the file as it was
