"""Latency of a bundle on this machine: wall-clock percentiles of every component and of the whole picture."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from sprint_export.errors import InputError
from sprint_export.export.bundle import read_bundle
from sprint_export.nouns.report import Measurement, Report
from sprint_export.progress import Progress, Step, quiet
from sprint_export.runtimes.open import open_bundle
from sprint_export.session import list_findings
from sprint_export.validate.machine import describe_machine

PROMPT = "a small red circle above a large blue square"


def time_bundle(
    folder: str | Path, runs: int = 10, runtime: str | None = None, progress: Progress = quiet, provider: str | None = None
) -> Report:
    """Draw `runs` pictures after one that warms up, and report milliseconds; so many at a time as the graphs take at once.

    Raises:
        InputError: fewer than one run, or no bundle there.
    """
    if runs < 1:
        raise InputError(f"runs={runs}: expected at least 1")
    bundle, pipeline = read_bundle(Path(folder), verify=False), open_bundle(folder, runtime, provider=provider)
    prompts = [PROMPT] * pipeline.batch
    note = f"a picture, of {pipeline.batch} drawn at once" if pipeline.batch > 1 else ""
    pipeline(prompts)
    pipeline.seconds.clear()
    whole = []
    for i in range(runs):
        progress(Step("timing"), i, runs)
        start = time.perf_counter()
        pipeline(prompts, seed=i)
        whole.append(time.perf_counter() - start)
    progress(Step("timing"), runs, runs)
    rows = [
        Measurement(f"latency_p{percent}_ms", 1e3 * float(np.percentile(seconds, percent)) / len(prompts), "ms", role, note=note)
        for role, seconds in [*pipeline.seconds.items(), ("whole picture", whole)]
        for percent in (50, 90)
    ]
    rows += [found.as_row(role) for role, session in pipeline.sessions.items() for found in list_findings(session)]
    return Report(str(folder), f"{bundle.target}-{bundle.precision}", pipeline.description, describe_machine(), runs, tuple(rows))
