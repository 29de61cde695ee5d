"""What a fresh process does once its first picture is there: draw on for a short while, and say its p50s and its memory."""

from __future__ import annotations

from typing import Any

from sprint_export.session import Pipeline
from sprint_export.validate.latency.bundle_side import BundleSide
from sprint_export.validate.latency.rows import list_seconds
from sprint_export.validate.latency.turns import Length, Turns
from sprint_export.validate.latency.watch import Watch, read_peak_memory

ROUND = Length(warm_up=0, least=(1, 2.0), most_seconds=10.0, spread=0.0)


def draw_round(pipe: Pipeline) -> dict[str, Any]:
    """`p50_s`: of each network and of the whole, of drawings that were not disturbed (none: empty); `peak_memory_mb`."""
    import statistics

    turns = Turns([BundleSide("fresh", pipe, None, pipe.batch)], ROUND, Watch(gpus=()))
    (drawn,) = turns.draw()
    calm = [each for each in drawn if each.is_quiet]
    medians = {role: statistics.median(values) for role, values in list_seconds(calm).items() if values}
    return {"p50_s": medians, "peak_memory_mb": read_peak_memory()}
