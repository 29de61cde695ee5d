"""Names for how attacked calls ended, counted by kind of attack, and the table that shows them."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

RIGHT = "right"  # done, and the result is the undisturbed one
CLEAN = "clean"  # one line and exit status 2 or 3
GATE = "gate"  # exit status 1: done, and a gate saw it
WRONG = "silent wrong"  # done without a word, and the result is another
TRACEBACK = "traceback"
SIGNAL = "signal"
HANG = "hang"  # or memory without bound
OUTSIDE = "read outside"
LOST = "lost files"
OUTCOMES = (RIGHT, CLEAN, GATE, WRONG, TRACEBACK, SIGNAL, HANG, OUTSIDE, LOST)
FAULTS = OUTCOMES[3:]
MOST_SAMPLES = 20  # kept of each fault

OF_KINDS = {"clean": CLEAN, "traceback": TRACEBACK, "signal": SIGNAL, "hang": HANG}  # of forks.Ended
LONGEST_LINE = 3000


def judge(kind: str, text: str) -> str:
    """What an ended call counts as that returns "" where all is well; an error of several lines, or without end, is wrong."""
    if kind == "returned":
        return WRONG if text else RIGHT
    is_line = "\n" not in text.strip() and len(text) < LONGEST_LINE
    return OF_KINDS[kind] if kind != "clean" or is_line else WRONG


class Tally:
    """Counts of outcomes by attack, with the first samples of every fault."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.samples: dict[str, list[str]] = defaultdict(list)

    def add(self, attack: str, outcome: str, sample: str) -> None:
        """Count one attacked call; `sample` says how to make it again and what was seen."""
        assert outcome in OUTCOMES, outcome
        self.counts[attack][outcome] += 1
        if outcome in FAULTS and len(self.samples[outcome]) < MOST_SAMPLES:
            self.samples[outcome].append(f"{attack}: {sample}")

    @property
    def faults(self) -> list[str]:
        """The samples of all faults; empty where everything ended well."""
        return [f"{outcome}: {sample}" for outcome, samples in self.samples.items() for sample in samples]

    @property
    def total(self) -> int:
        """How many calls were attacked."""
        return sum(count for counter in self.counts.values() for count in counter.values())

    def to_json(self) -> dict[str, Any]:
        """Counts and samples as plain values."""
        return {
            "total": self.total,
            "counts": {k: dict(v) for k, v in sorted(self.counts.items())},
            "samples": dict(self.samples),
        }

    def table(self) -> str:
        """A Markdown table: an attack a row, an outcome a column."""
        head = f"| attack | tried | {' | '.join(OUTCOMES)} |"
        lines = [head, "|---" * (len(OUTCOMES) + 2) + "|"]
        for attack, counter in sorted(self.counts.items()):
            cells = " | ".join(str(counter[outcome]) for outcome in OUTCOMES)
            lines.append(f"| {attack} | {counter.total()} | {cells} |")
        return "\n".join(lines)
