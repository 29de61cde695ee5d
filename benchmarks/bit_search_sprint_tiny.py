"""Bits searched per layer against one precision for all, at equal size: image PSNR of the embedded student's pictures.

python benchmarks/bit_search_sprint_tiny.py --count 32 --out benchmarks/results
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path

import torch

from sprint_export.devices import find_device
from sprint_export.nouns.order import Deployment
from sprint_export.nouns.recipe import Recipe
from sprint_export.nouns.student import Student
from sprint_export.psnr import psnr_images
from sprint_export.quantize.recipes import default_recipe
from sprint_export.quantize.search.objectives import search_bits
from sprint_export.quantize.search.search import SearchResult
from sprint_export.quantize.search.units import gather_layers
from sprint_export.quantize.student import quantize_student
from sprint_export.quantize.torch_session import open_torch
from sprint_export.quantize.weight_bytes import count_student_bytes
from sprint_export.registry import load_target
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.validate.images import UInt8
from sprint_export.validate.machine import describe_machine

COREML = load_target("coreml")
UNIFORM = ("w4", "w6", "int8")  # with their default recipes: doors stay float


def draw(student: Student, count: int, dtype: str = "fp32") -> UInt8:
    """Pictures of the validation prompts, weights rounded as the student says and the rest to `dtype`."""
    return open_torch(student, True, dtype)(student.validation_prompts[:count], seed=1000)


def judge(student: Student, recipe: Recipe, wanted: UInt8) -> dict[str, float]:
    """Bytes of the weights, and mean and worst PSNR against the float pictures."""
    quantized = quantize_student(student, "w4", COREML, recipe)
    psnr = psnr_images(draw(quantized, len(wanted), "fp16"), wanted)
    return {
        "bytes": count_student_bytes(student, gather_layers(quantized)),
        "psnr_db": round(float(psnr.mean()), 2),
        "psnr_worst_db": round(float(psnr.min()), 2),
    }


def describe(found: SearchResult, seconds: float) -> dict[str, object]:
    """What the search says of itself: on its own prompts, unlike the PSNR above."""
    counts = Counter(unit.precision for unit in found.units for _ in unit.layers)
    summed, decibels = sum(unit.errors[unit.precision] for unit in found.units), found.frontier.chosen.psnr_db
    errors = {"summed_error": summed, "measured_error": 4 * 10 ** (-decibels / 10)}
    notes = found.frontier.notes
    return {**errors, "layers": counts, "rules": len(found.recipe.rules), "search_s": round(seconds, 1), "notes": notes}


def main() -> None:
    """Search at three sizes and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    student = specialize_student(load_student("sprint-tiny"))
    wanted = draw(student, options.count)
    rows = {f"uniform {name}": judge(student, default_recipe(name, student, COREML), wanted) for name in UNIFORM}
    sizes = {name: int(rows[f"uniform {name}"]["bytes"]) for name in UNIFORM}
    budgets = {"w4": sizes["w4"], "5 bits": (sizes["w4"] + sizes["w6"]) // 2, "w6": sizes["w6"]}
    found: dict[str, object] = {
        "command": f"python benchmarks/bit_search_sprint_tiny.py --count {options.count}",
        "machine": describe_machine(),
        **rows,
    }
    for name, budget in budgets.items():
        start = time.perf_counter()
        search = search_bits(student, Deployment(COREML, "w4", find_device(COREML.default_device)), budget)
        seconds = time.perf_counter() - start  # the first measures all layers, the others take them from the cache
        found[f"searched, size of {name}"] = {**judge(student, search.recipe, wanted), **describe(search, seconds)}
    for name, row in found.items():
        print(name, row)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "bit_search_sprint_tiny.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
