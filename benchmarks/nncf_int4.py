"""Four bits on a CPU: `openvino-int4` as NNCF packs it, NNCF alone on our float IR, and our own `onnx-w4a16`, on sprint-tiny.

    python benchmarks/nncf_int4.py --count 64 --out benchmarks/results/nncf_int4.json

All start from one student and draw the same held-out captions from the same noise; decibels are from the pictures of `onnx-fp32`,
which validation measures at 86 dB from PyTorch. `nncf alone` is `nncf.compress_weights(model, mode=INT4_SYM, group_size=64)` of
every network of `openvino-fp16` with nothing else said: NNCF chooses layers and what stays in 8 bits (its own groups of 128 do
not divide rows of 192, which it refuses). Milliseconds are the median of interleaved pictures, all cores, at default options;
megabytes are those of graphs and weights.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from sprint_export.bundle_files import APP
from sprint_export.conversion import convert
from sprint_export.export.bundle import make_artifact, read_bundle, write_bundle
from sprint_export.psnr import psnr_images
from sprint_export.runtimes import open_bundle
from sprint_export.students import load_student
from sprint_export.validate.machine import describe_machine

STUDENT, REFERENCE, ALONE = "sprint-tiny", "onnx-fp32", "nncf alone"
TARGETS = ("openvino-fp16", "openvino-int8", "openvino-int4", "onnx-w4a16")
ROUNDS = 15
GROUP = 64


def compress_alone(source: Path, folder: Path) -> None:
    """A copy of a float bundle whose networks NNCF has compressed, everything left to it."""
    import dataclasses

    import nncf
    import openvino

    shutil.copytree(source, folder)
    bundle = read_bundle(folder)
    for record in bundle.components:
        path = folder / record.role / "openvino_model.xml"
        model = nncf.compress_weights(openvino.Core().read_model(path), mode=nncf.CompressWeightsMode.INT4_SYM, group_size=GROUP)
        openvino.save_model(model, folder / "new.xml", compress_to_fp16=False)
        for suffix in (".xml", ".bin"):
            (folder / "new.xml").with_suffix(suffix).replace(path.with_suffix(suffix))
    kept = [artifact for artifact in bundle.artifacts if artifact.path != APP]  # whose hashes are of the float files
    made = [make_artifact(folder, folder / a.path, a.role, a.kind, a.format) for a in kept]
    write_bundle(dataclasses.replace(bundle, artifacts=tuple(made)))


def count_megabytes(folder: Path) -> float:
    """Of graphs and weights."""
    return sum(a.bytes for a in read_bundle(folder).artifacts if a.kind in ("graph", "weights")) / 1e6


def measure(pipelines: dict[str, Any], prompts: list[str]) -> dict[str, list[float]]:
    """Milliseconds of pictures by row, one of each in turn."""
    found: dict[str, list[float]] = {name: [] for name in pipelines}
    for i in range(ROUNDS):
        for name, pipeline in pipelines.items():
            start = time.perf_counter()
            pipeline(prompts[:1], seed=i)
            found[name].append(1e3 * (time.perf_counter() - start))
    return found


def main() -> None:
    """Make the bundles, draw, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    prompts = list(load_student(STUDENT).validation_prompts[: asked.count])
    with tempfile.TemporaryDirectory() as temporary:
        folders = {name: Path(temporary) / name for name in (REFERENCE, *TARGETS)}
        for name, folder in folders.items():
            convert(STUDENT, name, folder, validate=False)
        folders[ALONE] = Path(temporary) / "alone"
        compress_alone(folders["openvino-fp16"], folders[ALONE])
        pipelines = {name: open_bundle(folder) for name, folder in folders.items()}
        wanted = pipelines[REFERENCE](prompts, seed=0)
        milliseconds = measure(pipelines, prompts)
        rows = {}
        for name in (*TARGETS, ALONE):
            decibels = psnr_images(pipelines[name](prompts, seed=0), wanted)
            rows[name] = {
                "psnr_db": round(float(decibels.mean()), 2),
                "psnr_worst_db": round(float(decibels.min()), 2),
                "megabytes": round(count_megabytes(folders[name]), 3),
                "picture_ms": round(float(np.median(milliseconds[name])), 2),
                "runtime": pipelines[name].description,
            }
            print(name, rows[name], flush=True)
    value = {"command": f"benchmarks/nncf_int4.py --count {asked.count}", "machine": describe_machine(), "rows": rows}
    asked.out.write_text(json.dumps(value, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
