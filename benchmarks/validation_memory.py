"""Peak memory of validations, and of comparisons, of ever more pictures, as the system counts it; of small ones and of larger.

    python benchmarks/validation_memory.py make --side 512 --out /tmp/made        # a student of cheap networks, and its bundle
    python benchmarks/validation_memory.py run /tmp/made/bundle --student /tmp/made/student --counts 32,64,128 \
        --label "512 px" --out benchmarks/results/validation_memory.json
    python benchmarks/validation_memory.py run /tmp/made/bundle --student /tmp/made/student --counts 16,96 --compare \
        --label "compare, 512 px" --out ...                 # the bundle, the student's own folder, and a folder of pictures
    python benchmarks/validation_memory.py make --student sprint-tiny --out /tmp/tiny
    python benchmarks/validation_memory.py run /tmp/tiny/bundle --counts 512,4096 --label "64 px" --out ...

Each row is a process of its own that validates or compares with an empty cache. `peak_mb` is its largest resident set,
`begin_mb` what it held once the student was loaded and before it began, `cache_mb` what lay in the cache at most. To see another
version of the package, set PYTHONPATH to its src.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))  # tests/ is no installed package

LATENTS = 16  # of the made student, on a side
WIDTHS = (8, 8, 16, 16, 32, 32)  # channels of its decoder's levels, the picture's first


def make_student(side: int, folder: Path) -> None:
    """A pipeline folder whose decoder enlarges 16 x 16 latents to `side` pixels with few channels."""
    from tests.made_student import make_pipeline

    levels = (side // LATENTS).bit_length()
    blocks = ("ResBlock",) * (levels - 1) + ("EfficientViTBlock",)
    vae: dict[str, Any] = {}
    for part in ("encoder", "decoder"):
        vae |= {
            f"{part}_block_types": blocks,
            f"{part}_block_out_channels": WIDTHS[:levels],
            f"{part}_layers_per_block": (1,) * levels,
            f"{part}_qkv_multiscales": ((),) * (levels - 1) + ((5,),),
        }
    make_pipeline(vae=vae).save_pretrained(folder)


def make(args: argparse.Namespace) -> None:
    """A student where none is named, and its bundle in 8 bits."""
    from sprint_export.conversion import convert

    if args.student is None:
        make_student(args.side, args.out / "student")
    student = args.student or str(args.out / "student")
    convert(student, "onnx-int8", args.out / "bundle", prompts=["a red circle", "a blue square"], validate=False)


def measure(bundle: Path, student: str, count: int) -> dict[str, Any]:
    """In this process: validate, and say what it took."""
    from sprint_export.students import load_student
    from sprint_export.validate import validate_bundle
    from sprint_export.validate.report_file import describe_report

    loaded = load_student(student)
    prompts = list(islice(cycle(loaded.validation_prompts), count))
    begin, start = read_peak(), time.monotonic()
    report = validate_bundle(bundle, loaded, prompts)
    seconds, peak = time.monotonic() - start, read_peak()
    found = describe_report(report)
    figures = [[row for row in found["rows"] if "latency" not in row["metric"]], found["pictures"], found["blocks"]]
    digest = hashlib.sha256(json.dumps(figures).encode()).hexdigest()
    return {"begin_mb": begin, "peak_mb": peak, "seconds": round(seconds), "figures": digest[:16]}


def write_pictures(prompts: list[str], side: int, folder: Path) -> None:
    """A folder of noise, as another program may leave it: 0.png, ... and prompts.txt."""
    import numpy as np
    from PIL import Image

    folder.mkdir()
    for place in range(len(prompts)):
        pixels = np.random.default_rng(place).integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{place}.png", compress_level=1)
    (folder / "prompts.txt").write_text("\n".join(prompts), "utf-8")


def measure_comparison(bundle: Path, student: str, count: int) -> dict[str, Any]:
    """In this process: compare three entries, and say what it took."""
    from sprint_export.export.bundle import read_bundle
    from sprint_export.json_forms import to_json
    from sprint_export.sizes import find_sizes
    from sprint_export.students import load_student
    from sprint_export.validate.comparing.compare import JSON, PAGE, compare_entries

    loaded = load_student(student)
    prompts = list(islice(cycle(loaded.validation_prompts), count))
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_pictures(prompts, find_sizes(read_bundle(bundle, verify=False)).pixels[0], work / "theirs")
        entries = {"bundle": bundle, "diffusers": Path(student), "pictures": work / "theirs"}
        begin, start = read_peak(), time.monotonic()
        found = compare_entries(entries, work / "out", loaded, prompts=prompts)
        seconds, peak = time.monotonic() - start, read_peak()
        size = sum((work / "out" / file).stat().st_size for file in (JSON, PAGE))
    rows = [row for each in found.entries for row in (*each.rows, *each.against_best) if "latency" not in row.metric]
    digest = hashlib.sha256(json.dumps(to_json([rows, [each.figures for each in found.entries]])).encode()).hexdigest()
    return {
        "begin_mb": begin,
        "peak_mb": peak,
        "seconds": round(seconds),
        "page_mb": round(size / 1e6, 1),
        "figures": digest[:16],
    }


def read_peak() -> int:
    """Largest resident set so far, in 10^6 bytes."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)


def watch(command: list[str], cache: Path) -> tuple[dict[str, Any], int]:
    """What a process prints, and the most that lay in the cache meanwhile, in 10^6 bytes."""
    most = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"SPRINT_EXPORT_CACHE": str(cache)}) as process:
        while process.poll() is None:
            time.sleep(2)
            sizes = []
            for path in cache.rglob("*"):
                try:
                    sizes.append(path.stat().st_size if path.is_file() else 0)
                except OSError:  # removed just now
                    continue
            most = max(most, sum(sizes))
        assert process.stdout is not None
        found: dict[str, Any] = json.loads(process.stdout.read())
    return found, round(most / 1e6)


def run(args: argparse.Namespace) -> None:
    """A row for each count, added to what the file has."""
    from sprint_export.validate.machine import describe_machine

    found = json.loads(args.out.read_text("utf-8")) if args.out.is_file() else {}
    rows = found.setdefault(args.label, [])
    for count in map(int, args.counts.split(",")):
        command = [sys.executable, __file__, "one", str(args.bundle), "--student", args.student, "--counts", str(count)]
        command += ["--compare"] if args.compare else []
        with tempfile.TemporaryDirectory() as cache:
            row, most = watch(command, Path(cache))
        rows.append({"pictures": count} | row | {"cache_mb": most, "machine": describe_machine(), "load": os.getloadavg()[0]})
        print(args.label, rows[-1], flush=True)
        args.out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def main() -> None:
    """Make, measure, or measure one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["make", "run", "one"])
    parser.add_argument("bundle", type=Path, nargs="?")
    parser.add_argument("--student")
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--counts", default="32,64,128")
    parser.add_argument("--compare", action="store_true", help="compare in place of validate")
    parser.add_argument("--label", default="now")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.verb == "make":
        make(args)
    elif args.verb == "run":
        args.student = args.student or "sprint-tiny"
        run(args)
    else:
        work = measure_comparison if args.compare else measure
        print(json.dumps(work(args.bundle, args.student, int(args.counts))))


if __name__ == "__main__":
    main()
