"""What a dry run expects beside what the run took, stage by stage: how the constants of estimates/stages.py are fitted.

    python benchmarks/estimates.py tiny middle layers --out benchmarks/results/estimates.json
    python benchmarks/estimates.py --read benchmarks/results/real_size.json --out benchmarks/results/estimates.json

A job is a dry run and then the run itself, each in a process of its own with an empty cache. `tiny` is the embedded student,
`middle` a made one of some 100 million values, `layers` two layers of each of the 0.6B's networks at 512 px; `--read` compares
a dry run here with what `real_size.py` measured, on this machine. Exit status 1: a whole run is not within LIMIT of its estimate.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from real_size import run, save

from sprint_export.students.sana_sprint.published import DC_AE, GEMMA_2_2B, PRESETS, Preset, transformer_config

LIMIT = 1.5
SMALL_S = 3.0  # stages of less, on both sides, are not worth a line
TARGETS = {"tiny": "trt-fp8", "tiny-int8": "onnx-int8", "middle": "trt-fp8", "layers": "trt-fp8"}


def make_student(name: str, folder: Path) -> list[str]:
    """The command's options for a job; its student is written into the folder where it is a made one."""
    asked = ["--target", TARGETS[name]]
    if name.startswith("tiny"):
        return ["--student", "sprint-tiny", *asked]
    PRESETS[name] = _shape_middle() if name == "middle" else _shape_layers()  # of this process alone
    save(name, folder / "student")
    return ["--student", str(folder / "student"), *asked, "--count", "4" if name == "middle" else "1"]


def _shape_middle() -> Preset:
    text = GEMMA_2_2B | {"vocab_size": 4096, "hidden_size": 768, "intermediate_size": 2304, "num_hidden_layers": 6}
    widths = (32, 64, 128, 128, 256, 256)
    vae = DC_AE | {"decoder_block_out_channels": widths, "encoder_block_out_channels": widths}
    config = transformer_config(24, 8, 12, 64) | {"caption_channels": 768, "sample_size": 8}
    return Preset("middle", config, vae, text)


def _shape_layers() -> Preset:
    whole = PRESETS["sana-sprint-0.6b"]
    text = {**whole.text_encoder, "num_hidden_layers": 2, "vocab_size": 4096}
    return Preset("layers", {**whole.transformer, "num_layers": 2, "sample_size": 16}, whole.vae, text)


def dry_run(asked: list[str], folder: Path) -> dict[str, Any]:
    """The plan of a command with an empty cache."""
    environment = os.environ | {"SPRINT_EXPORT_CACHE": str(folder / "empty")}
    command = [sys.executable, "-m", "sprint_export", *asked, "--dry-run", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder, env=environment)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def compare(plan: dict[str, Any], took: dict[str, Any]) -> dict[str, Any]:
    """Expected and actual seconds by stage, their ratio, and memory."""
    expected: dict[str, float] = {}
    actual: dict[str, float] = {}
    for each in plan["stages"]:
        expected[each["stage"]] = expected.get(each["stage"], 0.0) + each["seconds"]
    for name, seconds in took["stages"].items():
        stage = name.partition(": ")[0]
        actual[stage] = actual.get(stage, 0.0) + seconds
    stages = {
        name: {"expected": round(expected.get(name, 0.0), 1), "took": round(actual.get(name, 0.0), 1)}
        for name in [*expected, *(name for name in actual if name not in expected)]
    }
    return {
        "command": took["command"],
        "machine": took["machine"],
        "expected": round(plan["seconds"], 1),
        "took": took["seconds"],
        "ratio": round(plan["seconds"] / took["seconds"], 2),
        "outside_stages": round(took["seconds"] - sum(actual.values()), 1),
        "expected_gb": round(plan["memory"] / 1e9, 2),
        "peak_gb": took["peak_gb"],
        "stages": stages,
    }


def show(name: str, found: dict[str, Any]) -> None:
    """A table on stderr."""
    print(f"{name}: {found['expected']} s expected, {found['took']} s taken, ratio {found['ratio']}", file=sys.stderr)
    print(f"  {found['expected_gb']} GB expected, {found['peak_gb']} GB at most", file=sys.stderr)
    for stage, each in found["stages"].items():
        if max(each.values()) >= SMALL_S:
            ratio = each["expected"] / max(each["took"], 0.1)
            print(f"  {stage:<20} {each['expected']:8.1f} {each['took']:8.1f}   {ratio:.2f}", file=sys.stderr)


def main() -> int:
    """Run the jobs that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", choices=[*TARGETS, []])
    parser.add_argument("--read", type=Path, help="what real_size.py wrote")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    results: dict[str, Any] = json.loads(chosen.out.read_text()) if chosen.out and chosen.out.exists() else {}
    made: dict[str, dict[str, Any]] = {}
    for name in chosen.jobs:
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text)
            asked = [*make_student(name, folder), "--out", str(folder / "bundle")]
            made[name] = compare(dry_run(asked, folder), run(asked, folder / "cache"))
    if chosen.read:
        took = json.loads(chosen.read.read_text())
        took = took.get("now", took)  # real_size.json holds several runs
        with tempfile.TemporaryDirectory() as text:
            asked = took["command"].split()[1:]
            if "--out" in asked:
                asked[asked.index("--out") + 1] = f"{text}/bundle"
            made["real_size"] = compare(dry_run(asked, Path(text)), took)
    for name, found in made.items():
        show(name, found)
    if chosen.out:
        chosen.out.write_text(json.dumps(results | made, indent=1) + "\n")
    return int(any(not 1 / LIMIT <= found["ratio"] <= LIMIT for found in made.values()))


if __name__ == "__main__":
    sys.exit(main())
