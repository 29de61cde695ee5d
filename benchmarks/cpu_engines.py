"""SANA-Sprint 0.6B on a CPU, random weights: PyTorch, ONNX Runtime and OpenVINO, ours and plain, in one run.

    python benchmarks/cpu_engines.py                                  # everything, about 20 minutes on two cores
    python benchmarks/cpu_engines.py --role transformer --pixels 512  # one network, smaller pictures
    python benchmarks/cpu_engines.py --engine openvino-int8 --engine nncf

Every preparation and every engine is a process of its own: peak memory is its own, and none warms another's caches. Engines take
turns, ROUNDS times; of all timed runs the minimum and the median are kept. A run of some roles keeps the others' rows of the file
that is there, with the command that made them, if machine and pixels are the same. The transformer runs at --pixels (1024), the
decoder at --decoder-pixels (512); the sum for a whole picture counts the decoder by area. `snr_db` compares an engine's output
with that of PyTorch float32 on the same inputs; with random weights it ranks the engines and says nothing about pictures.
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

import cpu_networks
import cpu_peers
import numpy as np

from sprint_export.validate.machine import describe_machine

ROLES = ("text_encoder", "transformer", "vae_decoder")
ENGINES = ("torch-float32", "torch-bfloat16", *cpu_peers.PEERS, *cpu_networks.OURS)
ROUNDS, RUNS, PROMPTS = 2, 3, 4  # recipes smooth, which wants more than one prompt


def prepare(role: str, pixels: int, engine: str, folder: Path) -> None:
    """Make an engine's files."""
    if engine in cpu_peers.PEERS:
        cpu_peers.prepare(pixels, engine, folder)
    else:
        cpu_networks.export(role, pixels, engine, PROMPTS, folder)


def calibrate(role: str, pixels: int, engine: str, folder: Path) -> None:
    """Measure ranges in torch; they go to the cache, from which `prepare` takes them."""
    cpu_networks.quantized(role, pixels, engine, PROMPTS)


def run(role: str, pixels: int, engine: str, folder: Path) -> list[float]:
    """Load, run once to warm up, then time; the output is left in the folder."""
    if engine in cpu_peers.PEERS:
        call = cpu_peers.open_peer(pixels, engine, folder)
    elif engine in cpu_networks.OURS:
        call = cpu_networks.open_ours(role, pixels, engine, folder)
    else:
        call = cpu_networks.open_torch(role, pixels, engine.removeprefix("torch-"))
    np.save(folder / "output.npy", call())
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def spawn(function: str, role: str, pixels: int, engine: str, folder: Path) -> dict[str, Any]:
    """Seconds, peak gigabytes and result of a function of this file in a process of its own."""
    script = (
        "import json, resource; from pathlib import Path; import cpu_engines;"
        f"found = cpu_engines.{function}({role!r}, {pixels}, {engine!r}, Path({str(folder)!r}));"
        "print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, found]))"
    )
    folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parent, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{function} {engine} {role} failed ({done.returncode}):\n{done.stderr[-3000:]}")
    peak, found = json.loads(done.stdout.strip().splitlines()[-1])
    return {"seconds": round(time.monotonic() - start, 1), "peak_gb": round(peak * 1024 / 1e9, 2), "result": found}


def measure_role(role: str, pixels: int, engines: list[str], work: Path) -> dict[str, Any]:
    """All engines on one network: what preparing each took, then its times and its distance from PyTorch float32."""
    rows: dict[str, dict[str, Any]] = {engine: {} for engine in engines}
    is_calibrated = False
    for engine in engines:
        for function in ("calibrate", "prepare"):
            is_int8 = engine in cpu_networks.OURS and engine.endswith("int8")
            if engine.startswith("torch") or (function == "calibrate" and (not is_int8 or is_calibrated)):
                continue
            found = spawn(function, role, pixels, engine, work / role / engine)
            is_calibrated = is_calibrated or function == "calibrate"
            rows[engine] |= {f"{function}_s": found["seconds"], f"{function}_peak_gb": found["peak_gb"]}
            print(role, engine, function, rows[engine], flush=True)
    times: dict[str, list[float]] = {engine: [] for engine in engines}
    for _ in range(ROUNDS):
        for engine in engines:
            found = spawn("run", role, pixels, engine, work / role / engine)
            times[engine] += found["result"]
            rows[engine]["run_peak_gb"] = found["peak_gb"]
            print(role, engine, [round(value, 3) for value in found["result"]], flush=True)
    outputs = {engine: np.load(work / role / engine / "output.npy").astype(np.float64) for engine in engines}
    for engine, values in times.items():
        rows[engine] |= {"min_s": round(min(values), 3), "median_s": round(float(np.median(values)), 3)}
        if engine != "torch-float32" and "torch-float32" in outputs:
            exact = outputs["torch-float32"]
            noise = float(np.mean((outputs[engine] - exact) ** 2))
            rows[engine]["snr_db"] = round(10 * float(np.log10(np.mean(exact**2) / noise)), 1)
    return rows


def add_up(found: dict[str, dict[str, Any]], area: float) -> dict[str, float]:
    """Seconds of a whole picture by engine, from the minimums, where an engine ran all three networks."""
    totals = {}
    for engine in ENGINES:
        rows = [found[role].get(engine, {}).get("min_s") for role in ROLES if role in found]
        if len(rows) == len(ROLES) and None not in rows:
            totals[engine] = round(rows[0] + rows[1] + area * rows[2], 2)
    return totals


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--role", action="append", choices=ROLES, help="default: all")
    parser.add_argument("--engine", action="append", choices=ENGINES, help="default: all that make sense for the network")
    parser.add_argument("--pixels", type=int, default=1024, help="of the transformer's pictures")
    parser.add_argument("--decoder-pixels", type=int, default=512, help="of the decoder's pictures")
    options = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory(prefix="sprint-export-") as folder:
        os.environ["SPRINT_EXPORT_CACHE"] = str(Path(folder) / "cache")
        for role in options.role or ROLES:
            engines = [e for e in options.engine or ENGINES if e not in cpu_peers.PEERS or role == "transformer"]
            if options.engine is None and role != "transformer":
                engines = [e for e in engines if not e.startswith("onnx")]
            pixels = options.decoder_pixels if role == "vae_decoder" else options.pixels
            found[role] = measure_role(role, pixels, engines, Path(folder))
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "cpu_engines.json"
    path.write_text(json.dumps(add_to(path, found, options.pixels, options.decoder_pixels), indent=1) + "\n")
    print(path.read_text())


def add_to(path: Path, found: dict[str, Any], pixels: int, decoder_pixels: int) -> dict[str, Any]:
    """The table with these networks' rows in place of those it has; the sums anew."""
    old = json.loads(path.read_text()) if path.exists() else {}
    command, machine = " ".join(["python benchmarks/cpu_engines.py", *sys.argv[1:]]), describe_machine()
    sides = {"transformer": pixels, "vae_decoder": decoder_pixels}
    if (old.get("machine"), old.get("pixels")) != (machine, sides):
        old = {}
    networks = old.get("networks", {}) | found
    area = (pixels / decoder_pixels) ** 2
    return {
        "machine": machine,
        "student": f"random:{cpu_networks.NAME}",
        "pixels": sides,
        "commands": old.get("commands", {}) | dict.fromkeys(found, command),
        "networks": networks,
        "whole_picture_s": add_up(networks, area),
        "whole_picture_note": f"text encoder + transformer + {area:g} x decoder, minimums",
    }


if __name__ == "__main__":
    main()
