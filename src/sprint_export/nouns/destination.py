"""Where a packed folder goes, and what fits there: sizes of files that its loaders take; standard library only.

In a browser the longest ArrayBuffer of Chrome has 0x7fe00000 bytes and a WebAssembly memory of 32 bits 4 GB; ONNX Runtime Web
keeps what is longer than 2 GB in memory that cannot be handed to a worker (onnxruntime.ai, "Working with Large Models"). So
weights beside a graph stand in files of 10^9 bytes, which are fetched, hashed and kept one by one. Weights inside a graph are in
that one memory as the file, as its message and as tensors: there only few may be. Elsewhere files are read from a disk; a
protobuf message, a graph with its weights inside, ends at 2^31 - 1 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from sprint_export.errors import unknown_choice

LONGEST_MESSAGE = 2**31 - 1  # bytes of a protobuf message
LONGEST_WEB_FILE = 2**32 - 1  # bytes that 32 bits can address


@dataclass(frozen=True)
class Destination:
    """What an app is built for.

    `inline_bytes`: the most of a graph's file with its weights inside. `shard_bytes`: of each file of weights that stand beside;
    a larger tensor has a file of its own; 0: one file. `longest_file`: of any; 0: no limit.
    """

    name: str
    title: str
    inline_bytes: int = LONGEST_MESSAGE
    shard_bytes: int = 0
    longest_file: int = 0


DESTINATIONS = (
    Destination("web", "a page in a browser", 100_000_000, 1_000_000_000, LONGEST_WEB_FILE),
    Destination("node", "a program on Node.js"),
    Destination("cpp", "a C++ program"),
    Destination("windows", "a Windows app"),
    Destination("apple", "an app for iPhone, iPad or Mac"),
)


def find_destination(name: str) -> Destination:
    """The destination of that name.

    Raises:
        InputError: there is none; the message lists them.
    """
    found = next((each for each in DESTINATIONS if each.name == name), None)
    if found is None:
        raise unknown_choice("destination", name, [each.name for each in DESTINATIONS])
    return found
