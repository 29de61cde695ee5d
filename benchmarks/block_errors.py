"""How far blocks of right bundles are from departing, and which planted faults depart at their own block (decision 0050).

    python benchmarks/block_errors.py right OUT.json BUNDLE...                    the largest excess of each network; > 1 departs
    python benchmarks/block_errors.py faults OUT.json BUNDLE [EVERY] [ROLE]       each EVERYth quantized layer, two faults
Bundles are of students that this package embeds. A fault is planted into a copy: a layer's scales times 8, or
its first two output channels swapped.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sprint_export.export.bundle import read_bundle
from sprint_export.progress import quiet
from sprint_export.runtimes.open import choose_runtime
from sprint_export.specialize import specialize_like
from sprint_export.students import load_student
from sprint_export.validate.blocks.compare import Feeds, Found, Sides, compare_blocks
from sprint_export.validate.portions import make_draws
from sprint_export.validate.side_by_side import draw_rounded

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.planted_faults import scale_weight, swap_channels  # tests are no package of the wheel


def open_sides(folder: Path) -> tuple[Sides, Feeds]:
    """A bundle and its student, with what torch's rounded networks are given at the first prompt."""
    bundle = read_bundle(folder)
    student = load_student(bundle.source)
    specialized = specialize_like(student, bundle)
    networks = {record.role: record for record in bundle.components}
    draws = make_draws(specialized, networks, student.validation_prompts[:1])
    traces = draw_rounded(bundle, student, draws, quiet).traces
    feeds = {role: trace.feeds[0] for role, trace in traces.items() if trace.feeds}
    return Sides(bundle, specialized, choose_runtime(bundle, None)), feeds


def measure_right(folder: Path) -> dict[str, Any]:
    """The largest excess by network, how many blocks were compared, and what was not."""
    found = compare_blocks(*open_sides(folder))
    networks = dict.fromkeys(network for network, _ in found.excess)
    largest = {name: round(max(value for (role, _), value in found.excess.items() if role == name), 4) for name in networks}
    return {
        "largest_excess": largest,
        "blocks": len(found.blocks),
        "departing": list_departing(found),
        "unchecked": found.unchecked,
    }


def list_departing(found: Found) -> list[str]:
    """Blocks that depart."""
    return [f"{each.network}: {each.block}" for each in found.blocks if each.departs]


def measure_faults(folder: Path, every: int, only: str) -> list[dict[str, Any]]:
    """Of each fault what departs, and the largest excess: below 1 where what follows undoes the fault, as a norm does."""
    sides, feeds = open_sides(folder)
    rows = []
    for record in sides.bundle.components:
        weights = sides.student.components[record.role].weights
        for layer in list(record.layers)[::every] if only in ("", record.role) else ():
            for fault in ("scale", "channels"):
                with tempfile.TemporaryDirectory() as temporary:
                    copy = Path(shutil.copytree(folder, Path(temporary) / "copy"))
                    _plant(copy, record.role, layer, fault, weights)
                    planted = Sides(read_bundle(copy), sides.student, sides.runtime)
                    found = compare_blocks(planted, {record.role: feeds[record.role]})
                fault_row = {"network": record.role, "layer": layer, "fault": fault, "departs": list_departing(found)}
                rows.append(fault_row | {"largest_excess": round(max(found.excess.values()), 4)})
                print(json.dumps(rows[-1]), flush=True)
    return rows


def _plant(copy: Path, role: str, layer: str, fault: str, weights: Mapping[str, Any]) -> None:
    shape = weights[f"{layer}.weight"].shape
    if fault == "scale":
        scale_weight(copy, role, layer)
    else:
        count = 1
        for size in shape[1:]:
            count *= size
        swap_channels(copy, role, layer, count)


def main() -> None:
    """As the head of the file says."""
    kind, out, *rest = sys.argv[1:]
    if kind == "right":
        result: Any = {}
        for folder in map(Path, rest):
            result[folder.name] = measure_right(folder)
            print(folder.name, result[folder.name], flush=True)
    else:
        every, only = int(rest[1]) if len(rest) > 1 else 1, rest[2] if len(rest) > 2 else ""
        result = {Path(rest[0]).name: measure_faults(Path(rest[0]), every, only)}
    Path(out).write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
