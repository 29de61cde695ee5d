"""Large students through a small machine: seconds, peak memory and sizes of what an export does, network by network.

    python benchmarks/large_students.py --student random:sana-sprint-1.6b --targets onnx-int8,trt-fp8 --out large.json
    python benchmarks/large_students.py --student random:PRESET --roles transformer --targets trt-fp8,trt-w4a16 --parse
    python benchmarks/large_students.py --student /tmp/students/1.6b --targets trt-fp8 --torch

Every row is a process of its own, and says what the system counted of it: seconds and peak memory of reading, specializing,
quantizing and exporting one network, and the bytes of its files, which are removed again. Recipes are the target's own; ranges
of inputs are made up (`RANGE`), since measuring them is a forward pass and no part of this; so GPTQ, which needs one as well, is
left out and weights are rounded plainly. `--layers` shortens lists of equal blocks in a preset, to try the command. `--torch`
adds `torch.onnx.export` of the same modules to a file of the graph's float type, `--parse` TensorRT's parser on the graphs,
`--build` its engine for an RTX 4090, with the price of those kernels on several cards.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RANGE = 4.0  # of every input whose range is measured
PRICED = ("rtx-4070", "rtx-4080", "rtx-4090", "rtx-5090")  # from the kernels of the RTX 4090's engine


def measure(source: str, name: str, role: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """One network of a student for one target, in this process."""
    from sprint_export.conversion import keep_components
    from sprint_export.export.student import export_student
    from sprint_export.progress import Step
    from sprint_export.run_checks import load_libraries, read_deployment
    from sprint_export.specialize import specialize_student
    from sprint_export.students import load_student

    phases, deployment = Phases(), read_deployment(name)
    load_libraries(lambda *_: None)
    phases.end("loading libraries")
    student = shorten(load_student(source), chosen.layers)
    phases.end("reading student")
    student = keep_components(specialize_student(student, layout=deployment.target.choose_layout({})), (role,))
    phases.end("specializing")
    student = quantize(student, deployment)
    phases.end("quantizing")
    out = Path(tempfile.mkdtemp(dir=chosen.disk)) / "bundle"

    def tell(step: Step, done: int, total: int) -> None:
        print(f"\r{step} {done / max(total, 1):.0%}", end="", file=sys.stderr, flush=True)

    try:
        bundle = export_student(student, deployment, out, tell)
        phases.end("exporting")
        graph = bundle.folder / role / "model.onnx"
        found: dict[str, Any] = {
            "values": sum(handle.values for handle in map(Values, student.components[role].weights.values())),
            "stored": bundle.components[0].precision_counts,
            "bytes": {artifact.path: artifact.bytes for artifact in bundle.artifacts if artifact.role == role},
            "phases": phases.found,
            "seconds": round(sum(phase["seconds"] for phase in phases.found.values()), 1),
            "peak_gb": max(phase["peak_gb"] for phase in phases.found.values()),
        }
        if chosen.parse or chosen.build:
            found["tensorrt"] = run_row(["--row", f"engine,{graph}"], chosen)
    finally:
        shutil.rmtree(out.parent, ignore_errors=True)
    return found


@dataclasses.dataclass
class Values:
    """How many values a handle has."""

    handle: Any

    @property
    def values(self) -> int:
        import math

        return math.prod(self.handle.shape)


class Phases:
    """Seconds and peak memory of what was done since the last `end`."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, float]] = {}
        self._start = time.perf_counter()

    def end(self, name: str) -> None:
        """Give what was done a name, and begin anew."""
        seconds, self._start = time.perf_counter() - self._start, time.perf_counter()
        self.found[name] = {"seconds": round(seconds, 1), "peak_gb": read_peak()}
        forget_peak()


def read_peak() -> float:
    """VmHWM of this process, GB; since `forget_peak` where the system has that."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return round(int(line.split()[1]) * 1024 / 1e9, 2)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2)


def forget_peak() -> None:
    """Have the system count VmHWM from here on; Linux alone can."""
    resets = Path("/proc/self/clear_refs")
    if resets.exists():
        resets.write_text("5")


def shorten(student: Any, layers: int | None) -> Any:
    """A student whose lists of more than `layers` blocks have only so many, for a try."""
    if layers is None:
        return student
    import torch
    from transformers import PretrainedConfig

    components, configs = {}, dict(student.configs)
    for role, component in student.components.items():
        module = component.module
        cut = {key for key, value in configs[role].items() if "layers" in key and isinstance(value, int) and value > layers}
        counts = {configs[role][key] for key in cut}
        configs[role] = dict(configs[role]) | dict.fromkeys(cut, layers)
        for path, child in list(module.named_modules()):
            if isinstance(child, torch.nn.ModuleList) and len(child) in counts:
                owner, _, leaf = path.rpartition(".")
                setattr(module.get_submodule(owner), leaf, child[:layers])
        if isinstance(getattr(module, "config", None), PretrainedConfig):
            for key in cut:
                setattr(module.config, key, layers)  # type: ignore[union-attr]
        names = module.state_dict()
        weights = {name: handle for name, handle in component.weights.items() if name in names}
        components[role] = dataclasses.replace(component, module=module, weights=weights)
    return dataclasses.replace(student, components=components, configs=configs)


def quantize(student: Any, deployment: Any) -> Any:
    """The student by the target's own recipe, its ranges made up."""
    from sprint_export.nouns.recipe import QuantizedLayer
    from sprint_export.quantize.patterns import FLOAT
    from sprint_export.quantize.schemes.scheme import load_scheme
    from sprint_export.quantize.student import decide_layers

    target, precision = deployment.target, deployment.precision
    if not deployment.offer.is_quantized:
        return student
    recipe, explained, _ = decide_layers(student, precision, target, None)
    components = {}
    for role, component in student.components.items():
        layers = {}
        for decision in explained:
            owner, _, name = decision.layer.partition(".")
            if owner == role and decision.precision != FLOAT:
                scheme, shape = load_scheme(decision.precision), component.weights[f"{name}.weight"].shape
                amax = RANGE if scheme.inputs is not None and not scheme.inputs.is_dynamic else None
                dtype, group = target.scale_dtype or target.graph_dtype[precision], target.find_offer(decision.precision).group
                layers[name] = QuantizedLayer(decision.precision, amax, scheme.weight_axis, dtype, scheme.fit_group(shape, group))
        mine = tuple(decision for decision in explained if decision.layer.startswith(f"{role}."))
        components[role] = dataclasses.replace(component, layers=layers, decisions=mine)
    return dataclasses.replace(student, recipe=recipe, components=components)


def measure_torch(source: str, name: str, role: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """torch's own exporter, with its default passes, on the same module with its weights in the graph's type, to a file."""
    import torch

    from sprint_export.export.to_onnx import writer
    from sprint_export.nouns.recipe import FLOAT_DTYPES
    from sprint_export.run_checks import read_deployment
    from sprint_export.specialize import specialize_student
    from sprint_export.students import load_student
    from sprint_export.weights import materialize

    deployment, phases = read_deployment(name), Phases()
    student = specialize_student(shorten(load_student(source), chosen.layers), layout=deployment.target.choose_layout({}))
    component, dtype = student.components[role], FLOAT_DTYPES[deployment.target.graph_dtype[deployment.precision]]
    module = materialize(component.module, component.weights, getattr(torch, dtype))
    phases.end("reading weights")
    with tempfile.TemporaryDirectory(dir=chosen.disk) as folder, writer._quiet(), torch.no_grad():
        example = writer.make_example(component.inputs)[0]
        inputs = tuple(torch.zeros(value.shape, dtype=value.dtype) for value in example)
        torch.onnx.export(module, inputs, f"{folder}/model.onnx", dynamo=True, opset_version=writer.OPSET, verbose=False)
    phases.end("torch.onnx.export")
    peak = max(phase["peak_gb"] for phase in phases.found.values())
    return {"phases": phases.found, "seconds": phases.found["torch.onnx.export"]["seconds"], "peak_gb": peak}


def measure_engine(graph: Path, is_built: bool) -> dict[str, Any]:
    """TensorRT's parser on a graph and, where it is asked for, its engine for an RTX 4090 with its price."""
    from sprint_export.devices import find_device
    from sprint_export.registry import load_target
    from sprint_export.runtimes.trt.kernels import price_kernels, read_kernels
    from sprint_export.runtimes.trt.library import load_library, open_log

    target, device, phases = load_target("trt"), find_device("rtx-4090"), Phases()
    if is_built:
        made = target.build(graph, device, "tensorrt-rtx", lambda text: print(text, file=sys.stderr))  # type: ignore[attr-defined]
        phases.end("engine")
        kernels = read_kernels(made["kernels"])
        prices = {name: price_kernels(kernels, find_device(name)).milliseconds for name in PRICED}
        return phases.found["engine"] | {
            "engine_bytes": made["engine"].stat().st_size,
            "kernels": price_kernels(kernels, device).kernels,
            "priced_ms": {name: round(price, 3) for name, price in prices.items()},
        }
    trt = load_library("tensorrt-rtx")
    log = open_log(trt)
    network = trt.Builder(log).create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    is_read = parser.parse_from_file(str(graph))
    phases.end("parser")
    errors = [parser.get_error(i).desc() for i in range(parser.num_errors)]
    return phases.found["parser"] | {"is_read": bool(is_read), "layers": network.num_layers, "errors": errors[:3]}


def run_row(row: list[str], chosen: argparse.Namespace) -> dict[str, Any]:
    """What a process of its own says in its last line; or how it ended."""
    command = [sys.executable, __file__, *row, "--disk", str(chosen.disk)]
    command += ["--layers", str(chosen.layers)] if chosen.layers else []
    command += [flag for flag, is_set in (("--parse", chosen.parse), ("--build", chosen.build)) if is_set]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ)
    lines = done.stdout.splitlines()
    value: dict[str, Any] = json.loads(lines[-1]) if done.returncode == 0 and lines else {"exit_status": done.returncode}
    return value


def main() -> None:
    """A row for each target and network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", default="random:sana-sprint-0.6b", help="what --student of the command takes")
    parser.add_argument("--targets", default="onnx-int8,trt-fp8")
    parser.add_argument("--roles", help="default: all networks")
    parser.add_argument("--layers", type=int, help="of lists of equal blocks")
    parser.add_argument("--disk", default=tempfile.gettempdir(), help="where graphs are written, and removed from")
    for flag in ("--torch", "--parse", "--build"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--row", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.row:
        kind, *rest = chosen.row.split(",")
        if kind == "engine":
            print(json.dumps(measure_engine(Path(rest[0]), chosen.build)))
        else:
            print(json.dumps({"torch": measure_torch, "row": measure}[kind](*rest, chosen)))
        return
    from sprint_export.validate.machine import describe_machine

    roles, rows = (chosen.roles or ",".join(list_roles(chosen.student))).split(","), []
    for name in chosen.targets.split(","):
        for role in roles:
            for kind in ("row", *(("torch",) if chosen.torch else ())):
                rows.append({"tool": "torch.onnx.export" if kind == "torch" else "sprint-export", "target": name, "role": role})
                rows[-1] |= run_row(["--row", f"{kind},{chosen.student},{name},{role}"], chosen)
                print(json.dumps(rows[-1]), flush=True)
    command = " ".join(["python", "benchmarks/large_students.py", *sys.argv[1:]])
    if chosen.out:
        chosen.out.write_text(json.dumps({"command": command, "machine": describe_machine(), "rows": rows}, indent=1) + "\n")


def list_roles(source: str) -> tuple[str, ...]:
    """All networks of a student."""
    from sprint_export.students import load_student

    return tuple(load_student(source).components)


if __name__ == "__main__":
    main()
