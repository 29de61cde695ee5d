"""Work: what one kernel asks of a device. A builder's kernel table and a count of operators both become a list of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Work:
    """One kernel: floating-point operations (a multiply-add is two) in a type, and bytes read and written.

    `name` says where in the network it is. `dtype` is what it multiplies in, a column of a device's peaks ("fp32", "16-bit",
    "int8", "fp8"), "" where it multiplies nothing. Where a table says so, `nodes` are those of the graph that it does, and
    `reads` and `writes` the bytes of values between kernels, by name; constants are in `bytes` alone.
    """

    name: str
    flop: float
    dtype: str
    bytes: float
    nodes: tuple[str, ...] = ()
    reads: Mapping[str, float] = field(default_factory=dict, hash=False)
    writes: Mapping[str, float] = field(default_factory=dict, hash=False)
