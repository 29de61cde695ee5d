"""A picture from `app.json` alone, as an app in another language draws it: numpy, ONNX Runtime and tokenizers; not this package.

What is written here is what docs/bundle.md says, and nothing else is known: where the two part, a test fails. Noise is handed in:
its generator has known answers of its own (tests/test_noise.py).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer


def encode(folder: Path, app: Any, prompt: str) -> tuple[Any, Any]:
    """Ids and mask of one prompt, int64 [1, ...]."""
    value: Any = prompt
    padding = 0
    for step in app["prompt"]["steps"]:
        match step["do"]:
            case "lower":
                value = value.lower()
            case "strip":
                value = value.strip(step["characters"])
            case "wrap":
                value = step["prefix"] + value + step["suffix"]
            case "tokenize":
                tokenizer = Tokenizer.from_file(str(folder / step["file"]))
                tokenizer.no_padding()
                tokenizer.no_truncation()
                value = tokenizer.encode(value).ids
            case "cut":
                if len(value) > step["tokens"]:
                    end = step["keep_last"]
                    value = value[: step["tokens"] - end] + value[len(value) - end :]
            case "refuse longer":
                assert len(value) <= step["tokens"], "the prompt is too long"
            case "check prefix":
                assert value[: len(step["ids"])] == step["ids"], "the prompt changes the prefix"
            case "pad":
                padding = step["tokens"] - len(value)
                value = value + [step["id"]] * padding
            case "drop":
                value = value[step["first"] :]
            case other:
                raise AssertionError(other)
    ones = np.zeros(app["prompt"]["mask"]["tokens"], np.int64)
    ones[: len(ones) - padding] = 1
    mask = np.concatenate([ones[start:stop] for start, stop in app["prompt"]["mask"]["kept"]])
    assert 0 <= min(value) <= max(value) < app["prompt"]["vocabulary"]
    return np.array([value], np.int64), mask[None]


def draw(folder: Path, prompt: str, noise: Any, given: dict[str, Any] | None = None, rows: Any = None, start: Any = None) -> Any:
    """A picture uint8 [H, W, 3].

    Args:
        folder: where `app.json` lies.
        prompt: one text.
        noise: float32 [steps, 1, ...].
        given: what optional networks take, by name.
        rows: which of a schedule's steps are run; default: all of the schedule of as many steps as there is noise for.
        start: a state to start from, which the network that writes `values.encoded` made of a picture.
    """
    app = json.loads((folder / "app.json").read_bytes())
    values, sampler = app["values"], app["sampler"]
    ids, mask = encode(folder, app, prompt)
    table = {values["ids"]: ids, values["mask"]: mask, **(given or {})}
    schedule = sampler["schedules"][str(len(noise))] if rows is None else rows
    times = [(np.float32(s), np.float32(1 - s)) for s in schedule["times"]]
    loop = [stage for stage in app["stages"] if stage["when"] == "each step"]
    first = app["stages"].index(loop[0])
    for stage in app["stages"][:first]:
        table |= run(folder, app, stage, table)
    s, rest = times[0]
    x = noise[0] if sampler["start"] == "noise" else noise[0] * s
    if start is not None:
        x = rest * start + s * noise[0]
    for i, row in enumerate(schedule["rows"]):
        inside = table | {values["state"]: x.astype(np.float32), values["step"]: np.array([row], np.int64)}
        for stage in loop:
            inside |= run(folder, app, stage, inside)
        x = inside[values["denoised"]]
        if i + 1 < len(times):
            s, rest = times[i + 1]
            x = rest * x + s * noise[i + 1]
    table[values["state"]] = x
    for stage in app["stages"][first + len(loop) :]:
        table |= run(folder, app, stage, table)
    pixels = np.clip(table[values["picture"]].astype(np.float32) * np.float32(0.5) + np.float32(0.5), 0, 1)
    return np.rint(pixels * np.float32(255)).astype(np.uint8)[0].transpose(1, 2, 0)


def run(folder: Path, app: Any, stage: Any, table: dict[str, Any]) -> dict[str, Any]:
    """What a stage writes; nothing where it is optional and one of its inputs is not there."""
    known, written = dict(table), {}
    for graph in app["networks"][stage["network"]]["graphs"]:
        feeds = {}
        for spec in graph["inputs"]:
            if spec["name"] not in known and stage.get("optional"):
                return {}
            is_known = spec["name"] in known
            feeds[spec["name"]] = known[spec["name"]] if is_known else np.zeros(fill(app, spec["shape"], table), spec["dtype"])
        session = onnxruntime.InferenceSession(str(folder / graph["path"]), providers=["CPUExecutionProvider"])
        names = [spec["name"] for spec in graph["outputs"]]
        written = dict(zip(names, session.run(names, feeds), strict=True))
        known |= written
    return written


def fill(app: Any, shape: list[Any], table: dict[str, Any]) -> list[int]:
    """A shape with its free axes filled in as the state's are: 32*height is 32 of the state's units of height."""
    units = {}
    if app["sizes"] is not None and app["values"]["state"] in table:
        for axis, size in zip(app["sizes"]["noise"], table[app["values"]["state"]].shape[1:], strict=True):
            if isinstance(axis, str):
                multiple, _, name = axis.rpartition("*")
                units[name] = size // int(multiple or 1)
    split = [(axis.rpartition("*") if isinstance(axis, str) else axis) for axis in shape]
    return [axis if isinstance(axis, int) else int(axis[0] or 1) * units[axis[2]] for axis in split]
