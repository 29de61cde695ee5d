"""Templates of pages, filled in by jinja2: every value is escaped, unless a template made it."""

from __future__ import annotations

import math
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from sprint_export.streams import clean_text
from sprint_export.validate.report import format_number

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER = "templates"


def render(template: str, **values: Any) -> Markup:
    """A template of this folder with values in it; a value that it names and does not get is an error."""
    return Markup(_open_environment().get_template(template).render(values))


def read_part(name: str) -> str:
    """The text of a style sheet or a script beside this module."""
    return files(__package__).joinpath(name).read_text("utf-8")


@cache
def _open_environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        autoescape=True,
        loader=FunctionLoader(lambda name: read_part(f"{FOLDER}/{name}")),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"clean": clean, "number": show_number, "brief": show_brief, "pixel": show_pixel}
    return environment


def clean(text: object) -> str:
    """A text of somebody else's: no control characters, none that reorder others, no half of a letter."""
    return clean_text(str(text)).encode("utf-8", "backslashreplace").decode("utf-8")


def show_number(value: float | None) -> str:
    """Four figures that say something; a dash where there is no number."""
    return "\u2013" if value is None or math.isnan(value) else format_number(value).replace("-", "\u2212")


def show_brief(value: float) -> str:
    """Three figures, as many as a part of a whole needs."""
    return show_number(value if not math.isfinite(value) or abs(value) >= 1000 else float(f"{value:.3g}"))


def show_pixel(value: float) -> str:
    """A place in a picture, to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")
