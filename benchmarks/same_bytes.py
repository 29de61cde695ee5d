"""Whether this tree writes the graphs and weights that another one wrote: hashes of every file of bundles of two students.

    python benchmarks/same_bytes.py --out benchmarks/results/same_bytes.json                       # all targets: six minutes
    python benchmarks/same_bytes.py --check benchmarks/results/same_bytes.json --targets onnx-int8,trt-fp8

The students are sprint-tiny and the one of tests/made_student.py, with default recipes, calibrated on two prompts, through the
command itself, so that the script runs on any tree. Of an engine the kernels and their price are kept, not its bytes; of a
Core AI asset, whose writer puts random numbers into it, the weights alone. An ONNX
graph has a second hash that knows no names and no order: a node's is of its operator, attributes and inputs' hashes; a weight's
is of its type, shape and bytes; the graph's is of all its nodes' and its outputs'. `bundle.json` is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import re
import runpy
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest import mock

import sprint_export

ROOT = Path(sprint_export.__file__).parents[2]
TARGETS = (
    *("onnx-fp32", "onnx-fp16", "onnx-int8", "onnx-fp8", "trt-bf16", "trt-int8", "trt-fp8", "openvino-fp16", "openvino-int8"),
    *("coreml-int8", "coreml-w8a8", "coreml-w4", "coreai-int8"),
)
STUDENTS = ("sprint-tiny", "made")
PROMPTS = ("a red circle above a blue square", "a large green square on the left")
LEFT_OUT = ("bundle.json", "*.engine", "*.layers.txt", "tokenizer/*", "*/model.aimodel/main.hash")
KERNELS = "*.layers.txt"
DEVICE = "rtx-4090"


def make_bundle(student: str, target: str, folder: Path) -> None:
    """Run the command in this process, without validation.

    Raises:
        SystemExit: it failed, and has said why.
    """
    prompts = folder.with_name("prompts.txt")
    prompts.write_text("\n".join(PROMPTS) + "\n", "utf-8")
    asked = ["--target", target, "--student", student, "--prompts", prompts, "--no-validate", "--quiet", "--out", folder]
    with mock.patch.object(sys, "argv", ["sprint-export", *map(str, asked)]), contextlib.redirect_stdout(io.StringIO()):
        try:
            runpy.run_module("sprint_export", run_name="__main__")
        except SystemExit as error:
            if error.code:
                raise


def hash_bundle(folder: Path) -> dict[str, Any]:
    """Path -> hash; an ONNX graph's is three things, an engine's two."""
    hashes: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder)
        if path.match(KERNELS):
            hashes[name.as_posix()] = price(path)
        if any(name.match(pattern) for pattern in LEFT_OUT):
            continue
        digest = hashlib.sha256(_read_comparable(path)).hexdigest()[:16]
        hashes[name.as_posix()] = {"bytes": digest} | hash_graph(path) if path.suffix == ".onnx" else {"bytes": digest}
    return hashes


def _read_comparable(path: Path) -> bytes:
    """A file's bytes; of a Core AI asset the sorted names of its weights, which are their sha256."""
    if path.suffix != ".mlirb":
        return path.read_bytes()
    return b"\n".join(sorted(re.findall(rb"constant_[0-9a-f]{64}", path.read_bytes())))


def price(path: Path) -> dict[str, Any]:
    """Kernels and milliseconds of an engine's table."""
    from sprint_export.devices import find_device

    try:
        from sprint_export.runtimes.trt import kernels
    except ImportError:  # where it was
        from sprint_export.validate import kernels  # type: ignore[no-redef]

    summary = kernels.price_kernels(kernels.read_kernels(path), find_device(DEVICE))
    return {"kernels": summary.kernels, "priced_ms": round(summary.milliseconds, 6)}


def hash_graph(path: Path) -> dict[str, Any]:
    """A hash that knows no names and no order, and how many of each operator there are."""
    import onnx_ir

    graph = onnx_ir.load(path).graph
    known: dict[Any, str] = {None: ""}
    known |= {value: _digest(["input", value.name, value.dtype, value.shape]) for value in graph.inputs}
    for value in graph.initializers.values():
        assert value.const_value is not None
        known[value] = _digest([*_tensor(value.const_value)])
    nodes = []
    for node in graph:  # in topological order
        attributes = sorted(f"{attribute.name}={_attribute(attribute)}" for attribute in node.attributes.values())
        digest = _digest([node.domain, node.op_type, *attributes, *(known[value] for value in node.inputs)])
        known |= {value: f"{digest}:{i}" for i, value in enumerate(node.outputs)}
        nodes.append(digest)
    outputs = [f"{value.name}={known[value]}" for value in graph.outputs]
    return {"graph": _digest([*sorted(nodes), *outputs]), "operators": dict(sorted(Counter(n.op_type for n in graph).items()))}


def _attribute(attribute: Any) -> str:
    value = attribute.value
    return " ".join(map(str, _tensor(value))) if hasattr(value, "tobytes") else str(value)


def _tensor(tensor: Any) -> tuple[Any, ...]:
    return tensor.dtype, tensor.shape, hashlib.sha256(tensor.tobytes()).hexdigest()


def _digest(parts: Iterable[Any]) -> str:
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:16]


def compare(name: str, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """A line for each file that is not the same."""
    lines = []
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        if old is None or new is None:
            lines.append(f"{name}/{path}: {'new' if old is None else 'gone'}")
        elif old == new:
            continue
        elif "graph" not in old:
            lines.append(f"{name}/{path}: {_say_change(old, new)}")
        elif old["graph"] == new["graph"]:
            lines.append(f"{name}/{path}: equal up to names and order")
        else:
            operators = _say_change(old["operators"], new["operators"]) or "as many of each operator"
            lines.append(f"{name}/{path}: changed; {operators}")
    return lines


def _say_change(old: dict[str, Any], new: dict[str, Any]) -> str:
    return ", ".join(f"{key} {old.get(key, 0)} -> {new.get(key, 0)}" for key in {**old, **new} if old.get(key) != new.get(key))


def main() -> None:
    """Hash the bundles of this tree; write them, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--students", default=",".join(STUDENTS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--check", type=Path, help="exit status 1 where anything is not as in this file")
    options = parser.parse_args()
    before = json.loads(options.check.read_text("utf-8")) if options.check else {}
    after: dict[str, Any] = {}
    lines: list[str] = []
    with tempfile.TemporaryDirectory(prefix="sprint-export-") as folder:
        os.environ["SPRINT_EXPORT_CACHE"] = str(Path(folder) / "cache")
        for student in options.students.split(","):
            source = _save_made(Path(folder)) if student == "made" else student
            for target in options.targets.split(","):
                name = f"{student}/{target}"
                make_bundle(source, target, Path(folder) / name.replace("/", "-"))
                after[name] = hash_bundle(Path(folder) / name.replace("/", "-"))
                found = compare(name, before.get(name, {}), after[name]) if options.check else []
                print(*found or [f"{name}: {'the same' if options.check else 'hashed'}"], sep="\n", flush=True)
                lines += found
    if options.out:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
        head = {"command": f"python benchmarks/same_bytes.py {' '.join(sys.argv[1:])}", "commit": commit}
        rows = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in (head | after).items())
        options.out.write_text(f"{{\n{rows}\n}}\n", "utf-8")
    sys.exit(1 if lines else 0)


def _save_made(folder: Path) -> str:
    """The stock pipeline of tests/made_student.py, as a folder."""
    sys.path.insert(0, str(ROOT))
    from tests.made_student import make_pipeline

    make_pipeline().save_pretrained(folder / "made")
    return str(folder / "made")


if __name__ == "__main__":
    main()
