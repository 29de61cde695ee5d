"""Which versions of a runtime open the files of a bundle at default options, and draw what the newest draws.

    python benchmarks/runtime_versions.py BUNDLE... --out benchmarks/results [--library openvino] [--venvs /tmp/runtime-versions]

Each version gets an environment of its own with numpy beside it. Every graph of every bundle is fed what the bundle's own
pipeline feeds it for one prompt, in all versions the same; its outputs are compared with the last version's, in decibels.
Graphs of `trt-*` are for TensorRT, so it is their fp32-compute shadows that are opened.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sprint_export.export.bundle import find_artifact, read_bundle
from sprint_export.runtimes import open_bundle
from sprint_export.students.sana_sprint.family import FAMILY
from sprint_export.validate.machine import describe_machine

ROLES = FAMILY.chain.list_missing(())  # without which there is no picture

VERSIONS = {
    "onnxruntime": (
        "1.20.1",
        "1.21.0",
        "1.21.1",
        "1.22.0",
        "1.22.1",
        "1.23.2",
        "1.24.4",
        "1.27.0",
        "1.30.0",
        "1.31.1",
        "1.32.0",
    ),
    "openvino": ("2024.6.0", "2025.0.0", "2025.2.0", "2025.4.1", "2026.0.0", "2026.2.1", "2026.4.1"),
}
PROMPT = "a red circle above a blue square"
CHILD = Path(__file__).with_name("open_graphs.py")


class Recorder:
    """A session that keeps what it is first fed."""

    def __init__(self, session: Any) -> None:
        self.session, self.description, self.feeds = session, session.description, None

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Inputs by name -> outputs by name."""
        self.feeds = self.feeds or dict(feeds)
        result: dict[str, Any] = self.session.run(feeds)
        return result


def record_feeds(folder: Path, target: Path) -> list[dict[str, str]]:
    """One task a network: its graph, and its feeds for one prompt as a file."""
    bundle, pipeline = read_bundle(folder), open_bundle(folder)
    recorders = {role: Recorder(session) for role, session in pipeline.sessions.items()}
    pipeline.sessions = recorders
    pipeline([PROMPT], seed=0)
    tasks = []
    for role in ROLES:
        graph = find_artifact(bundle, role, "shadow") or find_artifact(bundle, role, "graph")
        assert graph is not None and recorders[role].feeds is not None
        feeds = target / f"{folder.name}.{role}.npz"
        np.savez(feeds, **recorders[role].feeds)
        tasks.append({"bundle": folder.name, "role": role, "graph": str(folder.resolve() / graph.path), "feeds": str(feeds)})
    return tasks


def make_environment(folder: Path, library: str, version: str) -> Path:
    """The interpreter of an environment that has the library in this version."""
    if not folder.exists():
        venv.create(folder)
        pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "-q"]
        subprocess.run([*pip, f"{library}=={version}", f"numpy=={np.__version__}"], check=True)
    return folder / "bin" / "python"


def run_version(python: Path, tasks: list[dict[str, str]], folder: Path) -> list[str | None]:
    """An error or None for each task; outputs become files in the folder."""
    folder.mkdir()
    wanted = [task | {"outputs": str(folder / Path(task["feeds"]).name)} for task in tasks]
    (folder / "tasks.json").write_text(json.dumps(wanted), "utf-8")
    subprocess.run([python, CHILD, folder / "tasks.json", folder / "results.json"], check=True, env={"OMP_NUM_THREADS": "1"})
    found: list[str | None] = json.loads((folder / "results.json").read_text("utf-8"))
    return found


def compare(found: Path, wanted: Path) -> float:
    """Signal to noise over all outputs, decibels; 200 where every bit is the same."""
    ours, theirs = np.load(found), np.load(wanted)
    values = [(ours[name].astype(np.float64), theirs[name].astype(np.float64)) for name in theirs]
    noise = sum(np.square(a - b).mean() for a, b in values)
    return float(10 * np.log10(sum(np.square(b).mean() for _, b in values) / max(noise, 1e-20)))


def measure(library: str, tasks: list[dict[str, str]], venvs: Path, work: Path) -> list[dict[str, Any]]:
    """A row a graph and version: how far it is from the newest, or why it was not opened."""
    rows = []
    versions = VERSIONS[library]
    for version in reversed(versions):
        python = make_environment(venvs / f"{library}-{version}", library, version)
        errors = run_version(python, tasks, work / version)
        for task, error in zip(tasks, errors, strict=True):
            name = Path(task["feeds"]).name
            row: dict[str, Any] = {"bundle": task["bundle"], "network": task["role"], "library": library, "version": version}
            if error is None:
                row["snr_db"] = round(min(200.0, compare(work / version / name, work / versions[-1] / name)), 1)
            else:
                row["error"] = error[-200:]
            rows.append(row)
        print(version, [error for error in errors if error] or "all opened", flush=True)
    return rows


def tabulate(rows: list[dict[str, Any]]) -> str:
    """Markdown: a bundle a row, a version a column; the network that is furthest off, or what was refused."""
    lines = []
    for library in dict.fromkeys(row["library"] for row in rows):
        mine = [row for row in rows if row["library"] == library]
        versions = list(reversed(dict.fromkeys(row["version"] for row in mine)))
        lines += [f"| {library} | {' | '.join(versions)} |", "|---" * (len(versions) + 1) + "|"]
        for bundle in dict.fromkeys(row["bundle"] for row in mine):
            cells = []
            for version in versions:
                found = [row for row in mine if (row["bundle"], row["version"]) == (bundle, version)]
                refused = [row["network"] for row in found if "error" in row]
                cells.append(f"refuses {len(refused)}" if refused else f"{min(row['snr_db'] for row in found):.0f}")
            lines.append(f"| `{bundle}` | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--library", choices=sorted(VERSIONS), action="append")
    parser.add_argument("--venvs", type=Path, default=Path(tempfile.gettempdir()) / "runtime-versions")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for library in chosen.library or sorted(VERSIONS):
            folders = [folder for folder in chosen.bundles if folder.name.startswith("openvino") == (library == "openvino")]
            (place := Path(work) / library).mkdir()
            tasks = [task for folder in folders for task in record_feeds(folder, place)]
            rows += measure(library, tasks, chosen.venvs, place)
    print(table := tabulate(rows))
    if chosen.out is not None:
        head = json.dumps({"command": " ".join(sys.argv), "machine": describe_machine()}, indent=1)
        lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
        text = f'{head.removesuffix(chr(10) + "}")},\n "rows": [\n{lines}\n ]\n}}\n'
        (chosen.out / "runtime_versions.json").write_text(text, "utf-8")
        (chosen.out / "runtime_versions.md").write_text(table, "utf-8")


if __name__ == "__main__":
    main()
