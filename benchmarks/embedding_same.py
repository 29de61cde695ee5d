"""Whether one seed and one prompt are the same noise, ids and picture in Python, Node, Chromium and C++ (for embedding.py)."""

from __future__ import annotations

import base64
import hashlib
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sprint_export.noise import make_normals
from sprint_export.runtimes import open_bundle

sys.path.append(str(Path(__file__).resolve().parents[1]))  # tests/ is no installed package
from tests.runtimes.cpp.programs import ask_probe, draw_picture
from tests.runtimes.javascript.programs import run_in_browser, run_in_node
from tests.students.ten_scripts import list_prompts

PROMPT = "a small green triangle left of a large yellow circle"
SEEDS = (0, 3, 2**53 + 1, 2**64 - 1)
COUNT = 5000  # values of noise of each seed


def compare_seeds(bundle: Path, work: Path) -> dict[str, Any]:
    """By language: sha256 of noise, of the ids of 200 prompts in ten scripts, and how far its pictures are from Python's.

    Args:
        bundle: below `work`, which serves it to the page.
        work: of make_work_folder.
    """
    found = {
        "Python": ask_python(bundle),
        "Node": ask_javascript(str(bundle), partial(run_in_node, work)),
        "Chromium": ask_javascript(bundle.relative_to(work).as_posix(), lambda jobs: run_in_browser(work, jobs)["results"]),
        "C++": ask_cpp(bundle, work / "same.png"),
    }
    python, asked = found["Python"], {"prompts": len(list_prompts()), "seeds": [str(seed) for seed in SEEDS], "values": COUNT}
    return asked | {language: compare_answers(answers, python) for language, answers in found.items()}


def compare_answers(answers: Mapping[str, bytes], python: Mapping[str, bytes]) -> dict[str, Any]:
    """Hashes, whether they are Python's, and the pictures' largest difference and how many of their values differ."""
    found: dict[str, Any] = {name: hashlib.sha256(answers[name]).hexdigest() for name in ("noise", "ids")}
    pictures = (np.frombuffer(one["pictures"], np.uint8).astype(int) for one in (answers, python))
    apart = np.abs(np.subtract(*pictures))
    same = {f"same_{name}": answers[name] == python[name] for name in ("noise", "ids")}
    return found | same | {"largest": int(apart.max()), "values_apart": int((apart > 0).sum()), "picture_values": apart.size}


def ask_python(bundle: Path) -> dict[str, bytes]:
    """By open_bundle."""
    pipeline = open_bundle(bundle)
    noise = [make_normals(seed, COUNT).tobytes() for seed in SEEDS]
    ids = pipeline.reader.read(list_prompts())[0]
    pictures = [pipeline([PROMPT], seed=seed)[0].tobytes() for seed in SEEDS]
    return join(noise, ids.tolist(), pictures)


def ask_javascript(bundle: str, ask: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> dict[str, bytes]:
    """By the JavaScript package."""
    jobs: list[dict[str, Any]] = [{"do": "noise", "seed": str(seed), "count": COUNT} for seed in SEEDS]
    jobs.append({"do": "ids", "bundle": bundle, "options": {"threads": 1}, "prompts": list_prompts()})
    drawings = [{"prompt": PROMPT, "seed": str(seed)} for seed in SEEDS]
    jobs.append({"do": "draw", "bundle": bundle, "options": {"threads": 1}, "drawings": drawings})
    *noise, ids, drawn = (result["value"] for result in ask(jobs))
    return join([base64.b64decode(one) for one in noise], ids, [drop_alpha(one) for one in drawn])


def ask_cpp(bundle: Path, file: Path) -> dict[str, bytes]:
    """By the C++ library and sprint-draw."""
    noise = [ask_probe("noise", {"seed": seed, "count": COUNT, "first": 0}) for seed in SEEDS]
    ids = ask_probe("ids", {"folder": str(bundle), "threads": 1, "texts": list_prompts()})
    pictures = []
    for seed in SEEDS:
        done = draw_picture(bundle, PROMPT, "--seed", seed, "--threads", 1, "-o", file)
        assert done.returncode == 0, done.stderr
        with Image.open(file) as picture:
            pictures.append(np.asarray(picture).tobytes())
    return join([np.array(one, np.float32).tobytes() for one in noise], ids, pictures)


def drop_alpha(drawn: Mapping[str, Any]) -> bytes:
    """RGBA to RGB."""
    return np.frombuffer(base64.b64decode(drawn["rgba"]), np.uint8).reshape(-1, 4)[:, :3].tobytes()


def join(noise: list[bytes], ids: list[list[int]], pictures: list[bytes]) -> dict[str, bytes]:
    """One language's answers."""
    return {"noise": b"".join(noise), "ids": repr(ids).encode(), "pictures": b"".join(pictures)}
