"""Whether the p50s of several benches in a row lie in each other's stated intervals.

    python benchmarks/repeated_benches.py BUNDLE --times 5 --out results.json -- --runs 500 --spread 60

What stands behind `--` goes to `sprint-export bench`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

METRIC = "latency_p50_ms"


def run_bench(bundle: Path, asked: list[str]) -> dict[str, Any]:
    """One, in a process of its own."""
    command = ["sprint-export", "bench", str(bundle), "--json", "--quiet", *asked]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def count_inside(benches: list[dict[str, Any]], component: str) -> dict[str, Any]:
    """Of all pairs of benches, in how many the one's p50 lies in the other's interval."""
    rows = [next(row for row in each["rows"] if (row["component"], row["metric"]) == (component, METRIC)) for each in benches]
    pairs = list(itertools.permutations(rows, 2))
    inside = sum(low["interval"][0] <= other["value"] <= low["interval"][1] for low, other in pairs)
    return {
        "p50_ms": [round(row["value"], 3) for row in rows],
        "intervals": [[round(end, 3) for end in row["interval"]] for row in rows],
        "inside": inside,
        "pairs": len(pairs),
    }


def main() -> None:
    """Run them one after the other, count, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("asked", nargs="*", help="options of bench, behind --")
    chosen = parser.parse_args()
    benches, loads = [], []
    for _ in range(chosen.times):
        loads.append(round(os.getloadavg()[0], 2))
        benches.append(run_bench(chosen.bundle, chosen.asked))
    names = dict.fromkeys(row["component"] for row in benches[0]["rows"] if row["metric"] == METRIC)
    found = {
        "command": f"python benchmarks/repeated_benches.py BUNDLE --times {chosen.times} -- {shlex.join(chosen.asked)}",
        "bundle": benches[0]["target"],
        "machine": benches[0]["machine"],
        "runtime": benches[0]["runtime"],
        "load_before": loads,
        "disturbed": [f"{each['bench']['disturbed']} of {each['bench']['runs']}" for each in benches],
        "components": {name: count_inside(benches, name) for name in names},
    }
    text = json.dumps(found, indent=1)
    print(text)
    if chosen.out:
        chosen.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
