"""Ways to alter one file that somebody else wrote: values of its JSON, its text, its bytes, what kind of file it is.

A mutation takes the file, a seeded random.Random and a folder outside with a secret in it, and says what it did in a few words.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

MARK = "<script>alert(7)</script>"  # which no page may hold as it is
NUMBERS: tuple[Any, ...] = (0, -1, 1, 3, 2**31, 2**62, 1e308, -1e308, 5e-324, -0.0, 0.5, 1e-30, 2**64, 10**400, float("nan"))
NUMBERS += (float("inf"), True, None, "1", "inf", [], {})
TEXTS: tuple[Any, ...] = (MARK, '"><img src=x onerror=alert(7)>', "\x1b[2J\x07", "[/]", "[red]x", "{0} {{ x }} %s", "\ud800", "")
TEXTS += ("x" * 5000, "../../secret", "/dev/zero", "a\0b", "\u2028", "\u202e", "C:\\x", "NaN", "\n", "é" * 100, 5, None, [], {})
LISTS: tuple[Any, ...] = ([], None, {}, [[]], ["x"], [None], {"x": []}, "x", 0)
DEEP = 100_000

Mutation = Callable[[Path, Random, Path], str]


def choose_place(value: Any, rng: Random) -> tuple[Any, Any, str]:
    """A container within a JSON value, a key of it, and where it is: long branches (layers) are no likelier than short ones.

    An empty value has none: container None.
    """
    container, where = value, ""
    if not isinstance(value, dict | list) or not value:
        return None, None, where
    while True:
        key = rng.choice(list(container) if isinstance(container, dict) else range(len(container)))
        where += f".{key}"
        inner = container[key]
        if not isinstance(inner, dict | list) or not inner or rng.random() < 0.15:
            return container, key, where
        container = inner


def alter_value(value: Any, rng: Random) -> str:
    """One field becomes another value, goes, comes under another name, or stands many times."""
    container, key, where = choose_place(value, rng)
    if container is None:
        return "nothing to alter"
    old, how = container[key], rng.random()
    if how < 0.12:
        del container[key]
        return f"{where} is gone"
    if how < 0.2 and isinstance(container, dict):
        name = rng.choice([each for each in TEXTS if isinstance(each, str)])
        container[name] = old
        return f"{where} as {name[:40]!r} too"
    if isinstance(old, list) and old and how < 0.5:
        container[key] = rng.choice([old * 1000, list(reversed(old)), old[1:], [*old, old[0]]])
        return f"{where} is a list of {len(container[key])}"
    container[key] = choose_value(old, rng)
    return f"{where} = {repr(container[key])[:60]}"


def choose_value(old: Any, rng: Random) -> Any:
    """Something else than `old`, often of its own type."""
    if rng.random() < 0.15:
        return rng.choice([*NUMBERS, *TEXTS, *LISTS])
    if isinstance(old, bool):
        return rng.choice([not old, None, 1, "true"])
    if isinstance(old, int | float):
        return rng.choice([*NUMBERS, old + 1, -old, old * 1e6, old / 2, float(old)])
    if isinstance(old, str):
        return rng.choice([*TEXTS, old + "x", old[:-1], old.upper(), " " + old])
    return rng.choice([*NUMBERS, *TEXTS] if old is None else LISTS)


def edit_json(path: Path, rng: Random, outside: Path) -> str:
    """One to three fields of a JSON file, or of one line of JSON lines."""
    lines = path.read_text("utf-8").splitlines() if path.suffix == ".jsonl" else [path.read_text("utf-8")]
    place = rng.randrange(len(lines))
    value = json.loads(lines[place])
    said = [alter_value(value, rng) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
    lines[place] = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    path.write_text("\n".join(lines), "utf-8", errors="surrogatepass")
    return f"{path.name}: {'; '.join(said)}"


def edit_text(path: Path, rng: Random, outside: Path) -> str:
    """Text that no writer of JSON makes: keys twice, numbers without end, nesting without end, other encodings."""
    text = path.read_text("utf-8")
    first = text.find(":") + 1
    forms: dict[str, bytes] = {
        "deep list": b"[" * DEEP,
        "deep object": b'{"a":' * DEEP,
        "deep within": (text[:first] + "[" * DEEP).encode(),
        "long number": (text[:first] + "9" * 10_000 + text[first:]).encode(),
        "twice": (text + text).encode(),
        "a key twice": text.replace("{", '{"identity": "x", "identity": "y", "prompt": 1, ', 1).encode(),
        "null": b"null",
        "a number": b"1",
        "a text": b'"x"',
        "empty": b"",
        "blank": b" \n\n",
        "UTF-16": text.encode("utf-16"),
        "byte order mark": b"\xef\xbb\xbf" + text.encode(),
        "Latin-1": text.encode() + b"\xe9",
        "NaN": text.replace("0", "NaN", 1).encode(),
        "Infinity": text.replace("1", "-Infinity", 1).encode(),
        "zeros": bytes(len(text)),
        "long": text.encode() + b" " * 20_000_000,
        "comment": b"// x\n" + text.encode(),
    }
    name = rng.choice(sorted(forms))
    path.write_bytes(forms[name])
    return f"{path.name}: {name}"


def edit_bytes(path: Path, rng: Random, outside: Path) -> str:
    """Bits, cuts, zeros, noise."""
    data = bytearray(path.read_bytes())
    start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    how = rng.choice(["bits", "cut", "zeros", "noise", "piece twice", "longer"])
    if how == "bits" and data:
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif how == "cut":
        del data[start:]
    elif how == "zeros":
        data[start:end] = bytes(end - start)
    elif how == "noise":
        data[start : start + 16] = rng.randbytes(16)
    elif how == "piece twice":
        data[end:end] = data[start:end]
    else:
        data += rng.randbytes(rng.randrange(1, 100))
    path.write_bytes(data)
    return f"{path.name}: {how} at {start}, {end} of {len(data)}"


def change_kind(path: Path, rng: Random, outside: Path) -> str:
    """A FIFO, a folder, a device, a link, or nothing in the file's place."""
    kind = rng.choice(
        ["secret", "/dev/zero", "/dev/random", "/dev/stdin", "loop", "dangling", "fifo", "folder", "none", "locked"]
    )
    content = path.read_bytes()
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "locked":
        path.write_bytes(content)
        path.chmod(0)
    elif kind != "none":
        path.symlink_to({"secret": outside / "secret", "loop": path, "dangling": outside / "nothing"}.get(kind, Path(kind)))
    return f"{path.name} is {kind}"


JSON_MUTATIONS: tuple[tuple[Mutation, int], ...] = ((edit_json, 10), (edit_text, 3), (edit_bytes, 2), (change_kind, 1))
OTHER_MUTATIONS: tuple[tuple[Mutation, int], ...] = ((edit_bytes, 6), (change_kind, 1))


def alter_file(path: Path, rng: Random, outside: Path) -> tuple[str, str]:
    """Alter a file by its suffix; (the mutation's name, what it did)."""
    known = JSON_MUTATIONS if path.suffix in (".json", ".jsonl") else OTHER_MUTATIONS
    mutate = rng.choices([each for each, _ in known], [weight for _, weight in known])[0]
    return mutate.__name__.replace("_", " "), mutate(path, rng, outside)
