"""What one network of SANA-Sprint 0.6B at 1024 px costs on an RTX card, priced from the builder's kernel table; random weights.

    python benchmarks/rtx_prices.py transformer                         # or vae_decoder, text_encoder
    python benchmarks/rtx_prices.py transformer --layers 4 --graphs trt-fp8 modelopt-fp8

Graphs: ours (trt-fp8, trt-int8, trt-bf16); `plain-bf16`, what one writes without this package (the stock module through
torch.onnx.export); `modelopt-fp8`, the stock module quantized by modelopt, whose `onnx` extra wants another onnx than ours,
so install what it imports with `pip install --no-deps onnx-graphsurgeon onnxslim onnxconverter-common lief polygraphy`. All
go through one builder and one price list (runtimes/trt/kernels.py); milliseconds are arithmetic on the kernel table, no latency.
Every phase runs in a process of its own, so seconds and peak memory are the phase's, imports included. A graph that cannot
be made is recorded with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from sprint_export.devices import find_device
from sprint_export.runtimes.trt.kernels import parse_kernels, price_kernels
from sprint_export.students.sana_sprint.family import FAMILY
from sprint_export.validate.machine import describe_machine

ROLES = FAMILY.chain.list_missing(())  # without which there is no picture

PRESET, DEVICE = "sana-sprint-0.6b", "rtx-4090"
PROMPTS = 2  # random weights: ranges are what they are, kernels and bytes do not depend on them
OURS, PLAIN, MODELOPT = ("trt-fp8", "trt-int8", "trt-bf16"), "plain-bf16", "modelopt-fp8"
GRAPHS = (*OURS, PLAIN, MODELOPT)
DEPTH = {"transformer": "num_layers", "text_encoder": "num_hidden_layers"}  # the config key that --layers overrides


def make_student(role: str, layers: int | None) -> Any:
    """The published shape, or a slice of it that is `layers` deep."""
    from sprint_export.students.sana_sprint.presets import build_preset
    from sprint_export.students.sana_sprint.published import PRESETS

    preset = PRESETS[PRESET]
    if layers is not None:
        preset = replace(preset, **{role: dict(getattr(preset, role)) | {DEPTH[role]: layers}})
    return build_preset(preset, f"random:{PRESET}:{role}:{layers}", 0)


def calibrate(role: str, layers: int | None, graph: str, work: Path) -> None:
    """Ranges of the specialized network, kept in the cache for every precision."""
    _quantized(role, layers, "fp8")


def export(role: str, layers: int | None, graph: str, work: Path) -> None:
    """The graph, as `<work>/<graph>/model.onnx`."""
    if graph in OURS:
        from sprint_export.export.to_onnx.writer import EXPORTER

        student, target = _quantized(role, layers, precision := graph.removeprefix("trt-"))
        EXPORTER.write_component(student.components[role], target, precision, {}, work / graph)
    elif graph == PLAIN:
        _export_stock(role, layers, "bfloat16", work / graph / "model.onnx")
    else:
        _export_stock(role, layers, "float32", work / graph / "float.onnx")
        from modelopt.onnx.quantization import quantize

        path = work / graph
        quantize(str(path / "float.onnx"), quantize_mode="fp8", high_precision_dtype="bf16", output_path=str(path / "model.onnx"))
        for file in path.glob("float.onnx*"):
            file.unlink()


def build(role: str, layers: int | None, graph: str, work: Path) -> None:
    """Its engine for SM89."""
    from sprint_export.runtimes.trt.target import build as build_engine

    build_engine(work / graph / "model.onnx", find_device(DEVICE), "tensorrt-rtx", lambda message: None)


PHASES = {"calibrate": calibrate, "export": export, "build": build}


def _quantized(role: str, layers: int | None, precision: str) -> Any:
    from sprint_export.conversion import keep_components
    from sprint_export.quantize import quantize_student
    from sprint_export.quantize.recipes import default_recipe
    from sprint_export.registry import load_target
    from sprint_export.specialize import specialize_student

    student = keep_components(specialize_student(make_student(role, layers)), [role])
    target = load_target("trt")
    if precision == "bf16":
        return student, target
    recipe = default_recipe(precision, student, target)
    return quantize_student(student, precision, target, replace(recipe, prompts=recipe.prompts[:PROMPTS])), target


def _export_stock(role: str, layers: int | None, dtype: str, path: Path) -> None:
    """The unchanged diffusers or transformers module through torch.onnx.export."""
    import torch

    from sprint_export.weights import materialize

    student = make_student(role, layers)
    kind = getattr(torch, dtype)
    module = materialize(student.components[role].module, student.components[role].weights, kind)
    latents = torch.zeros(1, *student.latent_shape, dtype=kind)
    inputs: dict[str, torch.Tensor]
    if role == "transformer":
        inputs = {
            "hidden_states": latents,
            "encoder_hidden_states": torch.zeros(1, 300, student.configs[role]["caption_channels"], dtype=kind),
            "timestep": torch.ones(1),
            "guidance": torch.full((1,), 0.45, dtype=kind),
            "encoder_attention_mask": torch.ones(1, 300, dtype=torch.int64),
        }
    elif role == "vae_decoder":
        module, inputs = module.get_submodule("decoder"), {"hidden_states": latents}
    else:
        ids = torch.ones(1, student.prompt.tokens, dtype=torch.int64)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        module.config.use_cache = False  # type: ignore[union-attr]  # a transformers module
    torch.onnx.export(module, (), str(path), kwargs=inputs, dynamo=True, external_data=True)


def run_phase(phase: str, options: argparse.Namespace, graph: str, work: Path) -> dict[str, Any]:
    """Seconds and peak gigabytes of one phase in a process of its own, or why it failed."""
    command = [sys.executable, __file__, options.role, "--phase", phase, "--graphs", graph, "--work", str(work)]
    command += [] if options.layers is None else ["--layers", str(options.layers)]
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"SPRINT_EXPORT_CACHE": str(work / "cache")})
    seconds = round(time.monotonic() - start, 1)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return {"seconds": seconds, "failed": lines[-1][:300] if lines else f"exit status {done.returncode} (-9: out of memory)"}
    return {"seconds": seconds, "peak_gb": round(float(done.stdout.splitlines()[-1]), 2)}


def weigh(folder: Path) -> dict[str, Any]:
    """Files, kernels and price of one engine."""
    summary = price_kernels(parse_kernels(next(folder.glob("*.layers.txt")).read_text()), find_device(DEVICE))
    return {
        "graph_mb": round(sum(path.stat().st_size for path in folder.glob("model.onnx*")) / 1e6, 1),
        "engine_mb": round(next(folder.glob("*.engine")).stat().st_size / 1e6, 1),
        "kernels": summary.kernels,
        "priced_ms": round(summary.milliseconds, 3),
        "moved_gb": round(summary.bytes / 1e9, 3),
        "multiplying_kernels": dict(summary.by_dtype),
        "fused_attention": summary.attention_kernels,
        "priced_by_bytes_alone": list(summary.unmatched),
        "most_expensive_us": [[name[:60], round(1e3 * price, 1)] for name, price in summary.most_expensive],
    }


def measure_graph(graph: str, options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Its phases, and what came out if they went well."""
    (work / graph).mkdir()
    found: dict[str, Any] = {"phases": {}}
    for phase in ("export", "build"):
        found["phases"][phase] = run_phase(phase, options, graph, work)
        print(graph, phase, found["phases"][phase], flush=True)
        if "failed" in found["phases"][phase]:
            return found
    return found | weigh(work / graph)


def main() -> None:
    """Run all phases and write the table; or, as the process of one phase, that phase."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", choices=ROLES)
    parser.add_argument("--graphs", nargs="+", choices=GRAPHS, default=list(GRAPHS))
    parser.add_argument("--layers", type=int, help="price a slice this deep; its figures are the slice's")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--phase", choices=PHASES, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.layers is not None and options.role not in DEPTH:
        parser.error(f"--layers: {options.role} has no number of layers to override; it is for {', '.join(DEPTH)}")
    if options.phase:
        PHASES[options.phase](options.role, options.layers, options.graphs[0], options.work)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)
        return
    with tempfile.TemporaryDirectory(prefix="sprint-export-") as folder:
        work = Path(folder)
        found: dict[str, Any] = {
            "command": f"python benchmarks/rtx_prices.py {' '.join(sys.argv[1:])}",
            "machine": describe_machine(),
            "student": f"random:{PRESET}",
            "device": DEVICE,
            "layers": options.layers or "all",
            "graphs": {},
        }
        if set(options.graphs) & {"trt-fp8", "trt-int8"}:
            found["calibrate"] = run_phase("calibrate", options, "trt-fp8", work)
            print("calibrate", found["calibrate"], flush=True)
        for graph in options.graphs:
            found["graphs"][graph] = measure_graph(graph, options, work)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"rtx_{options.role}{'' if options.layers is None else f'_{options.layers}_layers'}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(path.read_text())


if __name__ == "__main__":
    main()
