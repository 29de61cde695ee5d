"""A campaign in an interpreter of its own.

Campaigns fork, and pytest's own process has threads of OpenMP from other tests (forks.keep_one_thread says what that does).
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from typing import Any

from tests.attack.forks import keep_one_thread
from tests.attack.outcomes import Tally
from tests.tree import ROOT

MOST_SECONDS = 1500


def run_campaign(name: str, count: int, seed: int, **named: Any) -> Tally:
    """What `tests.attack.<name>.run(count, seed, tally, **named)` counted."""
    command = [sys.executable, "-m", "tests.attack.fresh", name, str(count), str(seed), json.dumps(named)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment, timeout=MOST_SECONDS)
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


if __name__ == "__main__":
    main()
