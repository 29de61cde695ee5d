"""What a one-step picture costs on RTX cards, priced from the builder's kernel table, for every family at its published shape.

    python benchmarks/family_prices.py --out benchmarks/results/family_prices.json
    python benchmarks/family_prices.py --students random:sana-sprint-0.6b --targets trt-fp8

An engine for an RTX 4090 is built of every network (large_students.py: random weights, made-up ranges, plain rounding; kernels
and bytes do not depend on them). Networks of equal blocks are built twice, `DEPTHS` deep, and the rest of their depth is counted
by the difference; how deep they are stands in the row. Prices are arithmetic on those kernels (runtimes/trt/kernels.py) and no
latencies, and of other cards they take for granted that the builder chose the same kernels there.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import large_students

STUDENTS = ("sana-sprint-0.6b", "sana-sprint-1.6b", "twinflow-z-image-turbo", "twinflow-qwen-image")
DEPTHS = (2, 4)


def find_depth(source: str, role: str) -> int:
    """How many equal blocks a network has, where its config says that many; 0 where that is no more than what is built of it."""
    import torch

    from sprint_export.students import load_student

    student = load_student(source)
    said = {value for key, value in student.configs[role].items() if "layers" in key}
    lists = (len(child) for child in student.components[role].module.modules() if isinstance(child, torch.nn.ModuleList))
    deepest = max((count for count in lists if count in said), default=0)
    return deepest if deepest > max(DEPTHS) else 0


def price_network(source: str, target: str, role: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds by card, and bytes of the graph's weights, of a network at its whole depth."""
    depth = find_depth(source, role)
    found = []
    for layers in DEPTHS if depth else (None,):
        asked = argparse.Namespace(disk=chosen.disk, layers=layers, parse=False, build=True)
        found.append(large_students.run_row(["--row", f"row,{source},{target},{role}"], asked))
        print(json.dumps({"student": source, "target": target, "role": role, "layers": layers} | found[-1]), file=sys.stderr)
    engines = [row.get("tensorrt", {}) for row in found]
    if not all("priced_ms" in engine for engine in engines):
        return {"depth": depth, "failed": [row.get("exit_status", row.get("tensorrt")) for row in found]}
    sizes = [sum(row["bytes"].values()) / 1e9 for row in found]
    prices = {card: [engine["priced_ms"][card] for engine in engines] for card in large_students.PRICED}
    return {
        "depth": depth,
        "built_deep": list(DEPTHS) if depth else [],
        "priced_ms": {card: round(extend(values, depth), 2) for card, values in prices.items()},
        "kernels": round(extend([engine["kernels"] for engine in engines], depth)),
        "gb": round(extend(sizes, depth), 2),
    }


def extend(values: list[float], depth: int) -> float:
    """A figure at the whole depth, from those at `DEPTHS`; the figure itself where the network was built whole."""
    if len(values) == 1:
        return values[0]
    (shallow, deep), (few, more) = values, DEPTHS
    return shallow + (deep - shallow) / (more - few) * (depth - few)


def main() -> None:
    """A row for each student and target: its networks, and a picture of one step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--students", default=",".join(f"random:{name}" for name in STUDENTS))
    parser.add_argument("--targets", default="trt-fp8")
    parser.add_argument("--disk", default=tempfile.gettempdir(), help="where graphs are written, and removed from")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    from sprint_export.validate.machine import describe_machine

    rows = []
    for source in chosen.students.split(","):
        for target in chosen.targets.split(","):
            networks = {role: price_network(source, target, role, chosen) for role in large_students.list_roles(source)}
            row: dict[str, Any] = {"student": source, "target": target, "networks": networks}
            if all("priced_ms" in network for network in networks.values()):
                row["picture_ms"] = {
                    card: round(sum(network["priced_ms"][card] for network in networks.values()), 1)
                    for card in large_students.PRICED
                }
            rows.append(row)
            print(json.dumps(row), flush=True)
            if chosen.out:  # after each row: the whole takes most of an hour
                command = " ".join(["python", "benchmarks/family_prices.py", *sys.argv[1:]])
                value = {"command": command, "machine": describe_machine(), "rows": rows}
                chosen.out.write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    main()
