"""SANA-Sprint 0.6B whole at 1024 px (transformer, DC-AE decoder, Gemma-2-2b), random weights, as Core ML packages made on Linux.

    python benchmarks/full_size_apple.py --out benchmarks/results

For an 8 GB iPhone (Neural Engine, parts of up to 1 GB) and a 16 GB Mac (GPU, up to 2 GB), in fp16 and int8: seconds, peak memory
and size of every network, each in a process of its own; then the saved transformers are evaluated op by op and compared with
PyTorch float32. Nothing here ran on an Apple device.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sprint_export.devices import find_device
from sprint_export.nouns.order import Deployment
from sprint_export.validate.machine import describe_machine

STUDENT = "random:sana-sprint-0.6b"
DEVICES = ("iphone-15-pro", "mac-m1")
PRECISIONS = ("fp16", "int8")
ROLES = ("transformer", "vae_decoder", "text_encoder")


def export(work: Path, device: str, precision: str, role: str) -> dict[str, Any]:
    """One network of one bundle; what it weighs and how it was cut."""
    from sprint_export.conversion import keep_components
    from sprint_export.export import export_student
    from sprint_export.options import complete_options
    from sprint_export.quantize import quantize_student
    from sprint_export.registry import load_target
    from sprint_export.specialize import specialize_student
    from sprint_export.students import load_student

    target, place = load_target("coreml"), find_device(device)
    options = complete_options(target, precision, place, {})
    student = specialize_student(load_student(STUDENT), layout=target.choose_layout(options))
    student = quantize_student(keep_components(student, [role]), precision, target)
    deployment = Deployment(target, precision, place, options)
    bundle = export_student(student, deployment, work / f"{device}-{precision}-{role}")
    sizes = [artifact.bytes for artifact in bundle.artifacts if artifact.kind == "weights"]
    return {
        "packages": len(bundle.components[0].parts),
        "weights_mb": round(sum(sizes) / 1e6, 1),
        "largest_file_mb": round(max(sizes) / 1e6, 1),
        "stored": dict(bundle.components[0].precision_counts),
    }


def check(work: Path, device: str, precision: str, role: str) -> dict[str, Any]:
    """The saved transformer, evaluated op by op, beside PyTorch float32 on the same unit noise."""
    import numpy as np

    from sprint_export.export.bundle import read_bundle
    from sprint_export.quantize.torch_session import TorchSession
    from sprint_export.runtimes.open import open_session
    from sprint_export.runtimes.runtime import load_runtime
    from sprint_export.specialize import specialize_student
    from sprint_export.students import load_student
    from sprint_export.validate.images import psnr_arrays

    bundle = read_bundle(work / f".{device}-{precision}-{role}.partial", verify=False)
    component = specialize_student(load_student(STUDENT)).components[role]
    rng = np.random.default_rng(0)
    shapes = {spec.name: spec.shape for spec in component.inputs}
    feeds = {
        "latents": rng.standard_normal(shapes["latents"], np.float32),
        "prompt_embeds": rng.standard_normal(shapes["prompt_embeds"], np.float32),
        "prompt_mask": np.ones(shapes["prompt_mask"], np.int64),
    }
    wanted = TorchSession(component).run(feeds)["denoised"]
    session = open_session(bundle, load_runtime("coreml-checker"), role)
    start = time.monotonic()
    found = session.run(feeds)["denoised"]
    return {
        "check_s": round(time.monotonic() - start, 1),
        "psnr_db": round(psnr_arrays(found, wanted), 1),
        "findings": {row.metric: row.value for row in session.findings()},  # type: ignore[attr-defined]
    }


def measure(phase: str, work: Path, *arguments: str) -> dict[str, Any]:
    """A phase in a process of its own: its result, seconds and peak gigabytes (imports included)."""
    script = (
        "import json, resource; from pathlib import Path; import full_size_apple as f;"
        f"found = f.{phase}(Path({str(work)!r}), *{arguments!r});"
        "found['peak_gb'] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2); print(json.dumps(found))"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parent, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{phase} {arguments} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return {"seconds": round(time.monotonic() - start, 1)} | found


def main() -> None:
    """Run all phases and write the table; what is measured again (--role, --device, --precision) takes its rows' place."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    for name, choices in (("device", DEVICES), ("precision", PRECISIONS), ("role", ROLES)):
        parser.add_argument(f"--{name}", choices=choices, action="append")
    asked = parser.parse_args()
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="sprint-export-") as folder:
        os.environ["SPRINT_EXPORT_CACHE"] = f"{folder}/cache"
        for device in asked.device or DEVICES:
            for precision in asked.precision or PRECISIONS:
                for role in asked.role or ROLES:
                    name = f"{device} {precision} {role}"
                    rows[name] = measure("export", Path(folder), device, precision, role)
                    if role == "transformer":
                        rows[f"{name} checked"] = measure("check", Path(folder), device, precision, role)
                    print(name, rows[name], rows.get(f"{name} checked", ""), flush=True)
    command = " ".join(["python benchmarks/full_size_apple.py", *sys.argv[1:]])
    path = asked.out / "full_size_apple.json"
    asked.out.mkdir(parents=True, exist_ok=True)
    before = json.loads(path.read_text())["rows"] if path.is_file() else {}
    rows = before | {name: row | {"command": command} for name, row in rows.items()}
    found = {"machine": describe_machine(), "student": STUDENT, "rows": rows}
    path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
