"""What a tree looks like in numbers: lines, functions, imports between rooms, files to read and edit for a new member.

    python benchmarks/house_numbers.py --tree . --suite-seconds 500 --quick-seconds 80

A room is a folder of the package, the frame (src/sprint_export) one of them. For each kind of member (family, scheme, target,
rewrite rule), members are found by their constant or, of rules, by `def rewrite` or their folder; then
    read    files of the package that the member with the fewest imports directly, itself and the rest of its folder included
    named   files outside the folder that holds the members of a kind where a member's name stands as a string: each of these
            may want a line for a new one
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

STAGES = ("students", "quantize", "export", "runtimes", "validate")
MOST_PARAMETERS = 8
KINDS = {  # kind -> the constant that declares a member, in a file or folder that matches
    "family": (r"^FAMILY(?::[^=]+)? = ", "students/"),
    "scheme": (r"^(?:PRECISION|SCHEME)(?::[^=]+)? = ", "quantize/"),
    "target": (r"^TARGET(?::[^=]+)? = ", "runtimes/"),
    "rule": (r"^(?:def rewrite\(|RULE(?::[^=]+)? = )", "export/"),
}


@dataclass(frozen=True)
class Module:
    """One file of the package: its dotted name, where it lies, what it says."""

    name: str
    path: Path
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def strings(self) -> set[str]:
        return {n.value for n in ast.walk(self.tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}

    @property
    def room(self) -> str:
        """Its folder: `quantize.search`; the frame's own is `frame`."""
        parts = self.name.split(".")[1:]
        folder = parts if self.path.name == "__init__.py" else parts[:-1]
        return ".".join(folder) or "frame"


def read_modules(root: Path) -> dict[str, Module]:
    """The package's files by dotted name."""
    modules = {}
    for line in subprocess.run(["git", "ls-files", "*.py"], cwd=root, capture_output=True, text=True, check=True).stdout.split():
        parts = Path(line.removeprefix("src/sprint_export/")).with_suffix("").parts
        if line.startswith(("src/", *(f"{stage}/" for stage in STAGES))):
            name = ".".join(("sprint_export", *(parts[:-1] if parts[-1] == "__init__" else parts)))
            modules[name] = Module(name, root / line, (root / line).read_text("utf-8"))
    return modules


def imports(module: Module, modules: dict[str, Module]) -> Iterator[str]:
    """Modules of the package that it imports, anywhere in it."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("sprint_export"):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in modules else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)


def measure_functions(modules: dict[str, Module]) -> dict[str, Any]:
    """The longest body, the most parameters, and who has more than MOST_PARAMETERS."""
    lengths: Counter[str] = Counter()
    parameters: Counter[str] = Counter()
    for module in modules.values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef):
                name, arguments = f"{module.name.partition('.')[2]}.{node.name}", node.args
                lengths[name] = max(lengths[name], (node.end_lineno or 0) - node.lineno + 1)
                every = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
                parameters[name] = max(parameters[name], len([a for a in every if a not in ("self", "cls")]))
    over = {name: count for name, count in parameters.most_common() if count > MOST_PARAMETERS}
    return {
        "functions": len(lengths),
        "longest_function": lengths.most_common(1)[0],
        "most_parameters": parameters.most_common(1)[0],
        f"functions_over_{MOST_PARAMETERS}_parameters": len(over),
        "those": over,
    }


def measure_arrows(modules: dict[str, Module]) -> dict[str, int]:
    """Pairs of rooms of which the first imports from the second: of top-level rooms, and of all."""
    pairs = {(module.room, modules[name].room) for module in modules.values() for name in imports(module, modules)}
    tops = {tuple(room.split(".")[0] if room.split(".")[0] in STAGES else "frame" for room in pair) for pair in pairs}
    return {
        "rooms": len({module.room for module in modules.values()}),
        "arrows_between_top_rooms": sum(one != other for one, other in tops),
        "arrows_between_all_rooms": sum(one != other for one, other in pairs),
    }


def measure_kind(kind: str, modules: dict[str, Module], root: Path) -> dict[str, Any]:
    """Files to read for a new member, of the member that is least; and files elsewhere that name a member."""
    pattern, folder = KINDS[kind]
    declared = re.compile(pattern, re.MULTILINE)
    members = [m for m in modules.values() if str(m.path.relative_to(root)).startswith(folder) and declared.search(m.text)]
    own_folder = sum(member.path.parent == members[0].path.parent for member in members) == 1
    reads = {}
    for member in members:
        own = {m.name for m in modules.values() if own_folder and m.path.is_relative_to(member.path.parent)} | {member.name}
        reads[_name(member, own_folder)] = len(own | {name for each in own for name in imports(modules[each], modules)})
    least = min(reads, key=lambda name: reads[name])
    home = members[0].path.parent.parent if own_folder else members[0].path.parent
    named = [m for m in modules.values() if not m.path.is_relative_to(home) and m.strings & set(reads)]
    return {"members": len(reads), "read": reads[least], "read_of": least, "named": len(named)}


def _name(member: Module, own_folder: bool) -> str:
    """The literal of its constant, else its file's name."""
    found = re.search(
        r"^(?:FAMILY|PRECISION|SCHEME|TARGET)\b[^=]*= (?:\w+\(\s*(?:name=)?)?\"([\w-]+)\"", member.text, re.MULTILINE
    )
    return found[1] if found else member.path.parent.name if own_folder else member.path.stem


def main() -> None:
    """Print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=Path, default=Path())
    parser.add_argument("--suite-seconds", type=float)
    parser.add_argument("--quick-seconds", type=float)
    options = parser.parse_args()
    root = options.tree.resolve()
    modules = read_modules(root)
    lines: Counter[str] = Counter()
    for module in modules.values():
        lines[module.room.split(".")[0]] += len(module.text.splitlines())
    tests = list((root / "tests").rglob("*.py"))
    found = {
        "source_lines": {"total": lines.total()} | dict(sorted(lines.items())),
        "source_files": len(modules),
        "test_lines": sum(len(path.read_text("utf-8").splitlines()) for path in tests),
        **measure_functions(modules),
        **measure_arrows(modules),
        **{f"new_{kind}": measure_kind(kind, modules, root) for kind in KINDS},
        "readme_words": len((root / "README.md").read_text("utf-8").split()),
        "suite_seconds": options.suite_seconds,
        "quick_seconds": options.quick_seconds,
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
