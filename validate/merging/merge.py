"""merge_results: what many devices found of one bundle, judged here by one set of gates.

A device says its figures, not its verdict: gates on what every validation against reference/ measures, and those that are asked
for, are applied here; others keep what the device's own gates said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sprint_export.bundle_files import REFERENCE, REPORT
from sprint_export.errors import InputError
from sprint_export.export.bundle import find_file, read_bundle
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.report import Gate, Report, Verdict
from sprint_export.paths import is_file
from sprint_export.runtimes.checking import read_further, read_reference
from sprint_export.runtimes.hub import find_bundle
from sprint_export.validate.against_reference import list_default_gates
from sprint_export.validate.gates import apply_gates, read_gates
from sprint_export.validate.merging.result import DeviceResult, read_result
from sprint_export.validate.report_file import read_report

MOST_RESULTS = 200


@dataclass(frozen=True)
class Merged:
    """Results of one bundle.

    Args:
        bundle: of which they are.
        validation: the bundle's own report, beside PyTorch; None where it has none.
        results: in the order they were given; labels differ.
    """

    bundle: Bundle
    validation: Report | None
    results: tuple[DeviceResult, ...]

    @property
    def verdict(self) -> Verdict:
        """Of all devices together."""
        verdicts = {result.report.verdict for result in self.results}
        return "not met" if "not met" in verdicts else "not decided" if "not decided" in verdicts else "met"


def merge_results(folder: str | Path, paths: Sequence[Path], gates: Sequence[str | Gate] = ()) -> Merged:
    """Read results of devices and judge them.

    Args:
        folder: the bundle that they are of, or its hub id; its files are not hashed.
        paths: of `validate --reference --out` and `bench --json`.
        gates: demands such as 'latency_p50_ms<=100', on every device that has such rows.

    Raises:
        InputError: none or too many, one is no result or of another bundle, or no device has a row that a gate is on.
        BundleError: the bundle is damaged.
    """
    demands = read_gates(gates)
    if not 1 <= len(paths) <= MOST_RESULTS:
        raise InputError(f"{len(paths)} results to merge; expected 1 to {MOST_RESULTS} files")
    bundle = read_bundle(find_bundle(folder), verify=False)
    results = [_read(bundle, path) for path in paths]
    names = {row.metric for result in results for row in result.report.rows}
    for gate in demands:
        if gate.metric not in names:
            raise InputError(f"gate metric {gate.metric!r}: no device measured that; choose from: {', '.join(sorted(names))}")
    judged = [replace(result, report=_judge(result.report, bundle, demands)) for result in results]
    validation = read_report(bundle.folder) if is_file(bundle.folder / REPORT) else None
    return Merged(bundle, validation, tuple(_tell_apart(judged)))


def _read(bundle: Bundle, path: Path) -> DeviceResult:
    result = read_result(path)
    if result.identity != bundle.identity:
        raise InputError(
            f"{path} is of another bundle: identity {result.identity[:12]}..., {bundle.folder} has {bundle.identity[:12]}...; "
            "copy this bundle to the device and run it there again, or give the bundle that it is of"
        )
    drawn = [(check.prompt, check.seed, check.steps) for check in result.checks]
    if drawn and drawn != [(each["prompt"], each["seed"], each["steps"]) for each in list_drawings(bundle)]:
        raise InputError(f"{path}: its pictures are not those of {bundle.folder / REFERENCE}; run it on the device again")
    return result


def list_drawings(bundle: Bundle) -> list[dict[str, Any]]:
    """All drawings of the bundle's reference, as `reference.json` has them; none where it has no reference.

    Raises:
        BundleError: it is damaged.
    """
    if find_file(bundle, REFERENCE) is None:
        return []
    return [*read_reference(bundle), *read_further(bundle)]


def _judge(report: Report, bundle: Bundle, demands: Sequence[Gate]) -> Report:
    """The report by this bundle's default gates and those that are asked for."""
    gates = [*list_default_gates(bundle, demands), *demands]
    return replace(report, rows=apply_gates(report.rows, gates))


def _tell_apart(results: Sequence[DeviceResult]) -> list[DeviceResult]:
    """Equal labels are numbered, past numbers that others have in theirs."""
    seen: Counter[str] = Counter()
    counts = Counter(result.label for result in results)
    found = []
    for result in results:
        label = result.label
        while counts[label] > 1 or (label != result.label and label in counts):
            seen[result.label] += 1
            label = f"{result.label} ({seen[result.label]})"
        found.append(replace(result, label=label))
    return found
