"""A whole page in one file: sections under a head, with the style sheet and the script that all pages share.

The page's own policy (CSP) lets nothing in: no request, no frame, no form; of styles and scripts only the two that are in it, by
their sha256, so that what is in a text cannot run even where escaping failed. Pictures are in the page (data:).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sprint_export import __version__
from sprint_export.validate.page.templates import read_part, render


@dataclass(frozen=True)
class Section:
    """One part of a page: `id` is its anchor, `lead` a sentence under its heading."""

    id: str
    title: str
    body: Markup
    lead: str = ""


def render_document(title: str, head: Markup, sections: Sequence[Section], is_listed: bool = True) -> str:
    """The text of an HTML file.

    Args:
        title: of the window, as plain text.
        head: stands above the sections; holds the page's h1.
        sections: in order.
        is_listed: a list of the sections stands under the head.
    """
    style, script = Markup(read_part("style.css")), Markup(read_part("script.js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src {_sign(style)}; script-src {_sign(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    values = {"title": title, "head": head, "sections": sections, "is_listed": is_listed, "version": __version__}
    return str(render("document.html", policy=policy, style=style, script=script, **values))


def _sign(text: str) -> str:
    """What a policy calls an inline style or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
