"""Pictures as the jobs of jobs.js take and give them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[Any]


def give_pixels(rgb: Array) -> dict[str, Any]:
    """uint8 [H, W, 3 or 4] as pixels."""
    height, width, _ = rgb.shape
    return {"data": encode_bytes(rgb), "width": width, "height": height}


def give_png(rgb: Array) -> dict[str, Any]:
    """uint8 [H, W, 3] as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "png")
    return {"png": base64.b64encode(buffer.getvalue()).decode()}


def encode_bytes(values: Array) -> str:
    """Bytes as text."""
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def read_value(result: Mapping[str, Any]) -> Any:
    """What a job gave."""
    assert "value" in result, result
    return result["value"]


def read_picture(drawn: Mapping[str, Any]) -> Array:
    """int [H, W, 3] of what a draw gave."""
    rgba = np.frombuffer(base64.b64decode(drawn["rgba"]), np.uint8).reshape(drawn["height"], drawn["width"], 4)
    return rgba[..., :3].astype(int)
