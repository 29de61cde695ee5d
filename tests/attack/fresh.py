"""A campaign in a process of its own.

Campaigns fork, and pytest's own process has threads of OpenMP from other tests (forks.keep_one_thread says what that does); the
command server's has none.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

from tests.attack.forks import keep_one_thread
from tests.attack.outcomes import Tally
from tests.command_server import open_server
from tests.tree import ROOT

MOST_SECONDS = 1500


def run_campaign(name: str, count: int, seed: int, **named: Any) -> Tally:
    """What `tests.attack.<name>.run(count, seed, tally, **named)` counted."""
    asked = (name, count, seed, json.dumps(named))
    done = open_server().run(asked, ROOT, "tests.attack.fresh", MOST_SECONDS)
    assert done.returncode == 0, done.stderr
    found, tally = json.loads(done.stdout.splitlines()[-1]), Tally()
    for attack, outcomes in found["counts"].items():
        tally.counts[attack].update(outcomes)
    tally.samples.update(found["samples"])
    return tally


def main() -> None:
    """Run the campaign that the arguments name; its tally is the last line on stdout."""
    name, count, seed, named = sys.argv[1:]
    keep_one_thread()
    tally = Tally()
    importlib.import_module(f"tests.attack.{name}").run(int(count), int(seed), tally, **json.loads(named))
    print(json.dumps(tally.to_json()))
