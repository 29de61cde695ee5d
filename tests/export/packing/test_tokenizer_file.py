"""A shorter JSON means the same, number by number and letter by letter."""

from __future__ import annotations

import pytest

from sprint_export.export.packing.tokenizer_file import shorten_json


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ('{ "a" : [ 1 , 2.50, -0.0, 1e-07 ],\n  "b c": null }\n', '{"a":[1,2.50,-0.0,1e-07],"b c":null}'),
        (r'{"a \" , b" : "\\" , "tab\t": "  "}', r'{"a \" , b":"\\","tab\t":"  "}'),
        ('["\u2581 \u00e4", "\\ud83d\\ude00" ]', '["\u2581 \u00e4","\\ud83d\\ude00"]'),
        ("[ 0.1000000000000000055511151231257827 ]", "[0.1000000000000000055511151231257827]"),
        (" true ", "true"),
    ],
)
def test_spaces_go_and_everything_else_stays_as_it_is_spelt(text: str, short: str) -> None:
    assert shorten_json(text.encode()) == short.encode()


@pytest.mark.parametrize("text", ['{"a": ', "[1 2]", "not json"])
def test_what_is_no_json_is_left_as_it_is(text: str) -> None:
    assert shorten_json(text.encode()) == text.encode()
