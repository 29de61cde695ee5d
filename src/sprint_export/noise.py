"""Noise of a seed: the same float32 bits in Python, JavaScript and C++, so that a seed is a picture everywhere.

    words   Philox4x32-10: key = the seed's two 32-bit halves, low first; counter = (n, n >> 32, 0, 0); n = 0, 1, 2, ... gives
            four words each, in order
    u       (word + 1/2) / 2^32, exact in float64
    z       the normal quantile of u by Wichura's AS 241 (PPND16), float64, then rounded to float32

Only + - * / and the square root are used, which IEEE 754 rounds in one way, and no two of them are fused: a logarithm of a
language's library differs in its last bit, so the tails have one of their own (`_log`). Words come in halves of a float64's 53
bits, so u is never nearer to 0 or 1 than 2^-33, and the third of AS 241's regions, below e^-25, is never reached.

A picture's stream starts at block 0; step k's noise is its values k n to (k + 1) n, n values a picture. So the noise of fewer
steps is the beginning of that of more.

`make_calibration_noise` is another one, numpy's own: ranges were measured with it, and with them bytes of bundles hang on it.
Sources: Salmon, Moraes, Dror and Shaw, Parallel random numbers: as easy as 1, 2, 3 (SC11); Wichura, Algorithm AS 241, Applied
Statistics 37 (1988). docs/bundle.md has the formulas for readers in other languages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sprint_export.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Words = npt.NDArray[Any]  # uint64, of 32 bits each
    Floats = npt.NDArray[np.float64]

VALIDATION_SEED = 0  # of every validation: a picture's noise is this seed's, at the prompt's place among the prompts
GENERATOR = "philox4x32-10 as241"  # its name in app.json
SEEDS = 1 << 64
MASK = 0xFFFFFFFF
ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
CHUNK = 1 << 16  # values at a time: what arithmetic of float64 takes beside the result

MIDDLE, MIDDLE_OFFSET, TAIL_OFFSET = 0.425, 0.180625, 1.6  # 0.180625 = 0.425^2
# Numerators and denominators of AS 241, highest power first.
MIDDLE_A = (
    2509.0809287301226727,
    33430.575583588128105,
    67265.770927008700853,
    45921.953931549871457,
    13731.693765509461125,
    1971.5909503065514427,
    133.14166789178437745,
    3.3871328727963666080,
)
MIDDLE_B = (
    5226.4952788528545610,
    28729.085735721942674,
    39307.895800092710610,
    21213.794301586595867,
    5394.1960214247511077,
    687.18700749205790830,
    42.313330701600911252,
    1.0,
)
TAIL_C = (
    7.74545014278341407640e-4,
    2.27238449892691845833e-2,
    2.41780725177450611770e-1,
    1.27045825245236838258,
    3.64784832476320460504,
    5.76949722146069140550,
    4.63033784615654529590,
    1.42343711074968357734,
)
TAIL_D = (
    1.05075007164441684324e-9,
    5.47593808499534494600e-4,
    1.51986665636164571966e-2,
    1.48103976427480074590e-1,
    6.89767334985100004550e-1,
    1.67638483018380384940,
    2.05319162663775882187,
    1.0,
)
LOG_SERIES = tuple(1 / k for k in range(23, 0, -2))  # of artanh(f) / f in powers of f^2, highest first: 1/23 ... 1/3, 1
LN_2, SQRT_HALF = 0.6931471805599453, 0.7071067811865476


def make_noise(seed: int, steps: int, batch: int, latent_shape: Sequence[int]) -> Array:
    """Unit-variance noise float32 [steps, B, *latent_shape]; picture i of a batch is that of seed + i (modulo 2^64) alone.

    Raises:
        InputError: the seed is no whole number from 0 to 2^64 - 1.
    """
    import numpy as np

    first, count = _check_seed(seed), steps * math.prod(latent_shape)
    rows = [make_normals(first + i, count).reshape(steps, *latent_shape) for i in range(batch)]
    return np.stack(rows, axis=1)


def make_calibration_noise(seed: int, steps: int, batch: int, latent_shape: Sequence[int]) -> Array:
    """As `make_noise`, by numpy's PCG64 and ziggurat: what ranges and searches are measured with, in this package only."""
    import numpy as np

    first = _check_seed(seed)
    rows = [np.random.default_rng(first + i).standard_normal((steps, *latent_shape), np.float32) for i in range(batch)]
    return np.stack(rows, axis=1)


def make_normals(seed: int, count: int) -> Array:
    """The first `count` values of a seed's stream, float32 [count]."""
    import numpy as np

    values = np.empty(-(-count // 4) * 4, np.float32)
    key = (int(seed) & MASK, int(seed) >> 32 & MASK)
    for start in range(0, len(values), CHUNK):
        stop = min(start + CHUNK, len(values))
        blocks = np.arange(start // 4, stop // 4, dtype=np.uint64)
        zeros = np.zeros_like(blocks)
        words = philox((blocks & MASK, blocks >> 32, zeros, zeros), key)
        uniform = (np.stack(words, axis=1).ravel().astype(np.float64) + 0.5) / 2.0**32
        values[start:stop] = find_quantile(uniform)
    return values[:count]


def philox(counter: tuple[Words, Words, Words, Words], key: tuple[int, int]) -> tuple[Words, Words, Words, Words]:
    """Ten rounds of Philox4x32 on counters [N]; every word is a uint64 below 2^32."""
    import numpy as np

    a, b, c, d = counter
    first, second = key
    for _ in range(ROUNDS):
        low, high = a * np.uint64(MULTIPLIERS[0]), c * np.uint64(MULTIPLIERS[1])  # 64 bits hold a product of two words
        a, b = high >> 32 ^ b ^ np.uint64(first), high & MASK
        c, d = low >> 32 ^ d ^ np.uint64(second), low & MASK
        first, second = first + KEY_STEPS[0] & MASK, second + KEY_STEPS[1] & MASK
    return a, b, c, d


def find_quantile(uniform: Floats) -> Floats:
    """The normal quantile of values [N] from 2^-33 to 1 - 2^-33."""
    import numpy as np

    offset = uniform - 0.5
    is_middle = np.abs(offset) <= MIDDLE
    result = np.empty_like(uniform)
    middle = offset[is_middle]
    r = MIDDLE_OFFSET - middle * middle
    result[is_middle] = middle * _horner(MIDDLE_A, r) / _horner(MIDDLE_B, r)
    u, is_low = uniform[~is_middle], offset[~is_middle] < 0
    r = np.sqrt(-_log(np.where(is_low, u, 1 - u))) - TAIL_OFFSET
    tail = _horner(TAIL_C, r) / _horner(TAIL_D, r)
    result[~is_middle] = np.where(is_low, -tail, tail)
    return result


def _log(x: Floats) -> Floats:
    """ln x = e ln 2 + 2 f (1 + f^2/3 + f^4/5 + ...), x in (0, 1/2) as m 2^e, m in [sqrt(1/2), sqrt(2)), f = (m - 1) / (m + 1)."""
    import numpy as np

    half, exponent = np.frexp(x)
    is_small = half < SQRT_HALF
    m, e = np.where(is_small, half * 2, half), np.where(is_small, exponent - 1, exponent).astype(np.float64)
    f = (m - 1) / (m + 1)
    result: Floats = e * LN_2 + 2 * f * _horner(LOG_SERIES, f * f)
    return result


def _horner(coefficients: Sequence[float], x: Floats) -> Floats:
    import numpy as np

    total = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total = total * x + coefficient
    return total


def _check_seed(seed: int) -> int:
    """The seed, where it is one."""
    import numpy as np

    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < SEEDS:
        raise InputError(f"seed={seed!r}: expected a whole number from 0 to 2^64 - 1")
    return int(seed)
