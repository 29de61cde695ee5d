"""What in a Core ML package keeps a Neural Engine from running it, read off the file: a static check, not a promise.

Whether an operation that passes is placed there is the device's decision; one that fails is not. Rules, with their sources:
* values of rank <= 4 (Core ML itself ends at 5; an axis more costs a copy): Apple, "Deploying Transformers on the Apple Neural
  Engine", 2022
* no axis beyond 16,384 (65,536 only from A16 on): ane-guide.readthedocs.io, chapter 17
* half precision: a float32 operation leaves the engine
* no weight file of 2 GB, and on phones of 1 GB: coremltools pull request 2593
* gathers run on the CPU: github.com/hollance/neural-engine
Transposes are counted because each moves the whole tensor through memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sprint_export.export.bundle import locate
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.report import Measurement
from sprint_export.runtimes.coreml.package import package_of

if TYPE_CHECKING:
    from sprint_export.runtimes.coreml.mil.program import Op

MAX_RANK = 4
MAX_AXIS = 16384
CPU_OPS = ("gather", "gather_along_axis", "gather_nd")


@dataclass(frozen=True)
class Rule:
    """What is counted under a metric's name; the first that breaks one is named, unless such are common."""

    metric: str
    note: str
    breaks: Callable[[Op], bool]
    is_common: bool = False


def check_packages(bundle: Bundle) -> list[Measurement]:
    """Rows for every component of a bundle: counts of what a Neural Engine does not take."""
    from sprint_export.runtimes.coreml.mil.program import read_program

    rows = []
    for record in bundle.components:
        packages = [package_of(locate(bundle, f"{record.role}/{part.graph}")) for part in record.parts]
        ops = [op for package in packages for op in read_program(package).ops]
        rows += [_count(record.role, rule, ops) for rule in RULES]
        largest = max((path.stat().st_size for package in packages for path in package.rglob("*.bin")), default=0)
        rows.append(Measurement("largest_weight_file_mb", largest / 1e6, "MB", record.role, note=f"{len(packages)} package(s)"))
    return rows


def _count(role: str, rule: Rule, ops: Iterable[Op]) -> Measurement:
    breaking = [op for op in ops if rule.breaks(op)]
    first = f"; first: {breaking[0].type} {breaking[0].name}" if breaking and not rule.is_common else ""
    return Measurement(rule.metric, float(len(breaking)), "ops", role, note=rule.note + first)


def _shapes(op: Op) -> list[tuple[int, ...]]:
    return [value.shape for value in op.outputs]


RULES = (
    Rule("ne_rank_above_4", f"values of rank above {MAX_RANK}", lambda op: any(len(shape) > MAX_RANK for shape in _shapes(op))),
    Rule("ne_long_axis", f"an axis beyond {MAX_AXIS}", lambda op: any(n > MAX_AXIS for shape in _shapes(op) for n in shape)),
    Rule("ne_float32", "float32 arithmetic", lambda op: op.type != "cast" and any(v.dtype == "float32" for v in op.outputs)),
    Rule("ne_on_cpu", "operations known to run on the CPU", lambda op: op.type in CPU_OPS),
    Rule("transposes", "each moves its tensor through memory", lambda op: op.type == "transpose", is_common=True),
)
