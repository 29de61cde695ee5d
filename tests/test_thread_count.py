"""The number of threads a machine has changes no byte: the same command in two processes, with one thread and with two."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from sprint_export import thread_count
from sprint_export.thread_count import THREADS, fixed_threads

TARGETS = {"onnx-int8": "onnx", "trt-fp8": "onnx", "openvino-int8": "openvino", "coreml-int8": "coremltools"}
# Ranges of sprint-tiny, which differ with torch's own number of threads; then files of a smaller student.
MAKE = """
import dataclasses, hashlib, sys
from pathlib import Path
import torch
from sprint_export.export import export_student
from sprint_export.export.captures import Captures, keep_captures
from sprint_export.quantize import quantize_student
from sprint_export.quantize.recipes import default_recipe
from sprint_export.registry import load_member
from sprint_export.run_checks import read_deployment
from sprint_export.registry import load_target
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.students.sana_sprint.presets import tiny

captures = Captures()

def quantize(student, precision, target):
    special = specialize_student(student)
    recipe = dataclasses.replace(default_recipe(precision, special, target), prompts=student.calibration_prompts[:4])
    return quantize_student(special, precision, target, recipe)

print("torch", torch.get_num_threads())
onnx = load_target("onnx")
for role, component in quantize(load_student("sprint-tiny"), "int8", onnx).components.items():
    print(role, hashlib.sha256(repr(component.layers).encode()).hexdigest())
for name in sys.argv[2:]:
    made_for = read_deployment(name)
    with keep_captures(captures):
        bundle = export_student(quantize(tiny(), made_for.precision, made_for.target), made_for, Path(sys.argv[1]) / name)
    print(name, bundle.key)
    for path in sorted(path for path in bundle.folder.rglob("*") if path.is_file() and path.name not in EXCEPT):
        print(path.relative_to(bundle.folder), hashlib.sha256(path.read_bytes()).hexdigest())
"""
EXCEPT = ()


def run(threads: int, folder: Path, targets: list[str]) -> list[str]:
    """What the script prints in a process with that many threads and a cache of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "SPRINT_EXPORT_CACHE": str(folder / "cache")}
    script = MAKE.replace("EXCEPT", repr(EXCEPT))
    done = subprocess.run([sys.executable, "-c", script, str(folder), *targets], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def test_one_thread_and_two_give_the_same_keys_and_files(tmp_path: Path) -> None:
    targets = [name for name, library in TARGETS.items() if find_spec(library) is not None]
    one, two = (run(threads, tmp_path / str(threads), targets) for threads in (1, 2))
    assert (one[0], two[0]) == ("torch 1", "torch 2")
    different = [(a, b) for a, b in zip(one[1:], two[1:], strict=True) if a != b]
    assert not different, f"{len(different)} of {len(one)} differ: {different[:5]}"


def test_the_number_is_looked_up_when_work_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_count, "THREADS", 1)
    before = torch.get_num_threads()
    with thread_count.fixed_threads():
        assert torch.get_num_threads() == 1, "or campaigns, which fork, wait for threads that a fork has not"
    with thread_count.fixed_threads(before + 2):
        assert torch.get_num_threads() == before + 2


def test_torch_gets_its_own_number_of_threads_back() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt), fixed_threads():
        assert torch.get_num_threads() == THREADS
        raise KeyboardInterrupt
    assert torch.get_num_threads() == before
