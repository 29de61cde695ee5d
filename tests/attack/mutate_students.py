"""Damaged, odd and hostile students: each mutated folder is loaded, specialized and drawn in torch, beside stock diffusers.

Right: the picture is the one stock diffusers draws from the same folder, to 60 dB. Wrong: another, or one where stock refuses.
Every mutation is a function of a folder and a seeded generator; its sample names both, so that it can be made again.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests.attack.forks import Ended, run_forked, was_read, watch_reads
from tests.attack.outcomes import CLEAN, OUTSIDE, RIGHT, WRONG, Tally
from tests.made_student import make_pipeline
from tests.students.sana_sprint.flips import ENOUGH_DB, compare, draw_ours, draw_theirs, list_values

NAME = "students"
SECONDS = 60.0
Choice = random.Random
CODE = "import pathlib\npathlib.Path({mark!r}).touch()\nclass Evil: pass\n"
NUMBERS = (float("nan"), float("inf"), 3e38, 1e30, 0.0, 1e19, -1e10)
DTYPES = (torch.int32, torch.bool, torch.uint8, torch.float16, torch.float64, torch.bfloat16, torch.int64)
KINDS = ("code", "link", "type", "damage", "missing", "value", "tokenizer", "weights", "text", "layout")


def list_regular(folder: Path, suffix: str = "") -> list[Path]:
    """Files of a student, in order."""
    return sorted(path for path in folder.rglob(f"*{suffix}") if path.is_file() and not path.is_symlink())


# ---- mutations: each changes the folder and says in a few words what it did


def run_code(folder: Path, choose: Choice) -> str:
    """Code beside a config that names it, in every place where a library looks."""
    file = choose.choice([*list_regular(folder, "config.json"), folder / "model_index.json"])
    (file.parent / "evil.py").write_text(CODE.format(mark=str(folder.parent / "ran")))
    value = json.loads(file.read_text())
    names = ["AutoTokenizer", "AutoModel", "AutoConfig"]
    what = choose.choice(["auto_map", "class", "custom pipeline", "index"])
    if what == "auto_map":
        value["auto_map"] = {name: ["evil.Evil", "evil.Evil"] if name == "AutoTokenizer" else "evil.Evil" for name in names}
    elif what == "class":
        value |= {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": [None, "evil.Evil"]}}
    elif what == "custom pipeline":
        value |= {"_class_name": ["evil", "Evil"], "custom_pipeline": "evil"}
    else:
        file = folder / "model_index.json"
        value = json.loads(file.read_text()) | {choose.choice(["tokenizer", "vae", "scheduler", "extra"]): ["evil", "Evil"]}
        (folder / "evil.py").write_text(CODE.format(mark=str(folder.parent / "ran")))
    file.write_text(json.dumps(value))
    return f"{what} in {file.relative_to(folder)}"


def make_link(folder: Path, choose: Choice) -> str:
    """A file or a folder becomes a link."""
    path = choose.choice([*list_regular(folder), *(p for p in sorted(folder.iterdir()) if p.is_dir())])
    outside = folder.parent / "outside"
    outside.mkdir()
    moved = outside / path.name
    shutil.move(path, moved)
    target = choose.choice(
        [moved, Path("gone"), Path(path.name), Path("/dev/zero"), Path("/dev/stdin"), Path("/proc/self/mem"), outside]
    )
    path.symlink_to(target)
    watch_reads(outside)
    return f"{path.relative_to(folder)} -> {target}"


def change_type(folder: Path, choose: Choice) -> str:
    """A FIFO, a folder or nothing readable in the place of a file; or beside it."""
    path = choose.choice(
        [*list_regular(folder), folder / "x.json", folder / "vae" / "x.safetensors", folder / "calibration_prompts.txt"]
    )
    path.unlink(missing_ok=True)
    if choose.random() < 0.5:
        os.mkfifo(path)
        return f"FIFO {path.relative_to(folder)}"
    path.mkdir()
    return f"folder {path.relative_to(folder)}"


def damage_file(folder: Path, choose: Choice) -> str:
    """Bits, bytes and ends of any file."""
    path = choose.choice(list_regular(folder))
    raw, how = bytearray(path.read_bytes()), choose.choice(["bit", "cut", "empty", "noise", "zeros", "twice", "insert"])
    place = choose.randrange(min(len(raw), choose.choice([100, 2000, len(raw)])) or 1)
    if how == "bit" and raw:
        raw[place] ^= 1 << choose.randrange(8)
    elif how == "insert":
        raw[place:place] = choose.randbytes(3)
    elif how == "noise":
        raw[place : place + 20] = choose.randbytes(20)
    elif how == "zeros":
        raw[place:] = bytes(len(raw) - place)
    else:
        raw = {"cut": raw[:place], "empty": bytearray(), "twice": raw + raw}.get(how, raw)
    path.write_bytes(raw)
    return f"{how} at {place} of {path.relative_to(folder)}"


def drop_file(folder: Path, choose: Choice) -> str:
    """A file or a folder is gone, or lies where another should."""
    paths = [*list_regular(folder), *(p for p in sorted(folder.iterdir()) if p.is_dir())]
    path = choose.choice(paths)
    if path.is_dir():
        shutil.rmtree(path)
        return f"no {path.name}/"
    if choose.random() < 0.5:
        other = choose.choice(list_regular(folder))
        shutil.copyfile(other, path) if other != path else path.unlink()
        return f"{other.relative_to(folder)} as {path.relative_to(folder)}"
    path.unlink()
    return f"no {path.relative_to(folder)}"


def flip_value(folder: Path, choose: Choice) -> str:
    """A key of a JSON file holds another value, is gone, or is new."""
    file = choose.choice([path for path in list_regular(folder, ".json") if path.name != "tokenizer.json"])
    value = json.loads(file.read_text())
    key = choose.choice([*value, "quantization_config", "rope_scaling", "rope_parameters", "auto_map", "shift_factor", "dtype"])
    how = choose.random()
    if how < 0.15:
        value.pop(key, None)
    else:
        value[key] = choose.choice(list_values(value.get(key)))
    file.write_text(json.dumps(value))
    return f"{file.relative_to(folder)}: {key}={str(value.get(key, 'gone'))[:60]}"


def change_tokenizer(folder: Path, choose: Choice) -> str:
    """A leaf of tokenizer.json, however deep, or a setting of tokenizer_config.json."""
    if choose.random() < 0.4:
        file = folder / "tokenizer" / "tokenizer_config.json"
        key = choose.choice(
            ["add_bos_token", "add_eos_token", "truncation_side", "split_special_tokens", "model_max_length", "padding_side"]
        )
        named = {
            key: choose.choice([True, False, "left", "right", None, 4]),
            "tokenizer_class": choose.choice(["GemmaTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend"]),
        }
        file.write_text(json.dumps(json.loads(file.read_text()) | named))
        return str(named)
    file = folder / "tokenizer" / "tokenizer.json"
    value = json.loads(file.read_text())
    owner: Any = value
    path: list[str | int] = []
    while owner:
        key = choose.choice(list(owner) if isinstance(owner, dict) else list(range(len(owner))))
        path.append(key)
        if not isinstance(owner[key], dict | list) or not owner[key] or choose.random() < 0.2:
            owner[key] = choose.choice(
                [*list_values(owner[key]), {"type": "Lowercase"}, {"type": "Precompiled", "precompiled_charsmap": "AAAA"}]
            )
            break
        owner = owner[key]
    file.write_text(json.dumps(value))
    return f"tokenizer.json {path}"


def change_weights(folder: Path, choose: Choice) -> str:
    """Names, shapes, types and numbers of one tensor, or the file's metadata."""
    path = choose.choice(list_regular(folder, ".safetensors"))
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 safe_open is no dict
    name = choose.choice(sorted(tensors))
    how = choose.choice(["dtype", "number", "drop", "rename", "shape", "extra", "metadata", "twice", "half"])
    metadata: dict[str, str] | None = {"format": "pt"}
    if how == "dtype":
        tensors[name] = tensors[name].to(choose.choice(DTYPES))
    elif how == "number":
        tensors[name].view(-1)[choose.randrange(tensors[name].numel())] = choose.choice(NUMBERS)
    elif how in ("drop", "rename"):
        value = tensors.pop(name)
        tensors |= {name + ".x": value} if how == "rename" else {}
    elif how == "shape":
        tensors[name] = tensors[name].reshape(-1) if choose.random() < 0.5 else tensors[name][:1].clone()
    elif how in ("extra", "twice"):
        tensors["extra" if how == "extra" else f"model.{name}"] = tensors[name].clone()
    elif how == "metadata":
        metadata = choose.choice([None, {}, {"format": "tf"}, {"format": "x"}])
    else:
        tensors = {key: value.to(choose.choice([torch.float16, torch.bfloat16])) for key, value in tensors.items()}
    save_file({key: value.contiguous() for key, value in tensors.items()}, path, metadata)
    return f"{how} {name} of {path.relative_to(folder)}"


def change_text(folder: Path, choose: Choice) -> str:
    """Prompts and model card in other encodings."""
    path = folder / choose.choice(["calibration_prompts.txt", "validation_prompts.txt", "README.md"])
    raw = choose.choice(
        [b"\xff\xfea\x00", b"\xef\xbb\xbfa red circle\n", b"a \xed\xa0\x80", b"", b"\n\n", b"a\x00b\n", "ä 🙂\n".encode()]
    )
    path.write_bytes(raw)
    return f"{path.name} = {raw!r}"


def change_layout(folder: Path, choose: Choice) -> str:
    """Variants, shards, pickles."""
    path = choose.choice(list_regular(folder, ".safetensors"))
    stem, how = path.name.removesuffix(".safetensors"), choose.choice(["variant", "both", "pickle", "shards", "bad shards"])
    if how in ("variant", "both"):
        shutil.copyfile(path, path.with_name(f"{stem}.fp16.safetensors"))
        if how == "variant":
            path.unlink()
    elif how == "pickle":
        torch.save({"x": torch.ones(1)}, path.with_name(f"{stem}.bin"))
        path.unlink()
    else:
        split_weights(path, choose.choice([None, {}, {"total_size": 1}]) if how == "bad shards" else {"total_size": 1})
    return f"{how} of {path.relative_to(folder)}"


def split_weights(path: Path, metadata: dict[str, int] | None) -> None:
    """Two shards and their index in the place of one file."""
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 safe_open is no dict
    stem, names = path.name.removesuffix(".safetensors"), sorted(tensors)
    places: dict[str, str] = {}
    for i, part in enumerate((names[::2], names[1::2]), start=1):
        shard = path.with_name(f"{stem}-0000{i}-of-00002.safetensors")
        save_file({key: tensors[key].contiguous() for key in part}, shard, {"format": "pt"})
        places |= dict.fromkeys(part, shard.name)
    value = {"weight_map": places} | ({} if metadata is None else {"metadata": metadata})
    path.with_name(f"{stem}.safetensors.index.json").write_text(json.dumps(value))
    path.unlink()


MUTATIONS: dict[str, Callable[[Path, Choice], str]] = dict(
    zip(
        KINDS,
        (
            run_code,
            make_link,
            change_type,
            damage_file,
            drop_file,
            flip_value,
            change_tokenizer,
            change_weights,
            change_text,
            change_layout,
        ),
        strict=True,
    )
)


# ---- the campaign


def run(count: int, seed: int, tally: Tally) -> None:
    """Mutate a small student `count` times, every kind as often as the others."""
    with tempfile.TemporaryDirectory() as place:
        base = Path(place) / "base"
        make_pipeline().save_pretrained(base)
        (base / "calibration_prompts.txt").write_text("a red circle\na blue square on the left\n")
        draw_ours(base)  # warms what every fork then has
        draw_theirs(base)
        for i in range(count):
            kind, work = KINDS[i % len(KINDS)], Path(place) / str(i)
            try:
                outcome, sample = attack(kind, Choice(f"{seed} {i}"), base, work)
            finally:
                shutil.rmtree(work, ignore_errors=True)
            tally.add(kind, outcome, f"seed {seed}, number {i}: {sample}")


def attack(kind: str, choose: Choice, base: Path, work: Path) -> tuple[str, str]:
    """Outcome and sample of one mutation."""
    folder = work / "student"
    shutil.copytree(base, folder)
    said = MUTATIONS[kind](folder, choose)
    ended = run_forked(lambda: _draw(draw_ours, folder, work / "ours.npy"), SECONDS)
    outside = was_read(work / "outside")
    if (work / "ran").exists():
        return OUTSIDE, f"{said}: its code ran"
    if outside:
        return OUTSIDE, f"{said}: read {outside}"
    if ended.kind == "clean":
        is_line = "\n" not in ended.text
        return (CLEAN, said) if is_line else (WRONG, f"{said}: not one line: {ended.text}")
    if ended.kind != "returned":
        return ended.kind, f"{said}: {ended.text}"
    return _judge(run_forked(lambda: _draw(draw_theirs, folder, work / "theirs.npy"), SECONDS), said, work)


def _judge(stock: Ended, said: str, work: Path) -> tuple[str, str]:
    if stock.kind != "returned":
        return WRONG, f"{said}: drawn where stock diffusers refuses ({stock.kind}: {stock.text})"
    decibels = compare(np.load(work / "ours.npy"), np.load(work / "theirs.npy"))
    return (RIGHT, said) if decibels >= ENOUGH_DB else (WRONG, f"{said}: {decibels:.1f} dB from stock diffusers")


def _draw(draw: Callable[[Path], Any], folder: Path, to: Path) -> str:
    np.save(to, draw(folder))
    return "drawn"
