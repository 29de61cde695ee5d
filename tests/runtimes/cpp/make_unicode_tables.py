"""Writes the C++ library's Unicode tables, runtimes/cpp/src/unicode_*.inc, from Python's own unicodedata and str.lower().

    python -m tests.runtimes.cpp.make_unicode_tables

What unicodedata does not say is asked of str.lower(): which characters it takes for cased, and which it skips, where it chooses
between the two small sigmas (Unicode 3.13, Final_Sigma).
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tests.tree import ROOT

FOLDER = ROOT / "runtimes" / "cpp" / "src"
CODES = [code for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
HANGUL = range(0xAC00, 0xAC00 + 11172)  # composed and taken apart by arithmetic
SPACES = [*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000]  # White_Space
# Other_Alphabetic among symbols
CIRCLED = [*range(0x24B6, 0x24EA), *range(0x1F130, 0x1F14A), *range(0x1F150, 0x1F16A), *range(0x1F170, 0x1F18A)]
JOINERS = [0x200C, 0x200D]  # Join_Control
WIDTH = 152
Rows = list[tuple[int, ...]]


def is_ended_by(text: str) -> bool:
    """Whether a capital sigma behind this text is the last letter of a word."""
    return (text + "Σ").lower().endswith("ς")


def is_skipped(code: int) -> bool:
    """Whether the search for a cased letter goes on behind this character (Case_Ignorable)."""
    return is_ended_by("A" + chr(code)) and not is_ended_by(chr(code))


def of_category(*categories: str) -> Callable[[int], bool]:
    """Whether a character is of one of these general categories, given as beginnings of their names."""
    return lambda code: unicodedata.category(chr(code)).startswith(categories)


def is_word(code: int) -> bool:
    r"""Whether `\w` means it (UTS 18, annex C): alphabetic, marks, decimal digits, connecting punctuation, joiners."""
    return of_category("L", "M", "Nd", "Nl", "Pc")(code) or code in CIRCLED or code in JOINERS


def list_ranges(codes: Iterable[int]) -> Rows:
    """(first, last) of runs of codes, which are sorted."""
    rows: list[list[int]] = []
    for code in codes:
        if rows and rows[-1][1] == code - 1:
            rows[-1][1] = code
        else:
            rows.append([code, code])
    return [tuple(row) for row in rows]


def list_lower() -> Rows:
    """(first, last, step, added) of runs of characters whose lower case is one other character."""
    rows: list[list[int]] = []
    for code in CODES:
        lower = chr(code).lower()
        if len(lower) > 1 or ord(lower) == code:
            continue
        added, last = ord(lower) - code, rows[-1] if rows else [0, 0, 0, 0]
        step = code - last[1]
        if rows and added == last[3] and step <= 2 and last[2] in (0, step):
            last[1], last[2] = code, step
        else:
            rows.append([code, code, 0, added])
    return [(first, last, max(step, 1), added) for first, last, step, added in rows]


def list_classes() -> Rows:
    """(first, last, canonical combining class) of runs of characters that combine."""
    rows: Rows = []
    for code in CODES:
        kind = unicodedata.combining(chr(code))
        if kind and rows and rows[-1][1:] == (code - 1, kind):
            rows[-1] = (rows[-1][0], code, kind)
        elif kind:
            rows.append((code, code, kind))
    return rows


def list_decompositions() -> Rows:
    """(character, first, second or 0, whether the two are composed again) of canonical decompositions."""
    rows: Rows = []
    for code in CODES:
        said = unicodedata.decomposition(chr(code))
        if said and not said.startswith("<") and code not in HANGUL:
            parts = [int(part, 16) for part in said.split()]
            is_composed = unicodedata.normalize("NFC", chr(code)) == chr(code)
            rows.append((code, parts[0], parts[1] if len(parts) == 2 else 0, int(is_composed)))
    return rows


def write_table(kind: str, name: str, rows: Rows) -> Iterator[str]:
    """Lines of one C++ array."""
    yield f"constexpr {kind} {name}[] = {{"
    line = ""
    for row in rows:
        entry = "{" + ",".join(f"0x{value:X}" if value >= 10 else str(value) for value in row) + "},"
        if len(line) + len(entry) > WIDTH:
            yield line
            line = ""
        line += entry
    yield line
    yield "};"


def make_tables() -> dict[str, str]:
    """File name -> text."""

    def ranges(name: str, holds: Callable[[int], bool]) -> Iterator[str]:
        return write_table("Range", name, list_ranges(filter(holds, CODES)))

    head = f"// Written by tests/runtimes/cpp/make_unicode_tables.py from Unicode {unicodedata.unidata_version}; do not edit."
    case = [
        head,
        *write_table("LowerCase", "LOWER_CASES", list_lower()),
        *ranges("CASED", lambda code: is_ended_by(chr(code))),
        *ranges("CASE_IGNORABLE", is_skipped),
        *ranges("LETTERS", of_category("L")),
        *ranges("NUMBERS", of_category("N")),
        *ranges("WORD_CHARACTERS", is_word),
        *ranges("SPACES", SPACES.__contains__),
    ]
    forms = [
        head,
        *write_table("CombiningClass", "COMBINING_CLASSES", list_classes()),
        *write_table("Decomposition", "DECOMPOSITIONS", list_decompositions()),
    ]
    return {"unicode_characters.inc": "\n".join(case) + "\n", "unicode_forms.inc": "\n".join(forms) + "\n"}


if __name__ == "__main__":
    for file, text in make_tables().items():
        Path(FOLDER / file).write_text(text, "utf-8")
