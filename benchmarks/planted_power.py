"""How many faults that are planted at random are found by a gate, and at the right layer (decision 0059).

    python benchmarks/planted_power.py OUT.json TIMES BUNDLE...             TIMES faults of each kind in each bundle
    python benchmarks/planted_power.py OUT.json TIMES --files BUNDLE...     blocks, which have to be run, are left out
Bundles are of students that this package embeds. A fault is planted into a copy that is signed again (tests/random_faults.py).
`weights`: a layer's tensors differ (validate/weights/); `blocks`: a block departs (validate/blocks/); `ids`: prompts are read
otherwise. A fault is named where what is found lies in its own layer, or in the block that holds it.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # tests are no package of the wheel

from benchmarks.block_errors import open_sides
from sprint_export.export.bundle import read_bundle
from sprint_export.runtimes.open import choose_runtime
from sprint_export.specialize import specialize_like
from sprint_export.students import load_student
from sprint_export.validate.blocks.compare import Sides, compare_blocks
from sprint_export.validate.blocks.prompt_ids import compare_ids
from sprint_export.validate.weights.compare import compare_weights
from tests.random_faults import KINDS, Fault, plant

FILES = "--files"


def measure_bundle(folder: Path, times: int, has_blocks: bool) -> dict[str, Any]:
    """The bundle as it is, and each fault."""
    sides, feeds = open_sides(folder) if has_blocks else (open_files(folder), {})
    healthy = find(folder, sides, feeds)
    faults = []
    for kind in KINDS:
        for seed in range(times if kind != "prefix" else 1):
            with tempfile.TemporaryDirectory() as temporary:
                copy = Path(shutil.copytree(folder, Path(temporary) / "copy"))
                fault = plant(copy, kind, seed)
                if fault is None:
                    break
                row = asdict(fault) | judge(fault, find(copy, sides, feeds))
            faults.append(row)
            print(json.dumps(row), flush=True)
    return {"healthy": healthy, "faults": faults}


def open_files(folder: Path) -> Sides:
    """A bundle and its student, of which nothing is drawn."""
    bundle = read_bundle(folder)
    return Sides(bundle, specialize_like(load_student(bundle.source), bundle), choose_runtime(bundle, None))


def find(folder: Path, sides: Sides, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """What the three gates say of a bundle, and the processor's seconds."""
    start = time.process_time()
    bundle = read_bundle(folder)
    weights = compare_weights(bundle, sides.student)
    middle = time.process_time()
    blocks = compare_blocks(Sides(bundle, sides.student, sides.runtime), feeds)
    ids = compare_ids(bundle, sides.student, sides.student.validation_prompts[:4])
    return {
        "weights": {f"{each.network}: {each.module}": each.said for each in weights.differences},
        "blocks": [f"{each.network}: {each.block}" for each in blocks.blocks if each.departs],
        "ids": ids.departs,
        "unchecked": [*weights.unchecked, *blocks.unchecked],
        "weights_s": round(middle - start, 2),
        "blocks_s": round(time.process_time() - middle, 2),
    }


def judge(fault: Fault, found: Mapping[str, Any]) -> dict[str, Any]:
    """Whether a fault is found, and named."""
    modules = list(found["weights"])
    blocks = [block.partition(": ") for block in found["blocks"]]
    is_named = any(module == f"{fault.network}: {fault.module}" for module in modules) or any(
        network == fault.network and f"{fault.module}.".startswith(f"{block.partition('[')[0]}.") for network, _, block in blocks
    )
    if fault.module is None:  # of no one layer: the network is all there is to name
        is_named = found["ids"] or any(each.startswith(f"{fault.network}: ") for each in (*modules, *found["blocks"]))
    return {
        "by_weights": modules[:4],
        "by_blocks": found["blocks"],
        "by_ids": found["ids"],
        "found": bool(modules or found["blocks"] or found["ids"]),
        "named": bool(is_named),
    }


def main() -> None:
    """As the head of the file says."""
    out, times, *folders = (each for each in sys.argv[1:] if each != FILES)
    result: dict[str, Any] = {}
    for folder in map(Path, folders):
        result[folder.name] = measure_bundle(folder, int(times), FILES not in sys.argv)
        faults = result[folder.name]["faults"]
        print(folder.name, len(faults), "found", sum(each["found"] for each in faults), flush=True)
        Path(out).write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
