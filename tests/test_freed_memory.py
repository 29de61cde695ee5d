"""Memory that a network gave back is the system's again before the next one is loaded."""

from __future__ import annotations

import sys

import pytest

from tests.test_house import run_python

CODE = """
import ctypes, sys
from sprint_export.process_memory import find_used_memory
from sprint_export.freed_memory import return_freed_memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
blocks = [libc.malloc(100_000) for _ in range(2000)]  # below what malloc maps by itself
for block in blocks:
    ctypes.memset(block, 1, 100_000)
held = find_used_memory()
for block in blocks[:-1]:  # the last one lies at the heap's end, so nothing is given back by itself
    libc.free(block)
kept = find_used_memory()
return_freed_memory()
print(held - kept < 50_000_000, kept - find_used_memory() > 150_000_000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's own")
def test_what_was_freed_goes_back_to_the_system_when_it_is_asked_for() -> None:
    assert run_python(CODE) == "True True"
