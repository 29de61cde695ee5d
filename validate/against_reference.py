"""validate_against_reference: a bundle beside what it drew where it was made, on a machine without PyTorch.

    reference/  --prompts, seeds-->  drawn here  --pixels, digests of every network's outputs-->  rows, gates, a DeviceResult
The reference was drawn from the same files, so it says whether this machine draws what the validated bundle draws; how far that
is from PyTorch says the bundle's own report. numpy and a runtime are all it takes, and nothing is written.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sprint_export.errors import InputError, unknown_choice
from sprint_export.export.bundle import read_bundle
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.report import Gate, Measurement, Metric, PictureRow, Report
from sprint_export.progress import Progress, quiet
from sprint_export.quantize.schemes.scheme import load_scheme
from sprint_export.registry import load_target
from sprint_export.runtimes.checking import INPUTS, Check, check_drawings, read_further, read_reference
from sprint_export.runtimes.hub import find_bundle
from sprint_export.runtimes.open import choose_runtime, open_pipeline
from sprint_export.runtimes.reference import is_small
from sprint_export.validate.gates import apply_gates, read_gates
from sprint_export.validate.machine import describe_machine, find_driver, list_versions
from sprint_export.validate.merging.result import LONGEST_LABEL, DeviceResult

if TYPE_CHECKING:
    from sprint_export.validate.latency.results import Bench

WORST, OTHER_INPUTS = "reference_psnr_worst_db", "reference_other_inputs"
METRICS = tuple(map(Metric, ("reference_psnr_db", WORST, "reference_largest_difference", "reference_same_percent", OTHER_INPUTS)))
TIMED = tuple(map(Metric, ("latency_*", "cold_start_ms", "first_picture_ms", "peak_memory_mb", "device_memory_mb")))  # with runs
PSNR = "psnr_db"  # the scheme's gate that says how far a bundle may be from PyTorch
DEFAULT = "default"
COLD_STARTS = 1  # beside pictures that are timed


@dataclass(frozen=True)
class DeviceInquiry:
    """What a validation against the reference is asked for.

    Args:
        gates: demands such as 'reference_psnr_worst_db>=40', in place of the defaults on their metrics; all of them hold.
        runtime: as in `open_bundle`.
        provider: likewise.
        runs: pictures that are timed after the comparison; 0: none.
        label: what the device is called where results of several stand side by side; default: its processor.
    """

    gates: Sequence[str | Gate] = ()
    runtime: str | None = None
    provider: str | None = None
    runs: int = 0
    label: str = ""

    def __post_init__(self) -> None:
        if self.runs < 0:
            raise InputError(f"runs={self.runs}: expected 0 or more pictures to time")
        if len(self.label) > LONGEST_LABEL:
            raise InputError(f"label: found {len(self.label)} letters, expected at most {LONGEST_LABEL}")


def validate_against_reference(folder: str | Path, progress: Progress = quiet, **asked: Any) -> DeviceResult:
    """Draw all that `reference/` holds and compare pictures and every network's outputs; judge, and time where that is asked for.

    Args:
        folder: the bundle, or its hub id; it may be packed, and on a disk that cannot be written.
        progress: is told (step, done, total).
        asked: fields of `DeviceInquiry`, by name.

    Raises:
        InputError: no bundle there, it has no reference, or what is asked for makes no sense.
        BundleError: its files are damaged. MachineError: nothing here can run it.
    """
    inquiry = DeviceInquiry(**asked)
    gates = read_gates(inquiry.gates)
    _check_names(gates, inquiry)
    bundle = read_bundle(find_bundle(folder, progress))
    known = [*read_reference(bundle), *read_further(bundle)]
    start = time.perf_counter()
    runtime = choose_runtime(bundle, inquiry.runtime, inquiry.provider)
    pipeline = open_pipeline(bundle, runtime, one_at_a_time=not is_small(bundle))
    checks = tuple(check for check, _ in check_drawings(bundle, pipeline, known, progress=progress))
    seconds = round(time.perf_counter() - start, 1)
    timed = _time(bundle, inquiry, progress)
    rows = [*compare_checks(checks), *(timed.report.rows if timed else ())]
    report = Report(
        bundle=str(bundle.folder),
        target=f"{bundle.target}-{bundle.precision}",
        runtime=checks[-1].now,
        machine=describe_machine(),
        prompts=len(checks),
        rows=apply_gates(rows, [*list_default_gates(bundle, gates), *gates], gates),
        seconds=seconds,
        pictures=tuple(_describe_picture(i, check) for i, check in enumerate(checks)),
        unchecked=tuple(_list_unchecked(bundle, inquiry, len(checks))),
    )
    return DeviceResult(
        identity=bundle.identity,
        label=inquiry.label or describe_machine(),
        provider=inquiry.provider or DEFAULT,
        driver=find_driver(),
        versions=list_versions(("tokenizers", *bundle.runtimes)),
        report=report,
        checks=checks,
        bench=timed.conditions if timed else None,
    )


def compare_checks(checks: Sequence[Check]) -> list[Measurement]:
    """Rows over all drawings of the reference."""
    psnr = np.array([check.psnr_db for check in checks])
    stages = [stage for check in checks for stage in check.stages]
    same = sum(stage.is_same for stage in stages)
    other = [check for check in checks if check.begins in INPUTS]
    begins = sorted({check.begins for check in checks if check.begins})
    count = "1 picture" if len(checks) == 1 else f"{len(checks)} pictures"
    share = 100 * same / len(stages) if stages else 0.0
    where = f"; others from {', '.join(begins)} on" if begins else ""
    return [
        Measurement("reference_psnr_db", float(psnr.mean()), "dB", note=f"drawn here vs reference/, mean over {count}"),
        Measurement(WORST, float(psnr.min()), "dB", note="the worst picture"),
        Measurement(
            "reference_largest_difference",
            float(max(check.largest for check in checks)),
            "of 255",
            note="of two pixels' values",
        ),
        Measurement(
            "reference_same_percent", share, "%", note=f"{same} of {len(stages)} calls of networks equal to the bit{where}"
        ),
        Measurement(OTHER_INPUTS, float(len(other)), "pictures", note="whose token ids, mask or noise are not the reference's"),
    ]


def _check_names(gates: Sequence[Gate], inquiry: DeviceInquiry) -> None:
    """Refuse gates on rows that this validation will not have, before any work."""
    known = (*METRICS, *(TIMED if inquiry.runs else ()))
    for gate in gates:
        if not any(metric.fits(gate.metric) for metric in known):
            names = (metric.name for metric in known)
            raise unknown_choice("gate metric of a validation against reference/, without PyTorch:", gate.metric, names)


def list_default_gates(bundle: Bundle, asked: Sequence[Gate]) -> list[Gate]:
    """How far from the reference the worst picture may be: as far as the scheme lets a bundle be from PyTorch."""
    scheme = load_scheme(load_target(bundle.target).offers[bundle.precision].scheme)
    limits = [gate.limit for gate in scheme.gates if gate.metric == PSNR]
    reason = "as far as this precision may be from PyTorch: both sides of this comparison round alike"
    found = [Gate(WORST, ">=", limit, reason) for limit in limits]
    found.append(Gate(OTHER_INPUTS, "<=", 0.0, "token ids, mask and noise are the same to the bit on every machine"))
    replaced = {gate.metric for gate in asked}
    return [gate for gate in found if gate.metric not in replaced]


def _time(bundle: Bundle, inquiry: DeviceInquiry, progress: Progress) -> Bench | None:
    """Pictures and one cold start, where that is asked for."""
    if not inquiry.runs:
        return None
    from sprint_export.validate.latency import bench_bundle

    where = {"runtime": inquiry.runtime, "provider": inquiry.provider}
    return bench_bundle(bundle.folder, progress, runs=inquiry.runs, cold_starts=COLD_STARTS, **where)


def _describe_picture(place: int, check: Check) -> PictureRow:
    figures = {"reference_psnr_db": check.psnr_db, "largest_difference": float(check.largest)}
    return PictureRow(place, check.prompt, figures)


def _list_unchecked(bundle: Bundle, inquiry: DeviceInquiry, count: int) -> list[str]:
    """What a validation beside PyTorch would add."""
    found = [
        "PyTorch was not run: how far the bundle is from the student (psnr_db, ssim, adherence, the converter's and the recipe's "
        "part) says the report that was made with it; pip install 'sprint-export[export]', then: sprint-export validate",
        f"{count} {'picture was' if count == 1 else 'pictures were'} drawn; a validation beside PyTorch draws as many as its "
        "gates take, 64 or more of small ones",
        "the weights in the files were not compared with the student's: that takes PyTorch too",
    ]
    if not is_small(bundle):
        found.append(
            "pictures are large, so reference/ holds one prompt: it says that this machine draws it, not how pictures vary"
        )
    if not inquiry.runs:
        found.append("nothing was timed: give --runs, or run: sprint-export bench")
    return found
