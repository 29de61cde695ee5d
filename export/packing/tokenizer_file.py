"""A `tokenizer.json` without the spaces between its values: every number and text stays byte for byte, so it means the same.

Reading and writing the JSON anew would not do: another spelling of a number may be another number to another reader.
"""

from __future__ import annotations

import json
import re
from typing import Any

_PIECE = re.compile(rb'"(?:[^"\\]|\\.)*"|[ \t\r\n]+|[^" \t\r\n]+', re.DOTALL)  # a text, spaces, or anything else


def shorten_json(data: bytes) -> bytes:
    """JSON without spaces between its values; unchanged where what is left would not mean the same."""
    short = b"".join(piece for piece in _PIECE.findall(data) if not piece.isspace() or piece.startswith(b'"'))
    try:
        is_same = _read(short) == _read(data)
    except (ValueError, RecursionError):
        return data
    return short if is_same else data


def _read(data: bytes) -> Any:
    """The value, objects as lists of pairs and numbers as they are spelt: order, repeated keys and spelling count."""
    return json.loads(data, object_pairs_hook=lambda pairs: ("object", pairs), parse_float=str, parse_int=str)
