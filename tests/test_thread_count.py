"""The number of threads a machine has changes no byte: the same work in this process with one thread, in another with two."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from sprint_export.export import export_student
from sprint_export.nouns.student import Student
from sprint_export.nouns.target import Target
from sprint_export.quantize import quantize_student
from sprint_export.quantize.recipes import default_recipe
from sprint_export.registry import load_target
from sprint_export.run_checks import read_deployment
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.students.sana_sprint.presets import tiny
from sprint_export.thread_count import THREADS, fixed_threads
from tests.tree import ROOT

TARGETS = {"onnx-int8": "onnx", "trt-fp8": "onnx", "openvino-int8": "openvino", "coreml-int8": "coremltools"}


def quantize(student: Student, precision: str, target: Target) -> Student:
    """With the ranges of four prompts."""
    special = specialize_student(student)
    recipe = dataclasses.replace(default_recipe(precision, special, target), prompts=student.calibration_prompts[:4])
    return quantize_student(special, precision, target, recipe)


def list_hashes(folder: Path) -> list[str]:
    """Of ranges of sprint-tiny, which differ with torch's own number of threads; then of files of a smaller student."""
    found = []
    for role, component in quantize(load_student("sprint-tiny"), "int8", load_target("onnx")).components.items():
        found.append(f"{role} {hashlib.sha256(repr(component.layers).encode()).hexdigest()}")
    for name in (name for name, library in TARGETS.items() if find_spec(library) is not None):
        made_for = read_deployment(name)
        bundle = export_student(quantize(tiny(), made_for.precision, made_for.target), made_for, folder / name)
        found.append(f"{name} {bundle.key}")
        for path in sorted(path for path in bundle.folder.rglob("*") if path.is_file()):
            found.append(f"{path.relative_to(bundle.folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}")
    return found


@pytest.mark.usefixtures("own_cache")
def test_one_thread_and_two_give_the_same_keys_and_files(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "SPRINT_EXPORT_CACHE": str(tmp_path / "other cache")}
    command = [sys.executable, "-m", "tests.test_thread_count", str(tmp_path / "two")]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    threads, *two = done.stdout.splitlines()
    assert (torch.get_num_threads(), threads) == (1, "torch 2")
    one = list_hashes(tmp_path / "one")
    different = [(a, b) for a, b in zip(one, two, strict=True) if a != b]
    assert not different, f"{len(different)} of {len(one)} differ: {different[:5]}"


def test_torch_gets_its_own_number_of_threads_back() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt), fixed_threads():
        assert torch.get_num_threads() == THREADS
        raise KeyboardInterrupt
    assert torch.get_num_threads() == before


if __name__ == "__main__":
    print(f"torch {torch.get_num_threads()}", *list_hashes(Path(sys.argv[1])), sep="\n")
