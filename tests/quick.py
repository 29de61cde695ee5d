"""The quick tier, for every save: `pytest -m quick` takes the cheapest test files whose CPU seconds fit in BUDGET together.

    pytest --store-seconds        # the whole suite, once in a while: measures every file anew into seconds.json
A file that is not in seconds.json is new, hence quick. Slow files are not even imported.
"""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from tests.command_server import SERVERS

SECONDS = Path(__file__).with_name("seconds.json")
BUDGET = 35.0  # CPU seconds; what tests share is made for the quick ones too, and two processes import it: 150 in all
PROPERTY = "cpu_seconds"


def cpu_seconds() -> float:
    """Of this process, of its children that have ended, and of the commands that servers ran for it."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages) + sum(server.cpu_seconds for server in SERVERS)


def run_folder(base: Path) -> Path:
    """What all processes of this run of pytest share: xdist gives each worker a folder of its own in it."""
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@cache
def known_seconds() -> dict[Path, float]:
    """CPU seconds by test file, as they were measured last."""
    return {SECONDS.parent / name: seconds for name, seconds in json.loads(SECONDS.read_text("utf-8")).items()}


@cache
def slow_files() -> frozenset[Path]:
    """Those that do not fit."""
    left, slow = BUDGET, []
    for path, seconds in sorted(known_seconds().items(), key=lambda row: row[1]):
        left -= seconds
        if left < 0:
            slow.append(path)
    return frozenset(slow)


def store_seconds(measured: Mapping[str, float]) -> None:
    """Write what files of tests/ took, beside what others took before."""
    rows = json.loads(SECONDS.read_text("utf-8"))
    rows |= {name.removeprefix("tests/"): round(seconds, 1) for name, seconds in measured.items()}
    rows = {name: seconds for name, seconds in sorted(rows.items()) if (SECONDS.parent / name).exists()}
    SECONDS.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
