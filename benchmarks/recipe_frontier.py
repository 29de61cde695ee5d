"""Searched recipes beside presets: cost, PSNR and adherence of the embedded student's pictures on prompts no search has seen.

python benchmarks/recipe_frontier.py --target onnx-int8 --gates 45 50 55 --count 128
python benchmarks/recipe_frontier.py --target trt-fp8 --gates 45 50 55 --count 128

Pictures are drawn in torch with the rounding of the target's graph, which the exported graph repeats (a report's converter rows);
the reference is float32. Every row is a process of its own; searches share what they measured, so with --fresh the seconds of the
first are those of a search from nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sprint_export.nouns.recipe import Recipe
from sprint_export.nouns.student import Student
from sprint_export.psnr import psnr_images
from sprint_export.quantize.preset_files import list_presets
from sprint_export.quantize.recipes import read_preset
from sprint_export.quantize.search.costs import Prices, choose_cost
from sprint_export.quantize.search.objectives import search_recipe
from sprint_export.quantize.search.search import SearchResult
from sprint_export.quantize.search.units import gather_layers
from sprint_export.quantize.student import quantize_student
from sprint_export.quantize.torch_session import open_torch
from sprint_export.run_checks import read_deployment
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.students.sprint_tiny.adherence import measure_adherence
from sprint_export.validate.machine import describe_machine

NOISE_SEED = 0  # validation's own


def draw(student: Student, prompts: Sequence[str], fake: bool, dtype: str) -> Any:
    """Pictures uint8 [B, H, W, 3]."""
    return open_torch(student, fake, dtype)(prompts, seed=NOISE_SEED)


def measure_row(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """One recipe, by a preset's name or a gate in dB: what it costs and what it draws."""
    deployment = read_deployment(options.target, options.device)
    target, precision, device = deployment.target, deployment.precision, deployment.device
    student = specialize_student(load_student("sprint-tiny"))
    start, found = time.perf_counter(), None
    if name in list_presets(student.family):
        recipe: Recipe = read_preset(name, precision, student, target)
    else:
        found = search_recipe(student, deployment, float(name), cost=options.cost)
        recipe = found.recipe
    seconds = time.perf_counter() - start
    quantized = quantize_student(student, precision, target, recipe)
    dtype = target.graph_dtype[precision]
    prices = Prices(student, choose_cost(options.cost, device), device, dtype)
    prompts = student.validation_prompts[: options.count]
    pictures, wanted = draw(quantized, prompts, True, dtype), draw(student, prompts, False, "fp32")
    psnr = psnr_images(pictures, wanted)
    adherence, reference = (100 * measure_adherence(prompts, list(each)).everything for each in (pictures, wanted))
    row = {
        "cost": prices.total(gather_layers(quantized)) * prices.scale,
        "unit": prices.unit,
        "psnr_db": round(float(psnr.mean()), 2),
        "psnr_worst_db": round(float(psnr.min()), 2),
        "adherence_percent": round(adherence, 2),
        "adherence_reference_percent": round(reference, 2),
        "rules": len(recipe.rules),
    }
    return row if found is None else row | describe_search(found, seconds)


def describe_search(found: SearchResult, seconds: float) -> dict[str, Any]:
    """What the search said of itself, on its own prompts."""
    chosen = found.frontier.chosen
    return {
        "gate_db": found.frontier.gate_db,
        "searched_psnr_db": round(chosen.psnr_db, 2),
        "searched_standard_error_db": round(chosen.error_db, 2),
        "chosen": chosen.name,
        "mixes_measured": len(found.frontier.mixes),
        "layers": dict(found.frontier.layers),
        "search_s": round(seconds, 1),
    }


def run_row(options: argparse.Namespace, name: str, environment: dict[str, str]) -> dict[str, Any]:
    """`measure_row` in a process of its own."""
    command = [sys.executable, __file__, "--target", options.target, "--count", str(options.count), "--row", name]
    command += ["--device", options.device] if options.device else []
    command += ["--cost", options.cost] if options.cost else []
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1]}
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def main() -> None:
    """All rows of one target, written as JSON beside the other results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="onnx-int8")
    parser.add_argument("--device")
    parser.add_argument("--cost", choices=("time", "bytes"))
    parser.add_argument("--gates", nargs="+", type=float, default=[45.0, 50.0, 55.0])
    parser.add_argument("--count", type=int, default=128, help="held-out prompts")
    parser.add_argument("--fresh", action="store_true", help="search from nothing, with an empty cache")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measure_row(options, options.row)))
        return
    names = [*list_presets("sana_sprint"), *(f"{gate:g}" for gate in options.gates)]
    rows = {}
    with tempfile.TemporaryDirectory() as empty:
        environment = os.environ | ({"SPRINT_EXPORT_CACHE": empty} if options.fresh else {})
        for name in names:
            rows[name if name[0].isalpha() else f"auto psnr_db>={name}"] = run_row(options, name, environment)
            print(name, list(rows.values())[-1], flush=True)
    found = {
        "command": " ".join(["python", "benchmarks/recipe_frontier.py", *sys.argv[1:]]),
        "machine": describe_machine(),
        "prompts": options.count,
        "rows": rows,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"recipe_frontier_{options.target.replace('-', '_')}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
