"""A campaign in an interpreter of its own.

Campaigns fork. A process that ran other tests before has threads of OpenMP, and a fork of it would wait for them for ever; so a
test never runs a campaign in pytest's own process.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from typing import Any

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
    tally = Tally()
    importlib.import_module(f"tests.attack.{name}").run(int(count), int(seed), tally, **json.loads(named))
    print(json.dumps(tally.to_json()))


if __name__ == "__main__":
    main()
