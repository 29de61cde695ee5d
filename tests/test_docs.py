"""The pages say what is there: commands parse, links, files, imports and options exist, every page is found from another."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from sprint_export.cli.app import app
from tests.tree import ROOT

MOST_WORDS = 1150  # of README, table bars among them: what a stranger reads before anything else
COMMAND = "sprint-export"
ENDS = {"&&", "||", ";", "|", ">", ">>"}  # of a command in a line
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted(ROOT.glob("runtimes/*/README.md")),
    *sorted(ROOT.glob("examples/*/README.md")),
    *sorted(ROOT.glob("students/*/README.md")),
]
DECISIONS = ROOT / "docs" / "decisions"
HEAD = re.compile(r"# \d{4}:? .+\n\n\*\*Decided\*\*: .+?  \n\*\*Because\*\*: .+?  \n\*\*Revisit when\*\*: ", re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"")
INLINE = re.compile(r"`(" + COMMAND + r" [^`\n]+)`")
IMPORT = re.compile(r"\bfrom (sprint_export[\w.]*) import ([\w, ]+)")
FILE = re.compile(r"(?<![\w/.<>*-])((?:[\w-]+/)+[\w.-]+\.(?:py|toml|js|mjs|cpp|h|sh|swift))\b")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def list_code(text: str) -> Iterator[str]:
    """Lines of code blocks, indented or fenced."""
    is_fenced = False
    for line in text.splitlines():
        if line.startswith("```"):
            is_fenced = not is_fenced
        elif is_fenced or line.startswith("    "):
            yield line.strip()


def list_commands(line: str) -> Iterator[list[str]]:
    """The arguments of each of our commands in a line of a shell; its comments and what others are given are left out."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # no shell's
        return
    while words:
        end = next((i for i, word in enumerate(words) if word in ENDS), len(words))
        if words[0] == COMMAND:
            yield words[1:end]
        words = words[end + 1 :]


def find_fault(arguments: list[str]) -> str | None:
    """What the command line says of these arguments before it does anything, or None."""
    if "--help" in arguments:
        return None
    group: Any = typer.main.get_command(app)  # of typer's copy of click, which has no public name
    try:
        context = group.make_context(COMMAND, list(arguments))
        if rest := [*context._protected_args, *context.args]:
            verb, command, more = group.resolve_command(context, rest)
            command.make_context(verb, more, parent=context)
    except Exception as error:
        if hasattr(error, "format_message"):
            return str(error.format_message())
        raise
    return None


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_in_a_code_block_parses(page: Path) -> None:
    commands = [found for line in list_code(page.read_text("utf-8")) for found in list_commands(line)]
    faults = [f"{COMMAND} {shlex.join(each)}: {fault}" for each in commands if (fault := find_fault(each)) is not None]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_in_a_sentence_parses_but_for_what_it_leaves_out(page: Path) -> None:
    faults = []
    for text in INLINE.findall(page.read_text("utf-8")):
        for each in list_commands(text.replace("...", "").replace("|", ",")):
            fault = find_fault(each)
            if fault is not None and "Missing" not in fault and "requires an argument" not in fault:
                faults.append(f"{text}: {fault}")
    assert not faults, "\n".join(faults)


def test_commands_are_found_and_wrong_ones_are_told() -> None:
    line = 'pip install x && sprint-export run B "a # b" -o "c d.png"   # don\'t > x'
    assert list(list_commands(line)) == [["run", "B", "a # b", "-o", "c d.png"]]
    assert list(list_commands("sprint-export bench B --json > here.json")) == [["bench", "B", "--json"]]
    assert list(list_code("text\n    a\n```sh\nb\n```\nc")) == ["a", "b"]
    assert find_fault(["--target", "trt-fp8"]) is None
    assert "--targt" in str(find_fault(["--targt", "trt-fp8"]))
    assert "--nonsense" in str(find_fault(["bench", "B", "--nonsense"]))
    assert "nosuchverb" in str(find_fault(["nosuchverb"]))
    assert sum(1 for line in list_code((ROOT / "README.md").read_text("utf-8")) for _ in list_commands(line)) > 10


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md", ROOT / "benchmarks/results/README.md"], ids=name)
def test_every_link_leads_to_what_is_there(page: Path) -> None:
    faults = []
    for link in (one or other for one, other in LINK.findall(page.read_text("utf-8"))):
        path, _, anchor = link.partition("#")
        if link.startswith(("http://", "https://")):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            faults.append(link)
        elif anchor and anchor not in list_anchors(target.read_text("utf-8")):
            faults.append(f"{link}: no such heading")
    assert not faults, "\n".join(faults)


def list_anchors(text: str) -> set[str]:
    """The headings of a page, as links spell them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_every_page_is_found_from_another() -> None:
    linked: set[Path] = set()
    for page in PAGES:
        links = [one or other for one, other in LINK.findall(page.read_text("utf-8"))]
        linked |= {target for link in links if (target := (page.parent / link.partition("#")[0]).resolve()) != page}
    lost = [
        name(page)
        for page in [*PAGES, *(ROOT / "docs").glob("*.*")]
        if page.resolve() not in linked and page != ROOT / "README.md"
    ]
    assert not lost, f"no page links to {', '.join(lost)}; docs/README.md and docs/decisions/README.md are the lists"


def test_every_decision_begins_with_what_was_decided_because_of_what_and_until_when() -> None:
    pages = sorted(DECISIONS.glob("[0-9]*.md"))
    assert len(pages) > 50
    faults = [name(page) for page in pages if HEAD.match(page.read_text("utf-8")) is None]
    assert not faults, f"expected a title, then **Decided**, **Because** and **Revisit when**, a line each: {', '.join(faults)}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_name_that_a_page_imports_exists(page: Path) -> None:
    for module, names in IMPORT.findall(page.read_text("utf-8")):
        found = importlib.import_module(module)
        for each in re.split(r",\s*", names.strip(", ")):
            assert hasattr(found, each) or importlib.util.find_spec(f"{module}.{each}"), f"{module}.{each}"


def test_every_file_that_a_page_names_is_there() -> None:
    skipped = (".git", "node_modules", "__pycache__")
    files = [
        path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if not set(skipped) & set(path.parts) and path.is_file()
    ]
    ends = {"/".join(parts[i:]) for parts in (file.split("/") for file in files) for i in range(len(parts))}
    faults = [f"{name(page)}: {path}" for page in PAGES for path in FILE.findall(page.read_text("utf-8")) if path not in ends]
    assert not faults, "\n".join(faults)


def test_readme_is_short() -> None:
    words = len((ROOT / "README.md").read_text("utf-8").split())
    assert words <= MOST_WORDS, (
        f"README has {words} words, expected at most {MOST_WORDS}: what is not for everybody goes to docs/"
    )
