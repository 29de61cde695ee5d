"""Write tests/noise_known_answers.json anew: what a port of the noise (src/sprint_export/noise.py) is held against.

    python tests/make_noise_answers.py

`philox` is Random123's own (kat_vectors of its release 1.14.0), copied by hand; the rest is what this package makes. Floats stand
as the float32's bits, so that no reader rounds them on the way.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from sprint_export.noise import find_quantile, make_normals

FILE = Path(__file__).with_name("noise_known_answers.json")
PHILOX = (
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
)
SEEDS = (0, 1, 3, 2**32 - 1, 2**32, 2**53 - 1, 2**64 - 1)
COUNT = 262_144  # values of 16 pictures at 1024 px
WORDS = (0, 1, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1, 322122546, 322122547, 3972844748, 3972844749)  # ends, middle, u near 0.075


def list_answers() -> dict[str, Any]:
    """What the file holds."""
    quantiles = _show(find_quantile((np.array(WORDS, np.float64) + 0.5) / 2.0**32).astype(np.float32))
    return {
        "philox": [{"counter": counter, "key": key, "words": words} for counter, key, words in PHILOX],
        "quantile": [{"word": word, "bits": bits} for word, bits in zip(WORDS, quantiles, strict=True)],
        "streams": [
            {"seed": str(seed), "first": _show(values[:8]), "last": _show(values[-4:]), "count": COUNT, "sha256": _hash(values)}
            for seed, values in ((seed, make_normals(seed, COUNT)) for seed in SEEDS)
        ],
    }


def _show(values: Any) -> list[str]:
    return [f"{bits:08x}" for bits in values.view(np.uint32).tolist()]


def _hash(values: Any) -> str:
    """sha256 of little-endian float32."""
    return hashlib.sha256(values.astype("<f4").tobytes()).hexdigest()


if __name__ == "__main__":
    FILE.write_text(json.dumps(list_answers(), indent=1) + "\n", "utf-8")
