"""Attack the program at large: a campaign of tests/attack/, thousands of times, and the table of how it ended.

    python benchmarks/attack.py mutate_bundles --count 2000 --seed 0 --out benchmarks/results

A campaign is a module of tests/attack/ with NAME and run(count, seed, tally); a small count of each runs in the tests. The exit
status is 1 where anything ended in a way it must not.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # forks of a process with threads would hang
os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tests/ is no installed package

from tests.attack.forks import keep_one_thread
from tests.attack.outcomes import Tally


def main() -> int:
    """Run one campaign and write attack_<campaign>.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaign", help="a module of tests/attack/, e.g. mutate_bundles")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    campaign = importlib.import_module(f"tests.attack.{options.campaign}")
    keep_one_thread()
    tally, start = Tally(), time.monotonic()
    with contextlib.suppress(KeyboardInterrupt):  # what was counted until then is a result too: `total` says how many
        campaign.run(options.count, options.seed, tally)
    command = f"python benchmarks/attack.py {options.campaign} --count {options.count} --seed {options.seed}"
    ran = {"date": time.strftime("%Y-%m-%d"), "seconds": round(time.monotonic() - start)}
    found = {"command": command, "name": campaign.NAME} | ran | tally.to_json()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"attack_{options.campaign}.json").write_text(json.dumps(found, indent=1) + "\n")
    print(tally.table())
    print(*tally.faults, sep="\n")
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
