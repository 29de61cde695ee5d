"""Campaign: a disk that fills up while a verb writes what it found: one line and status 3, no half of a report, then right.

Disks are small tmpfs, as in full_disks.py; sizes are drawn up to a little more than the verb writes.
"""

from __future__ import annotations

import functools
import json
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from sprint_export.clear_errors import explain_error
from sprint_export.files import write_text
from sprint_export.planning.asking import Wanted, fit_measured
from sprint_export.planning.measured import read_measured
from sprint_export.planning.price_file import save_prices
from sprint_export.students import load_student
from sprint_export.validate import validate_bundle
from sprint_export.validate.against_reference import validate_against_reference
from sprint_export.validate.ci.files import CiFiles
from sprint_export.validate.comparing.compare import compare_entries
from sprint_export.validate.merging.files import write_merged
from sprint_export.validate.merging.merge import merge_results
from sprint_export.validate.merging.result import format_result
from sprint_export.validate.report_file import read_report
from tests.attack.forks import Ended, run_forked
from tests.attack.full_disks import PAGE, SAID, mount_disk
from tests.attack.kill_runs import KINDS
from tests.attack.outcomes import CLEAN, RIGHT, WRONG, Tally
from tests.attack.verb_faults import PROMPTS, Inputs, describe_all, read_inputs

NAME = "full disks under verbs"
SECONDS, GIGABYTES = 200.0, 8.0
REFUSED = "No space left on device"
Act = Callable[[Path], object]  # given the disk


def list_acts(inputs: Inputs) -> dict[str, Act]:
    """What verbs write; a bundle that is validated lies on the disk."""

    def validate(disk: Path) -> None:
        report = validate_bundle(disk / "bundle", load_student(inputs.student), PROMPTS)
        CiFiles(disk / "junit.xml", disk / "summary.md").write([report])

    def compare(disk: Path) -> None:
        compare_entries({"a": inputs.bundle}, disk / "out", load_student(inputs.student), prompts=PROMPTS)

    def fit(disk: Path) -> None:
        found = fit_measured(Wanted(str(inputs.bundle)), (read_measured(inputs.bench),), None, lambda *_: None, lambda text: None)
        save_prices(disk / "prices.json", found.prices, {"padding": "x" * 20_000})

    return {
        "validate": validate,
        "compare": compare,
        "report --merge": lambda disk: write_merged(merge_results(inputs.bundle, [inputs.result, inputs.bench]), disk / "out"),
        "plan --fit --save": fit,
        "validate --reference --out": lambda disk: write_text(
            disk / "device.json", format_result(validate_against_reference(inputs.bundle))
        ),
    }


def attempt(act: Act, disk: Path) -> Ended:
    """The act in a fork; what the command would say of an error."""

    def child() -> str:
        try:
            act(disk)
        except Exception as error:
            known = explain_error(error)
            if known is None:
                raise
            raise known from error
        return ""

    return run_forked(child, SECONDS, GIGABYTES)


def list_halves(disk: Path) -> list[str]:
    """Reports that are not whole, and what is left of a write."""
    found = [path.name for path in disk.rglob("*") if ".part" in path.name]
    for path in disk.rglob("*.json"):
        try:
            json.loads(path.read_text("utf-8"))
        except ValueError:
            found.append(path.name)
    for path in disk.rglob("*.html"):
        if not path.read_text("utf-8").rstrip().endswith("</html>"):
            found.append(path.name)
    return found


def fill_once(name: str, act: Act, size: int, root: Path, bundle: Path) -> tuple[str, str]:
    """One run on a disk with so many free bytes, and one with room; the outcome and what was seen."""
    has_bundle = name == "validate"
    taken = sum(-(-path.stat().st_size // PAGE) * PAGE + PAGE for path in bundle.rglob("*")) if has_bundle else 0
    with mount_disk(root / "disk", str(taken + size)) as make_room:
        if has_bundle:
            shutil.copytree(bundle, root / "disk" / "bundle")
        full = attempt(act, root / "disk")
        if halves := list_halves(root / "disk"):
            return WRONG, f"{full.kind} {full.text[:200]}; half-written: {halves}"
        make_room()
        if full.kind == "clean":
            is_said = any(said in full.text for said in (*SAID, REFUSED))
            if full.exit_status != 3 or not is_said:
                return WRONG, f"status {full.exit_status}: {full.text}"
        elif full.kind != "returned":
            return KINDS[full.kind], full.text
        again = attempt(act, root / "disk")
        if again.kind != "returned" or list_halves(root / "disk"):
            return WRONG, f"then {again.kind} {again.text}; {list_halves(root / 'disk')}"
        if has_bundle:
            read_report(root / "disk" / "bundle")
    return (CLEAN, full.text) if full.kind == "clean" else (RIGHT, "it had room")


def measure_act(act: Act, root: Path, bundle: Path) -> int:
    """Bytes that an act writes, in whole pages."""
    folder = root / "whole"
    folder.mkdir()
    shutil.copytree(bundle, folder / "bundle")
    before = set(folder.rglob("*"))
    ended = attempt(act, folder)
    assert ended.kind == "returned", ended
    size = sum(-(-path.stat().st_size // PAGE) * PAGE + PAGE for path in folder.rglob("*") if path not in before)
    shutil.rmtree(folder)
    return size


def run(count: int, seed: int, tally: Tally) -> None:
    """Fill `count` disks."""
    source = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="full-") as temporary:
        root = Path(temporary)
        inputs = read_inputs(run_forked(functools.partial(describe_all, root), 400, 16))
        acts = list_acts(inputs)
        sizes = {name: measure_act(act, root, inputs.bundle) for name, act in acts.items()}
        for i in range(count):
            name = list(acts)[i % len(acts)]
            size = source.randint(1, int(1.3 * sizes[name]) // PAGE + 2) * PAGE
            try:
                outcome, seen = fill_once(name, acts[name], size, root, inputs.bundle)
            except subprocess.CalledProcessError as error:
                raise RuntimeError(f"this machine mounts no disks: {error}") from error
            tally.add(name, outcome, f"disk {i} of seed {seed}, {size} of {sizes[name]} bytes: {seen}")
