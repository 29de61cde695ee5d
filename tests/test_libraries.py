"""Libraries that are not there: which extra brings one, and one line with status 3 before any work."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from sprint_export.clear_errors import explain_error
from sprint_export.errors import BundleError, InputError, MachineError
from sprint_export.libraries import (
    DRAWING_SPACE,
    EXPORTING_SPACE,
    check_installed,
    is_installed,
    list_extras,
    name_install,
    require,
)
from sprint_export.process_memory import check_address_space
from sprint_export.registry import list_members, load_target
from tests.tree import ROOT


@pytest.mark.parametrize(
    ("modules", "install"),
    [
        (["torch"], "'sprint-export[export]'"),
        (["tensorrt_rtx"], "'sprint-export[trt]'"),
        (["torch", "tensorrt_rtx"], "'sprint-export[all]'"),
        (["ml_dtypes", "tensorrt_rtx"], "'sprint-export[trt]'"),
        (["PIL"], "sprint-export"),
        (["scipy"], "'sprint-export[export]'"),
        (["mlperf_loadgen"], "'sprint-export[latency]'"),
        (["huggingface_hub"], "'sprint-export[hub]'"),
        (["huggingface_hub", "torch"], "'sprint-export[export]'"),
        (["PIL", "torch"], "'sprint-export[export]'"),
        (["nobody_knows"], "'sprint-export[all]'"),
    ],
)
def test_the_extra_that_brings_what_is_missing_is_named(modules: list[str], install: str) -> None:
    assert name_install(modules) == install


def test_every_declared_library_is_found_by_its_import_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    names = ("export", "trt", "coreml", "coreai", "openvino", "openvino-int4", "hub", "serve", "metrics", "latency", "ray")
    wanted = [*project["dependencies"], *(line for name in names for line in project["optional-dependencies"][name])]
    assert len(list_extras()) == len({re.split(r"[^\w.-]", line)[0].lower() for line in wanted})
    missing = [module for module in list_extras() if not is_installed(module)]
    assert not missing, f"IMPORTED_AS lacks a name, or the development install lacks a library: {missing}"


def test_what_targets_need_is_among_what_extras_bring() -> None:
    for name in list_members("target"):
        target = load_target(name)
        assert target.needs
        assert set(target.needs) <= set(list_extras()), name


def test_a_missing_library_is_said_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(MachineError, match=re.escape("torch is not installed; run: pip install 'sprint-export[all]'")):
        check_installed(["numpy", "torch", "tensorrt_rtx"])
    with pytest.raises(MachineError, match=re.escape("torch is not installed; run: pip install 'sprint-export[export]'")):
        require("torch", "export")


def test_a_library_behind_another_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "outer_library.py").write_text("import coreai_that_is_missing\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MachineError, match="coreai_that_is_missing is not installed, and outer_library needs it; run: pip"):
        require("outer_library", "coreai")


def raised_from(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ModuleNotFoundError("No module named 'diffusers.x'", name="diffusers.x"),
            "diffusers is not installed; run: pip install",
        ),
        (ImportError("libGL.so.1: cannot open", name="cv2"), r"cv2 cannot be loaded \(libGL.so.1: cannot open\)"),
        (raised_from(RuntimeError("lazy"), ModuleNotFoundError("no", name="torch")), "torch is not installed"),
        (MemoryError(), "memory ran short "),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "memory ran short "),
        (raised_from(BundleError("ONNX Runtime cannot load it"), RuntimeError("std::bad_alloc")), "memory ran short "),
        (OSError(12, "Cannot allocate memory"), "memory ran short "),
        (OSError(5, "Input/output error", "x"), r"the system refused x \(Input/output error\)"),
    ],
)
def test_what_a_machine_lacks_is_status_3(error: Exception, said: str) -> None:
    found = explain_error(error)
    assert isinstance(found, MachineError)
    assert re.match(said, str(found)), found


def test_ours_stay_and_mistakes_in_the_package_are_not_hidden() -> None:
    ours = InputError("wrong")
    assert explain_error(ours) is ours
    for error in (KeyError("x"), ModuleNotFoundError("No module named 'sprint_export.x'", name="sprint_export.x"), TypeError()):
        assert explain_error(error) is None


def test_address_space_is_asked_for_before_libraries_that_end_the_process_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda kind: (1_000_000_000, 1_000_000_000))
    said = r"memory is short \(1,000 MB allowed to this process by ulimit -v, .*\): PyTorch takes 1,570 MB or more; end other"
    with pytest.raises(MachineError, match=said):
        check_address_space(EXPORTING_SPACE, "PyTorch")
    check_address_space(DRAWING_SPACE, "a runtime")
