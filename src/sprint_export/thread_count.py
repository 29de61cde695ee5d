"""Arithmetic that ends in bytes is cut into the same pieces on every machine, whatever number of threads it has.

torch cuts sums, matrix products and convolutions by its number of threads, and the last digits depend on where it cuts. Ranges
and folded weights would then differ from machine to machine, and with them keys and files. What is computed with in place of the
machine's number is THREADS: where there are fewer cores they take turns, where there are more some are idle
(docs/decisions/0019-scales.md has the measurements).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

THREADS = 8


@contextlib.contextmanager
def fixed_threads(count: int | None = None) -> Iterator[None]:
    """Within, torch cuts its work into so many pieces, by default THREADS on every machine; also a decorator."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(THREADS if count is None else count)  # looked up now: campaigns of forks set it to one
    try:
        yield
    finally:
        torch.set_num_threads(before)
