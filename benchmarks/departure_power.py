"""How small a fault does the departures check find? One thing of a whole bundle is changed, less and less, until nothing is said.

    python benchmarks/departure_power.py --out benchmarks/results/departure_power.json

Each fault is halved while it is found; what is written is the smallest relative change that was found. With the
source folder of an older commit on PYTHONPATH the same faults are tried on that commit's check.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))  # tests/ is no installed package

from sprint_export.conversion import convert
from sprint_export.libraries import hush
from sprint_export.nouns.bundle import Bundle
from sprint_export.runtimes.coreml.departures import search_component
from sprint_export.runtimes.coreml.mil.program import read_program
from sprint_export.runtimes.coreml.package import package_of
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from tests.export.to_onnx.graphs import make_feeds
from tests.made_student import PROMPTS
from tests.runtimes.coreml.mil.mil_programs import change_literal, change_weight

DTYPE = "fp16"  # of the graphs of all precisions below
SIZES = [2.0**-k for k in range(-4, 15)]  # 16 times as much, down to 1/16,384
Fault = Callable[[Path, float], None]  # package, size


def scale_weight(reads: str, kind: str, part: str = "") -> Fault:
    """Multiply one element (of the weight's scale, with a part) by 1 + size; float16."""

    def plant(package: Path, size: float) -> None:
        program = read_program(package)
        names = [name for op in program.ops if op.type == kind for name in op.operands if reads in name]
        name = names[0] if not part else program.compressed[names[0]].inputs[part][0]

        def grow(flat: Any) -> None:
            place = int(abs(flat).argmax())
            flat[place] = flat[place] * (1 + size)

        change_weight(package, name, "float16", grow)

    return plant


def scale_literal(kind: str, parameter: str) -> Fault:
    """Multiply the first number that such an operation has by 1 + size."""

    def plant(package: Path, size: float) -> None:
        program = read_program(package)
        for op in program.ops:
            name = op.inputs[parameter][0] if op.type == kind and parameter in op.inputs else ""
            held = program.constants.get(name)
            if held is not None and held.value.dtype == "float16" and held.value.shape == () and not held.on_disk:
                value = float(held.load())
                if value not in (0.0, 1.0, -1.0):
                    change_literal(package, name, value * (1 + size))
                    return
        raise AssertionError(f"no {kind} has a number at {parameter}")

    return plant


FAULTS: dict[tuple[str, str, str], Fault] = {
    ("fp16", "text_encoder", "one weight"): scale_weight("q_proj_weight", "linear"),
    ("fp16", "text_encoder", "one gain of a norm"): scale_weight("input_layernorm_weight", "mul"),
    ("fp16", "text_encoder", "one row of the embedding"): scale_weight("embed_tokens_weight", "gather"),
    ("fp16", "text_encoder", "an epsilon"): scale_literal("add", "y"),
    ("fp16", "text_encoder", "a factor"): scale_literal("mul", "y"),
    ("fp16", "vae_decoder", "one weight"): scale_weight("conv_in_weight", "conv"),
    ("fp16", "vae_decoder", "one bias"): scale_weight("conv_in_bias", "conv"),
    ("int8", "text_encoder", "one scale"): scale_weight("mlp_down_proj_weight", "linear", "scale"),
}


def measure(bundle: Bundle, role: str, plant: Fault, work: Path) -> float | None:
    """The smallest size of a fault that was found, or None."""
    special = specialize_student(load_student("sprint-tiny"), layout=bundle.layout)
    (record,) = [record for record in bundle.components if record.role == role]
    component = dataclasses.replace(special.components[role], layers=record.layers)
    feeds, smallest = make_feeds(special)[role], None
    for size in SIZES:
        copied = dataclasses.replace(bundle, folder=work)
        shutil.copytree(bundle.folder, copied.folder, dirs_exist_ok=True)
        package = package_of(copied.folder / role / record.parts[0].graph)
        before = list(_bytes_of(package))
        plant(package, size)
        if list(_bytes_of(package)) == before:  # rounded away: nothing was planted
            break
        with hush():
            found = search_component(copied, component, DTYPE, feeds)
        if found is None:
            break
        smallest = size
    return smallest


def _bytes_of(package: Path) -> Iterator[bytes]:
    for file in sorted(path for path in package.rglob("*") if path.is_file()):
        yield file.read_bytes()


def main() -> None:
    """Try all faults and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/departure_power.json"))
    options = parser.parse_args()
    found: dict[str, float | None] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        named: dict[str, Any] = {"components": ("text_encoder", "vae_decoder"), "prompts": PROMPTS, "validate": False}
        bundles = {
            precision: convert("sprint-tiny", f"coreml-{precision}", work / precision, device="mac-m4", **named)
            for precision in dict.fromkeys(precision for precision, _, _ in FAULTS)
        }
        for (precision, role, what), plant in FAULTS.items():
            found[f"{precision} {role}: {what}"] = measure(bundles[precision], role, plant, work / "planted")
            print(f"{precision} {role}: {what}: {found[f'{precision} {role}: {what}']}", flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    command = "python benchmarks/departure_power.py"
    options.out.write_text(json.dumps({"command": command, "smallest relative change found": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
