"""A request for pictures, read from JSON: checked against the bundle before it waits for its turn.

As OpenAI's `/v1/images/generations`: prompt, model, n, size, response_format, user; beside them `seed` and `steps`. What a
distilled student has no choice of (quality, style, background, ...) may be "auto"; a value that asks for something is refused.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sprint_export.errors import SprintExportError
from sprint_export.server.refusals import RefusalError, refuse_value
from sprint_export.server.settings import Settings

if TYPE_CHECKING:
    from sprint_export.session import Pipeline

KNOWN = ("prompt", "model", "n", "size", "response_format", "seed", "steps", "user", "output_format", "stream")
WITHOUT_CHOICE = ("quality", "style", "background", "moderation", "output_compression", "partial_images")
NO_CHOICE = (None, "auto", "standard", "opaque")  # what these may be: what is done anyway
MOST_SEED = 1 << 53  # whole in every client's JSON
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")


@dataclass(frozen=True)
class PictureRequest:
    """What one request asks for; picture i of `count` uses seed + i. `height` and `width` in pixels, None: the student's own."""

    prompt: str
    count: int
    seed: int
    steps: int
    height: int | None = None
    width: int | None = None


def read_request(body: bytes, model: str, pipeline: Pipeline, settings: Settings) -> PictureRequest:
    """The request that a body holds.

    Args:
        body: JSON.
        model: what this server's bundle is called.
        pipeline: it reads the prompt and knows sizes and step counts; nothing is drawn.
        settings: how much is allowed.

    Raises:
        RefusalError: it is no such request, or the bundle cannot draw it.
    """
    values = _read_object(body)
    check_model(values.get("model"), model)
    prompt = _read_prompt(values, settings.most_letters)
    steps = _read_number(values, "steps", pipeline.plan.steps, 1, 1000)
    seed = _read_number(values, "seed", secrets.randbelow(MOST_SEED), 0, MOST_SEED)
    count = _read_number(values, "n", 1, 1, settings.most_pictures)
    size = _read_size(values.get("size"))
    try:
        pipeline.plan.rows(steps)
        pipeline.check(1, **size)
        pipeline.reader.read([prompt])
    except SprintExportError as error:
        raise RefusalError(400, str(error), code="invalid_value") from error
    return PictureRequest(prompt, count, seed, steps, **size)


def _read_object(body: bytes) -> Mapping[str, Any]:
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusalError(400, f"the body is no JSON ({error}); expected an object", code="invalid_json") from error
    if not isinstance(values, dict):
        raise RefusalError(400, f"the body is a JSON {type(values).__name__}; expected an object", code="invalid_json")
    for name, value in values.items():
        if name in WITHOUT_CHOICE and value not in NO_CHOICE:
            raise refuse_value(name, value, "no choice: this model draws in one way; leave it out")
        if name not in KNOWN and name not in WITHOUT_CHOICE:
            message = f"unknown parameter {name[:80]!r}; choose from: {', '.join(KNOWN)}"
            raise RefusalError(400, message, name[:80], "unknown_parameter")
    for name, only in (("response_format", "b64_json"), ("output_format", "png")):
        if values.get(name) not in (None, only):
            raise refuse_value(name, values[name], f"{only!r}: pictures stand in the answer and are kept nowhere")
    if values.get("stream"):
        raise refuse_value("stream", values["stream"], "false: a picture comes whole")
    return values


def check_model(found: Any, model: str) -> None:
    """Refuse another model's name with 404; None is fine."""
    if found is not None and found != model:
        message = f"the model {str(found)[:80]!r} does not exist here; this server has {model!r}"
        raise RefusalError(404, message, "model", "model_not_found")


def _read_prompt(values: Mapping[str, Any], most: int) -> str:
    prompt = values.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise refuse_value("prompt", prompt, "a text that is not empty")
    if len(prompt) > most:
        message = f"the prompt has {len(prompt)} letters, expected at most {most}"
        raise RefusalError(400, message, "prompt", "string_above_max_length")
    return prompt


def _read_number(values: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    value = values.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise refuse_value(name, value, f"a whole number from {least} to {most}")
    return value


def _read_size(value: Any) -> dict[str, int]:
    """Height and width; nothing where the student's own will do."""
    if value in (None, "auto"):
        return {}
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise refuse_value("size", value, "'auto' or width x height, e.g. '1024x1024'")
    return {"width": int(match[1]), "height": int(match[2])}
