"""The house rules of CONTRIBUTING that a machine can check: import order, budgets, names, what an import loads."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tree import ROOT, STAGES, package_modules

LINE_BUDGET = 400
MOST_PARAMETERS = 8  # of a function, self and cls apart: what belongs together is one dataclass
LONGEST_FUNCTION = 75  # lines, with its docstring

# Imports go from a row to its own row or a lower one, never up.
ORDER = (
    ("__main__", "cli", "inspection", "server"),
    ("conversion", "unpaid", "run_checks", "recipe_choice", "out_folder", "estimates", "planning", "packing", "demo"),
    ("validate",),
    ("runtimes",),
    ("export",),
    ("quantize",),
    ("specialize",),
    ("students",),
    ("session", "executor", "prompt_reader", "weights", "sampler", "noise", "app_contract", "devices", "recipe_toml", "options"),
    ("cache", "work_folder", "thread_count", "linear_kernels", "compute"),
    ("bundle_files", "batches"),
    ("picture_files",),
    (
        "registry",
        "locks",
        "own_files",
        "disk_errors",
        "clear_errors",
        "freed_memory",
        "libraries",
        "streams",
        "paths",
        "interrupts",
    ),
    ("process_memory",),
    ("amounts", "files", "nouns", "json_forms", "strict_json", "errors", "progress", "psnr", "sizes", "pictures", "versions"),
)
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}

# What a machine that only opens bundles may lack; right of the wall, the function that needs one of these fetches it.
HEAVY = {
    "torch",
    "diffusers",
    "transformers",
    "accelerate",
    "safetensors",
    "onnx",
    "onnx_ir",
    "onnxscript",
    "onnxruntime",
    "tensorrt_rtx",
    "tensorrt",
    "cuda",
    "openvino",
    "nncf",
    "coremltools",
    "coreai_torch",
}
# What computes with torch; checker.py and target.py import it when needed.
CHECKER = ("sprint_export.runtimes.coreml.mil.", "sprint_export.runtimes.coreml.departures")
OWN_EXPORTER = {"sprint_export.runtimes.coreml.departures": "to_coreml"}  # which captures anew the graphs that it compares with
TORCH_FREE = {
    "cli",
    "run_checks",
    "clear_errors",
    "process_memory",
    "libraries",
    "paths",
    "streams",
    "inspection",
    "recipe_toml",
    "runtimes",
    "session",
    "executor",
    "prompt_reader",
    "sampler",
    "devices",
    "registry",
}
TORCH_FREE |= {"app_contract", "noise", "nouns", "json_forms", "errors", "psnr", "sizes", "pictures", "files"}
TORCH_FREE |= {"demo", "freed_memory", "locks", "disk_errors", "bundle_files", "work_folder", "cache"}

MODULES = package_modules()


def imports_of(source: str) -> Iterator[tuple[int, str, bool]]:
    """(line, dotted name, is at module level) of every import, `if TYPE_CHECKING:` blocks left out.

    `from a import b` gives "a.b", whether b is a module or a name.
    """
    todo: list[tuple[ast.AST, bool]] = [(ast.parse(source), True)]
    while todo:
        node, at_top = todo.pop()
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, at_top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source_name = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{source_name}.{alias.name}", at_top) for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            todo += [(child, at_top) for child in node.orelse]
        else:
            at_top = at_top and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            todo += [(child, at_top) for child in ast.iter_child_nodes(node)]


def order_fault(importer: str, imported: str) -> str | None:
    """Why `importer` may not import `imported` (both dotted, of sprint_export), or None."""
    home = importer.split(".")[1]
    room = imported.partition(".")[2].partition(".")[0]
    if room == "__version__":
        return None
    if room not in RANK:
        return "take the name from its own module, not from the package root, which hides the order"
    if home != room and RANK[room] < RANK[home]:
        return f"{room} comes before {home}: {' -> '.join('/'.join(names) for names in ORDER)}"
    taken = ("bundle", *([OWN_EXPORTER[importer]] if importer in OWN_EXPORTER else []))
    if home == "runtimes" and room == "export" and imported.split(".")[2] not in taken:
        return "from export, runtimes takes only export.bundle"
    return None


def run_python(code: str) -> str:
    """Run code in a fresh interpreter; its standard output, or a failure with its standard error."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_module_has_a_place_in_the_order() -> None:
    homes = {name.split(".")[1] for name in MODULES if "." in name}
    new = sorted(homes - set(RANK))
    assert homes >= {*STAGES, "registry", "nouns", "errors"}, "the tree is not where tests/tree.py looks"
    assert not new, f"give {new} a row in ORDER above"


def test_imports_go_one_way() -> None:
    faults, seen = [], 0
    for name, path in MODULES.items():
        if name == "sprint_export":
            continue  # the public face: it fetches every verb by name
        for line, imported, _ in imports_of(path.read_text("utf-8")):
            if imported.split(".")[0] == "sprint_export":
                seen += 1
                if reason := order_fault(name, imported):
                    faults.append(f"{path.relative_to(ROOT)}:{line} imports {imported}: {reason}")
    assert seen > 10, "too few imports found; the walk is broken"
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("importer", "imported", "fault"),
    [
        ("sprint_export.students.sana_sprint.family", "sprint_export.weights.Handle", None),
        ("sprint_export.students.sana_sprint.family", "sprint_export.students.source.load", None),
        ("sprint_export.weights", "sprint_export.registry.load_member", None),
        ("sprint_export.cli", "sprint_export.__version__", None),
        ("sprint_export.nouns.student", "sprint_export.weights.Handle", "weights comes before nouns"),
        ("sprint_export.students.sana_sprint.family", "sprint_export.export.bundle", "export comes before students"),
        ("sprint_export.runtimes.onnx_cpu.target", "sprint_export.export.bundle.read_bundle", None),
        ("sprint_export.runtimes.onnx_cpu.target", "sprint_export.export.to_onnx.writer.write", "only export.bundle"),
        ("sprint_export.runtimes.onnx_cpu.target", "sprint_export.export.bundles", "only export.bundle"),
        ("sprint_export.validate.report", "sprint_export.open_bundle", "own module"),
        ("sprint_export.validate.report", "sprint_export", "own module"),
    ],
)
def test_the_order_rule_itself(importer: str, imported: str, fault: str | None) -> None:
    found = order_fault(importer, imported)
    assert (found is None) if fault is None else (found is not None and fault in found)


def test_the_import_walk_itself() -> None:
    source = (
        "import a.b\nif TYPE_CHECKING:\n    import hidden\nelse:\n    import shown\n"
        "def f():\n    from c import d\nclass K:\n    import e\ntry:\n    import g\nexcept ImportError: pass\n"
    )
    found = {(name, at_top) for _, name, at_top in imports_of(source)}
    assert found == {("a.b", True), ("shown", True), ("c.d", False), ("e", True), ("g", True)}


def test_files_keep_the_line_budget() -> None:
    folders = ("src", *STAGES, "tests", "examples", "benchmarks")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert Path(__file__) in files
    counts = {path: len(path.read_text("utf-8").splitlines()) for path in files}
    over = [f"{path.relative_to(ROOT)} has {count} lines" for path, count in counts.items() if count > LINE_BUDGET]
    assert not over, f"one idea, one file, at most {LINE_BUDGET} lines: {'; '.join(over)}"


def functions_of(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """(where it is, the function) for every function of a file."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node


def count_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Of every kind, without self and cls."""
    all_of = function.args
    named = [*all_of.posonlyargs, *all_of.args, *all_of.kwonlyargs, *filter(None, (all_of.vararg, all_of.kwarg))]
    return sum(each.arg not in ("self", "cls") for each in named)


def test_functions_keep_the_budgets() -> None:
    functions = [each for path in MODULES.values() for each in functions_of(path)]
    assert len(functions) > 500, "too few functions found; the walk is broken"
    wide = [f"{where} takes {n}" for where, function in functions if (n := count_parameters(function)) > MOST_PARAMETERS]
    assert not wide, f"a function takes at most {MOST_PARAMETERS} parameters: {'; '.join(wide)}"
    lengths = {where: 1 + (function.end_lineno or 0) - function.lineno for where, function in functions}
    long = [f"{where} has {length} lines" for where, length in lengths.items() if length > LONGEST_FUNCTION]
    assert not long, f"a function has at most {LONGEST_FUNCTION} lines: {'; '.join(long)}"


def test_the_count_of_parameters_itself() -> None:
    source = "class A:\n    def f(self, a, /, b, *args, c, d=1, **more): ...\n    async def g(cls): ..."
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert [count_parameters(function) for function in functions] == [6, 0]


def test_importing_the_package_loads_no_library() -> None:
    code = (
        "import sys; before = set(sys.modules); import sprint_export;"
        "new = {name.split('.')[0] for name in set(sys.modules) - before};"
        "print(sorted(new - set(sys.stdlib_module_names)))"
    )
    assert run_python(code) == "['sprint_export']"


def test_runtime_files_import_nothing_heavy_at_the_top() -> None:
    faults = [
        f"{path.relative_to(ROOT)}:{line} imports {imported}; require() it inside build or open_session"
        for name, path in MODULES.items()
        if name.startswith("sprint_export.runtimes") and not name.startswith(CHECKER)
        for line, imported, at_top in imports_of(path.read_text("utf-8"))
        if at_top and imported.split(".")[0] in HEAVY
    ]
    assert not faults, "\n".join(faults)


def test_the_right_of_the_wall_imports_without_torch() -> None:
    names = [name for name in MODULES if name.count(".") and name.split(".")[1] in TORCH_FREE and not name.startswith(CHECKER)]
    assert {"sprint_export.runtimes", "sprint_export.session", "sprint_export.registry"} <= set(names)
    code = (
        f"import sys, importlib\nfor name in {sorted(HEAVY)}: sys.modules[name] = None\n"
        f"for name in {names}: importlib.import_module(name)\nprint('imported', {len(names)})"
    )
    assert run_python(code) == f"imported {len(names)}"


def test_members_are_listed_without_their_libraries() -> None:
    code = (
        f"import sys\nfor name in {sorted(HEAVY)}: sys.modules[name] = None\n"
        "from sprint_export.registry import KINDS, list_members\n"
        "print(*(f'{kind}={len(list_members(kind))}' for kind in KINDS))"
    )
    kinds = {
        "student": ("students/*/family.py", "FAMILY"),
        "judge": ("students/*/judge.py", "JUDGE"),
        "scheme": ("quantize/schemes/*.py", "SCHEME"),
        "target": ("runtimes/*/target.py", "TARGET"),
        "runtime": ("runtimes/*/*.py", "RUNTIME"),
        "entry": ("validate/comparing/entries/*.py", "ENTRY"),
        "metric": ("validate/image_metrics/*.py", "METRIC"),
        "prompt_set": ("validate/prompt_sets/*.py", "PROMPT_SET"),
    }

    def count(pattern: str, names: str) -> int:
        declared = re.compile(rf"^({names}) = ", re.MULTILINE)
        return sum(bool(declared.search(path.read_text("utf-8"))) for path in ROOT.glob(pattern))

    counts = {kind: count(*where) for kind, where in kinds.items()}
    assert run_python(code) == " ".join(f"{kind}={count}" for kind, count in counts.items())


def test_no_module_is_named_like_a_library() -> None:
    imported = {name.split(".")[0] for path in MODULES.values() for _, name, _ in imports_of(path.read_text("utf-8"))}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [*project["dependencies"], *itertools.chain.from_iterable(project["optional-dependencies"].values())]
    declared = {re.split(r"[^\w.-]", line)[0].lower().replace("-", "_") for line in wanted}
    assert {"torch", "onnx", "numpy", "tensorrt_rtx"} <= declared
    libraries = (imported | declared | set(sys.stdlib_module_names)) - {"sprint_export"}
    clashes = [str(path.relative_to(ROOT)) for name, path in MODULES.items() if name.rpartition(".")[2] in libraries]
    assert not clashes, f"run as a script or from its folder, each of these would import itself: {clashes}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_bare_import_of_a_stage_is_refused(stage: str) -> None:
    folder = ROOT / stage.replace(".", "/")
    spec = importlib.util.spec_from_file_location(stage, folder / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ImportError, match=f"import sprint_export.{stage}"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
