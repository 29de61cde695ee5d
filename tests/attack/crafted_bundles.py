"""Bundles made by one who can sign them: to be expensive, to read elsewhere, to draw nonsense. Each kind worked once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

MANIFEST = "bundle.json"
TOKENIZER = "tokenizer/tokenizer.json"
Value = dict[str, Any]


def craft(change: Callable[[Value, Random], object], what: str) -> Callable[[Path, Random, Path], str]:
    """A mutation of the manifest's value."""

    def mutate(folder: Path, rng: Random, outside: Path) -> str:
        path = folder / MANIFEST
        value = json.loads(path.read_text("utf-8"))
        change(value, rng)
        path.write_text(json.dumps(value), "utf-8")
        return what

    return mutate


def _set(*path: Any, to: Any) -> Callable[[Value, Random], object]:
    def change(value: Any, rng: Random) -> None:
        for key in path[:-1]:
            value = value[key]
        value[path[-1]] = to

    return change


def _repeat(*path: Any, times: int) -> Callable[[Value, Random], object]:
    def change(value: Any, rng: Random) -> None:
        for key in path[:-1]:
            value = value[key]
        value[path[-1]] = value[path[-1]] * times

    return change


def _widen(value: Value, rng: Random) -> None:
    """Ask for more tokens everywhere the manifest speaks of them, though the graphs have as many as before."""
    tokens, more = value["prompt"]["tokens"], rng.choice([1, 1000, 1 << 15])
    text = (
        json.dumps(value["components"]).replace(f"{tokens}", f"{tokens + more}").replace(f"{tokens - 1}", f"{tokens - 1 + more}")
    )
    value["components"] = json.loads(text)
    value["prompt"]["tokens"] += more
    value["prompt"]["keep"] += more


def _enlarge(value: Value, rng: Random) -> None:
    """Latents of another size in every spec."""
    channels, *own = value["latent_shape"]
    size = rng.choice([1, 8, 64, 4096])
    text = json.dumps(value["components"]).replace(json.dumps([1, channels, *own]), json.dumps([1, channels, size, size]))
    picture = rng.choice([2, 4])
    text = text.replace("[1, 3, 32, 32]", json.dumps([1, 3, size * picture, size * picture]))
    value["components"], value["latent_shape"] = json.loads(text), [channels, size, size]


def _steps(value: Value, rng: Random) -> None:
    """Several times, and an input for them that no graph has."""
    value["plan"]["times"], value["plan"]["counts"] = [1.0, 1.0, 0.5], [1, 2]
    step = {"name": "step", "dtype": "int64", "shape": [1], "meaning": ""}
    record = next(c for c in value["components"] if c["role"] == "transformer")
    record["inputs"].append(step)
    record["parts"][0]["inputs"].append(step)


def edit_tokenizer(change: Callable[[Value], object], what: str) -> Callable[[Path, Random, Path], str]:
    """A mutation of tokenizer.json."""

    def mutate(folder: Path, rng: Random, outside: Path) -> str:
        value = json.loads((folder / TOKENIZER).read_text("utf-8"))
        change(value)
        (folder / TOKENIZER).write_text(json.dumps(value), "utf-8")
        return what

    return mutate


def _add_tokens(value: Value) -> None:
    same = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    value["added_tokens"] += [{"id": 1000 + i, "content": f"<{i}>"} | same for i in range(50_000)]


def _raise_ids(value: Value) -> None:
    value["model"]["vocab"] = {word: i + (1_000_000 if i > 4 else 0) for word, i in value["model"]["vocab"].items()}


def _spoil_template(value: Value) -> None:
    single = [{"SpecialToken": {"id": "x", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    tokens = {"x": {"id": "x", "ids": [1], "tokens": ["y", "z"]}}
    value["post_processor"] = {"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": tokens}


def _spoil_pattern(value: Value) -> None:
    value["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}


def spoil_graph(folder: Path, rng: Random, outside: Path) -> str:
    """Scales and weights of NaN, infinity or nonsense: words of a graph's or its data's float32 values."""
    found = sorted(path for path in folder.rglob("*") if path.suffix in (".data", ".onnx", ".bin"))
    path = rng.choice(found)
    data = bytearray(path.read_bytes())
    word = rng.choice([np.float32("nan"), np.float32("inf"), np.float32(3e38), np.float32(-1)]).tobytes()
    for _ in range(rng.choice([1, 50, 500])):
        place = rng.randrange(len(data) // 4) * 4
        data[place : place + 4] = word
    path.write_bytes(data)
    return f"words of {path.relative_to(folder)} are {np.frombuffer(word, np.float32)[0]}"


def point_graph(folder: Path, rng: Random, outside: Path) -> str:
    """A graph whose weights lie elsewhere."""
    places = [b"../../outside/secret", b"../../../../../dev/zero", b"quantization.safetensors", b"../bundle.json", b"x"]
    found = sorted(path for path in folder.rglob("*") if path.name in ("model.onnx", "model.shadow.onnx", "model.mlmodel"))
    if not found:
        return "nothing"
    path, place = rng.choice(found), rng.choice(places)
    data = path.read_bytes()
    old = b"model.onnx.data" if path.suffix == ".onnx" else b"@model_path/weights/weight.bin"
    path.write_bytes(data.replace(old, (place + b"/" * len(old))[: len(old)]))
    return f"{path.relative_to(folder)} points to {place!r}"


CRAFTED = (
    craft(_repeat("plan", "times", times=100_000), "100,000 times"),
    craft(_repeat("artifacts", times=1500), "every artifact 1500 times"),
    craft(
        lambda value, rng: value["components"][rng.randrange(3)].update(parts=value["components"][0]["parts"] * 300), "300 parts"
    ),
    craft(_set("latent_shape", to=[2**40, 16, 16]), "latents of 2^40"),
    craft(_set("components", 1, "parts", to=[]), "no parts"),
    craft(_set("plan", "times", to=[]), "no times"),
    craft(_set("plan", "times", to=[3.0]), "time 3"),
    craft(_set("prompt", "pad_id", to=50), "another pad id"),
    craft(_set("prompt", "pad_id", to=2**20), "a pad id beyond the vocabulary"),
    craft(lambda value, rng: value["prompt"].update(pad_id=2**20, vocabulary=2**21), "a pad id beyond the table"),
    craft(_set("prompt", "prefix", to="x " * 100_000), "a prefix of 200,000 letters"),
    craft(_set("components", 0, "layers", to={}), "no layers"),
    craft(_set("device", to="mac-m4"), "another device"),
    craft(_widen, "more tokens"),
    craft(_enlarge, "latents of another size"),
    craft(_steps, "three times"),
    edit_tokenizer(_add_tokens, "50,000 added tokens"),
    edit_tokenizer(_raise_ids, "ids beyond the vocabulary"),
    edit_tokenizer(_spoil_template, "a template that does not fit"),
    edit_tokenizer(_spoil_pattern, "a pattern that backtracks"),
    spoil_graph,
    spoil_graph,
    point_graph,
)
