"""Whatever way the package is installed, it holds the tree: wheel, wheel from sdist, editable, and no links in src/."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from sprint_export.registry import load_target
from sprint_export.versions import is_older
from tests.tree import ROOT, STAGES, package_modules

CONTENTS = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "src", *STAGES)
DATA_SUFFIXES = {".json", ".safetensors", ".txt", ".md"}
LIBRARIES = [path for path in sys.path if path.endswith("-packages")]


def run(command: list[str], folder: Path) -> str:
    """Run a command; its standard output, or a failure with everything it said."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout.strip()


def files_in(wheel: Path) -> list[str]:
    """Names in a wheel, without its metadata folder; a name that is there twice is listed twice."""
    return sorted(name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name)


def import_from(setup: str, folder: Path) -> Path:
    """Where `sprint_export.students.sprint_tiny.adherence` comes from after `setup`, where no other install is seen."""
    code = (
        f"import site, sys; {setup}; sys.path += {LIBRARIES!r};"
        "import sprint_export.quantize.schemes, sprint_export.students.sprint_tiny.adherence as adherence;"
        "assert adherence.detect_scene.__module__ == adherence.__name__; print(adherence.__file__)"
    )
    return Path(run([sys.executable, "-I", "-S", "-c", code], folder))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree without links, as git leaves it on Windows or in an archive that drops them."""
    folder = tmp_path_factory.mktemp("checkout")

    def skip(parent: str, names: list[str]) -> set[str]:
        return {n for n in names if n in ("__pycache__", "sprint_export.egg-info") or Path(parent, n).is_symlink()}

    for name in CONTENTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=skip)
        elif source.exists():
            shutil.copy(source, folder / name)
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    assert not (folder / "src/sprint_export/validate").exists()
    return folder


@pytest.fixture(scope="module")
def wheel(checkout: Path) -> Path:
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "wheels"], checkout)
    return next((checkout / "wheels").glob("*.whl"))


@pytest.fixture(scope="module")
def tree(checkout: Path) -> list[str]:
    """What a wheel has to hold, read from the tree and not from pyproject.toml."""
    modules = [
        name.replace(".", "/") + ("/__init__.py" if path.name == "__init__.py" else ".py")
        for name, path in package_modules(checkout).items()
    ]
    data = [path for path in (checkout / "students").glob("*_tiny/**/*") if path.suffix in DATA_SUFFIXES]
    data += [checkout / "students/prompts.txt", *(checkout / "students").glob("*/recipes/*.toml")]
    data += [*(checkout / "students/words_tokenizer").glob("*.json"), *(checkout / "students/chat_tokenizer").iterdir()]
    data += [*(checkout / "runtimes/javascript").glob("**/*.*")]
    data += [path for path in (checkout / "validate/page").rglob("*") if path.suffix in (".css", ".html", ".js")]
    named = [f"sprint_export/{path.relative_to(checkout).as_posix()}" for path in data]
    return sorted([*modules, *named, "sprint_export/py.typed", "sprint_export/app.schema.json", "sprint_export/devices.toml"])


def test_the_wheel_holds_the_tree_once(wheel: Path, tree: list[str]) -> None:
    assert files_in(wheel) == tree


def test_the_wheel_holds_the_embedded_student(wheel: Path) -> None:
    parts = {
        name.removeprefix("sprint_export/students/sprint_tiny/").split("/")[0]
        for name in files_in(wheel)
        if "/sprint_tiny/" in name
    }
    assert {"text_encoder", "tokenizer", "transformer", "vae", "scheduler", "model_index.json"} <= parts


def test_the_wheel_imports(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    assert import_from(f"sys.path.insert(0, {str(tmp_path / 'site')!r})", tmp_path).is_relative_to(tmp_path / "site")


def test_the_sdist_builds_the_same_wheel(checkout: Path, tree: list[str], tmp_path: Path) -> None:
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path)], checkout)
    assert len(list(tmp_path.glob("*.tar.gz"))) == 1
    assert files_in(next(tmp_path.glob("*.whl"))) == tree


@pytest.mark.parametrize("links", [False, True], ids=["no-links", "links"])
def test_an_editable_install_imports_the_tree(checkout: Path, tmp_path: Path, links: bool) -> None:
    copy = shutil.copytree(checkout, tmp_path / "copy", ignore=shutil.ignore_patterns("build", "wheels", "*.egg-info"))
    if links:
        for stage in STAGES:
            (copy / "src/sprint_export" / stage).symlink_to(Path("../..", stage))
    run([sys.executable, "-c", "import setuptools.build_meta as b; b.build_editable('editable')"], copy)
    zipfile.ZipFile(next((copy / "editable").glob("*.whl"))).extractall(tmp_path / "site")
    setup = f"site.addsitedir({str(tmp_path / 'site')!r}); sys.meta_path.insert(0, sys.meta_path.pop())"
    found = import_from(setup, tmp_path)
    assert found.resolve() == copy / "students/sprint_tiny/adherence.py"


def test_the_links_stand_for_every_stage() -> None:
    entries = (ROOT / "src/sprint_export").iterdir()
    links = {path.name: path.readlink().as_posix() for path in entries if path.is_symlink()}
    assert links == {stage: f"../../{stage}" for stage in STAGES}


def read_pins(name: str) -> dict[str, str]:
    """Versions by name of a constraints file."""
    lines = (ROOT / name).read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def read_bounds(lines: Iterable[str]) -> dict[str, str]:
    """Oldest versions by name of requirements."""
    return dict(line.split(";")[0].strip().split(">=") for line in lines if not line.startswith("sprint-export["))


def test_constraints_pin_every_direct_dependency_exactly() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    bounds = read_bounds([*project["dependencies"], *itertools.chain.from_iterable(extras.values())])
    oldest, pins = read_pins("constraints-oldest.txt"), read_pins("constraints.txt")
    assert oldest == read_bounds([*project["dependencies"], *extras["openvino"]]), "CI draws with the oldest that is asked for"
    assert not [name for name, version in oldest.items() if is_older(pins[name], version)]
    assert pins == bounds | {name: pins[name] for name in oldest}, "constraints.txt pins what the suite is run with"


def test_the_oldest_runtimes_are_what_bundles_say() -> None:
    oldest = read_pins("constraints-oldest.txt")
    for target in (load_target(name) for name in ("onnx", "openvino", "trt")):
        for library, version in target.oldest({}).items():
            assert oldest[library] == version, f"{target.name}: {library}"
