"""JSON that means one thing, and a hash of what it means."""

from __future__ import annotations

import json
import time

import pytest

from sprint_export.strict_json import hash_json, parse_json

BAD = {
    "NaN": (b'{"a": NaN}', "NaN is no number"),
    "infinity": (b"[-Infinity]", "-Infinity is no number"),
    "a float that overflows": (b"1e400", "the number 1e400... is beyond what 64 bits hold"),
    "ten to the 400": (b"1" + b"0" * 400, "has 401 digits, more than 64 bits hold"),
    "a million digits": (b"9" * 1_000_000, "more than 64 bits hold"),
    "two to the 63": (str(2**63).encode(), "more than 64 bits hold"),
    "a key twice": (b'{"a": 1, "b": {"c": 1, "c": 1}}', "the key 'c' stands there twice"),
    "depth": (b"[" * 100_000, "it is nested too deep"),
    "depth of objects": (b'{"a":' * 100_000, "it is nested too deep"),
    "depth that Python reads and cannot print": (b"[" * 900 + b"]" * 900, "it is nested too deep"),
    "depth of both": (b'[{"a": ' * 33 + b"1" + b"}]" * 33, "it is nested too deep"),
    "not UTF-8": (b'{"a": "\xff"}', "invalid start byte"),
    "another encoding": ('{"a": 1}'.encode("utf-16"), "codec can't decode"),
    "nothing": (b"", "Expecting value"),
    "more": (b"{} {}", "Extra data"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_means_nothing_or_two_things_is_an_error(case: str) -> None:
    data, part = BAD[case]
    start = time.monotonic()
    with pytest.raises(ValueError, match="") as caught:
        parse_json(data)
    assert part in str(caught.value)
    assert time.monotonic() - start < 5


def test_what_this_package_could_write_is_not_too_deep() -> None:
    assert str(parse_json(b'[{"a": ' * 32 + b"1" + b"}]" * 32)).count("a") == 32


def test_values_survive() -> None:
    value = {"a": [1, -(2**63), 2**63 - 1, 0.1 + 0.2, 5e-324, -0.0, True, None, "ü\n\ud83d\ude42"], "b": {}}
    assert parse_json(json.dumps(value).encode()) == json.loads(json.dumps(value))


def test_a_hash_is_of_the_value_and_not_of_its_layout() -> None:
    value = {"b": [1, 2.5, "ü"], "a": {"d": None, "c": True}}
    again = parse_json(json.dumps(dict(reversed(value.items())), indent=4, ensure_ascii=False).encode())
    assert hash_json(value) == hash_json(again)
    assert hash_json(value | {"a": {}}) != hash_json(value)
    with pytest.raises(ValueError, match="not JSON compliant"):
        hash_json({"a": float("nan")})
