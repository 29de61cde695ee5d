"""A command made of a table of options: how each kind is spelt, what its function is given, what its help says."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from sprint_export.cli import signature
from sprint_export.cli.screen import Verbosity
from sprint_export.cli.signature import make_signature, takes_options
from sprint_export.nouns.option import Option

OPTIONS = (
    Option("student", "Which.", default="tiny"),
    Option("out", "Where.", Path),
    Option("max_mb", "How much.", float, panel="Limits"),
    Option("gates", "What must hold.", flags=("--gate",), metavar="DEMAND", is_repeated=True),
    Option("dynamic", "Any size.", bool, False),
    Option("prefix_cache", "Compute it.", bool, True, flags=("--no-prefix-cache",)),
)
DEFAULTS = {"student": "tiny", "out": None, "max_mb": None, "gates": None, "dynamic": False, "prefix_cache": True}


def call(*arguments: str) -> tuple[dict[str, Any], str]:
    """What a command's function was given, and what the command printed."""
    given: dict[str, Any] = {}
    app = typer.Typer()

    @app.command()
    @takes_options(*OPTIONS)
    def make(place: str, **values: Any) -> None:
        given.update(values, place=place)

    printed = CliRunner().invoke(app, arguments, env={"COLUMNS": "120"})
    assert printed.exit_code == 0, printed.output
    return given, printed.output


@pytest.mark.parametrize(
    ("flags", "changed"),
    [
        ("", {}),
        ("--student other --out x/y", {"student": "other", "out": Path("x/y")}),
        ("--max-mb 2.5", {"max_mb": 2.5}),
        ("--gate a>=1 --gate b<=2", {"gates": ["a>=1", "b<=2"]}),
        ("--dynamic --no-prefix-cache", {"dynamic": True, "prefix_cache": False}),
    ],
)
def test_each_kind_of_option_reaches_the_function(flags: str, changed: dict[str, Any]) -> None:
    assert call("here", *flags.split())[0] == {"place": "here", **DEFAULTS, **changed}


def test_help_says_what_the_table_says() -> None:
    said = call("--help")[1]
    for words in ("Which.", "[default: tiny]", "--max-mb", "Limits", "DEMAND", "--no-prefix-cache", "--quiet"):
        assert words in said
    assert "True" not in said, "a flag that turns something off has no default to show"


def test_quiet_and_verbose_are_heeded_and_kept_from_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    verbosity = Verbosity()
    monkeypatch.setattr(signature, "verbosity", verbosity)
    assert "quiet" not in call("here", "-q", "--verbose")[0]
    assert verbosity == Verbosity(is_quiet=True, is_verbose=True)


def test_a_function_keeps_its_own_parameters_first() -> None:
    def make(place: str, **values: Any) -> None: ...

    assert list(make_signature(make, OPTIONS).parameters) == ["place", *DEFAULTS]
    assert make_signature(make, OPTIONS).parameters["place"].annotation is str
    assert make_signature(make, OPTIONS).parameters["out"].kind is inspect.Parameter.KEYWORD_ONLY
