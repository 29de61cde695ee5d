"""Ways to alter a bundle: accidents of disks and copies, edits of the manifest, either signed again, and links for files.

A mutation takes a folder that is its own to spoil, a seeded random.Random and an outside folder with a secret in it; it returns
what it did in a few words.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from tests.attack.file_mutations import choose_place

MANIFEST = "bundle.json"
NUMBERS: tuple[Any, ...] = (0, 1, -1, 2, 3, 7, 300000, 2**31, 2**40, 2**63, 10**400, 1e308, -0.0, 0.5, 1e-30, float("nan"))
NUMBERS += (float("inf"), True, None, "1", [])
TEXTS: tuple[Any, ...] = (
    "",
    "x",
    "fp32",
    "int8",
    "w4",
    "onnx",
    "openvino",
    "coreml",
    "transformer",
    "float16",
    "int64",
    "../secret",
)
TEXTS += (
    "/etc/hostname",
    "a\0b",
    "\ud800",
    "\x1b[2J",
    "x" * 5000,
    "C:\\x",
    "a/../b",
    "neural-engine",
    "height",
    "³*height",
    5,
    None,
    {},
)
LISTS: tuple[Any, ...] = ([], None, {}, [[]], ["x"], [1, 2, 3], [None])

Mutation = Callable[[Path, Random, Path], str]


def list_files(folder: Path) -> list[Path]:
    """All files, in one order."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def choose_file(folder: Path, rng: Random) -> Path:
    """The manifest every third time, else any file."""
    return folder / MANIFEST if rng.random() < 0.35 else rng.choice(list_files(folder))


def flip_bit(folder: Path, rng: Random, outside: Path) -> str:
    path = choose_file(folder, rng)
    data = bytearray(path.read_bytes())
    place, bit = rng.randrange(max(len(data), 1)), rng.randrange(8)
    if data:
        data[place] ^= 1 << bit
    path.write_bytes(data)
    return f"bit {bit} of byte {place} of {path.relative_to(folder)}"


def change_digit(folder: Path, rng: Random, outside: Path) -> str:
    path = folder / MANIFEST
    data = bytearray(path.read_bytes())
    place = rng.choice([i for i, byte in enumerate(data) if 48 <= byte <= 57])
    data[place] = 48 + (data[place] - 48 + rng.randrange(1, 10)) % 10
    path.write_bytes(data)
    return f"digit at {place} of the manifest"


def truncate(folder: Path, rng: Random, outside: Path) -> str:
    path = choose_file(folder, rng)
    data = path.read_bytes()
    size = rng.choice([0, len(data) // 2, max(len(data) - 1, 0), rng.randrange(len(data) + 1)])
    path.write_bytes(data[:size])
    return f"{path.relative_to(folder)} cut to {size}"


def lengthen(folder: Path, rng: Random, outside: Path) -> str:
    path = choose_file(folder, rng)
    path.write_bytes(path.read_bytes() + rng.randbytes(rng.randrange(1, 100)))
    return f"{path.relative_to(folder)} longer"


def zero_range(folder: Path, rng: Random, outside: Path) -> str:
    path = choose_file(folder, rng)
    data = bytearray(path.read_bytes())
    start = rng.randrange(max(len(data), 1))
    end = min(len(data), start + rng.choice([1, 64, 4096, len(data)]))
    data[start:end] = bytes(end - start)
    path.write_bytes(data)
    return f"{path.relative_to(folder)}[{start}:{end}] zero"


def scramble_range(folder: Path, rng: Random, outside: Path) -> str:
    path = choose_file(folder, rng)
    data = bytearray(path.read_bytes())
    start = rng.randrange(max(len(data), 1))
    end = min(len(data), start + rng.randrange(1, 64))
    data[start:end] = rng.randbytes(end - start)
    path.write_bytes(data)
    return f"{path.relative_to(folder)}[{start}:{end}] random"


def swap_files(folder: Path, rng: Random, outside: Path) -> str:
    one, two = rng.sample(list_files(folder), 2)
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    return f"{one.relative_to(folder)} and {two.relative_to(folder)} swapped"


def remove_file(folder: Path, rng: Random, outside: Path) -> str:
    path = choose_file(folder, rng)
    path.unlink()
    return f"{path.relative_to(folder)} removed"


ACCIDENTS: tuple[Mutation, ...] = (
    flip_bit,
    flip_bit,
    change_digit,
    truncate,
    lengthen,
    zero_range,
    scramble_range,
    swap_files,
    remove_file,
)


def edit_field(folder: Path, rng: Random, outside: Path) -> str:
    """One field of the manifest becomes another value, goes, comes twice, or stands many times."""
    path = folder / MANIFEST
    value = json.loads(path.read_text("utf-8"))
    container, key, where = choose_place(value, rng)
    old = container[key]
    if rng.random() < 0.12:
        del container[key]
        done = "removed"
    elif isinstance(old, list) and old and rng.random() < 0.5:
        times = rng.choice([2, 300, 1500])
        container[key] = rng.choice([old * times, list(reversed(old)), old[1:], [*old, old[0]]])
        done = f"a list of {len(container[key])}"
    else:
        container[key] = _choose_value(old, rng)
        done = repr(container[key])[:60]
    path.write_text(_dump(value), "utf-8", errors="surrogatepass")
    return f"{where} = {done}"


def _choose_value(old: Any, rng: Random) -> Any:
    if isinstance(old, bool):
        return rng.choice([not old, None, 1, "true"])
    if isinstance(old, int | float):
        return rng.choice([*NUMBERS, old + 1, old - 1, old * 2, -old, old / 2, float(old)])
    if isinstance(old, str):
        return rng.choice([*TEXTS, old + "x", old[:-1], old.upper(), old + "\n", " " + old])
    if old is None:
        return rng.choice([*NUMBERS, *TEXTS])
    return rng.choice(LISTS)


def _dump(value: Any) -> str:
    return json.dumps(value, indent=1)


def sign(folder: Path) -> None:
    """Make every hash and size fit again, as one who means harm would; what is there is described as it is.

    An `app.json` that was not altered would now say something else than the manifest: it is named no more.
    """
    path = folder / MANIFEST
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return
    if not isinstance(value, dict):
        return
    listed = value.get("artifacts") if isinstance(value.get("artifacts"), list) else []
    value |= {"artifacts": [each for each in listed if not _is_whole_app(folder, each)]} if listed else {}
    for artifact in value.get("artifacts") or [] if listed else []:
        try:
            data = _read_file(folder / artifact["path"])
            artifact["bytes"], artifact["sha256"] = len(data), hashlib.sha256(data).hexdigest()
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            continue  # no file by that name: the field stays as it was edited
    value.pop("sha256", None)
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    value["sha256"] = hashlib.sha256(canonical.encode("ascii")).hexdigest()
    path.write_text(_dump(value), "utf-8")


def _read_file(path: Path) -> bytes:
    """Of a regular file: a FIFO is never read to its end, and what a link leads to is not the bundle's."""
    if path.is_symlink() or not path.is_file():
        raise FileNotFoundError(path)
    return path.read_bytes()


def _is_whole_app(folder: Path, artifact: Any) -> bool:
    """Whether an entry of the manifest names `app.json` as it was."""
    try:
        data = (folder / "app.json").read_bytes()
        return bool(artifact["path"] == "app.json" and artifact["sha256"] == hashlib.sha256(data).hexdigest())
    except (OSError, TypeError, KeyError, IndexError):
        return False


def put_link(folder: Path, rng: Random, outside: Path) -> str:
    """A link, a FIFO or a folder where a file was; links lead to a copy outside, to a secret, to devices, to themselves."""
    path = choose_file(folder, rng)
    kind = rng.choice(["copy", "secret", "/dev/zero", "/dev/random", "loop", "dangling", "fifo", "folder", "parent", "inside"])
    name = path.relative_to(folder)
    if kind == "parent" and path.parent != folder:
        kept = outside / "parent"
        shutil.rmtree(kept, ignore_errors=True)
        shutil.move(path.parent, kept)
        path.parent.symlink_to(kept)
        return f"{name.parent} is a link to a copy outside"
    content = path.read_bytes()
    path.unlink()
    if kind in ("copy", "parent"):
        kept = outside / "copy"
        kept.write_bytes(content)
        path.symlink_to(kept)
    elif kind == "inside":
        kept = folder / "kept"
        kept.write_bytes(content)
        path.symlink_to(kept)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to({"secret": outside / "secret", "loop": path, "dangling": outside / "nothing"}.get(kind, Path(kind)))
    return f"{name} is {kind}"


def put_beside(folder: Path, rng: Random, outside: Path) -> str:
    """A link or FIFO that the manifest does not name, under a name that a reader may look for."""
    names = ("quantization.safetensors", "model.onnx.data", "openvino_model.bin", "config.json", "x", "weights/weight.bin")
    role = rng.choice(["text_encoder", "transformer", "vae_decoder", "tokenizer", "."])
    path = folder / role / rng.choice([*names, "frontier.json", "tokenizer.model", "added_tokens.json", "model.shadow.onnx"])
    path.parent.mkdir(exist_ok=True, parents=True)
    path.unlink(missing_ok=True)
    kind = rng.choice(["secret", "/dev/zero", "fifo"])
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(outside / "secret" if kind == "secret" else Path(kind))
    return f"{path.relative_to(folder)} is {kind}, if the manifest names it or not"


LINKS: tuple[Mutation, ...] = (put_link, put_link, put_beside)
