"""A bundle as a side that draws in turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sprint_export.nouns.bundle import Bundle
from sprint_export.runtimes.open import choose_runtime, open_pipeline
from sprint_export.session import Pipeline

PROMPT = "a small red circle above a large blue square"


@dataclass(frozen=True)
class Where:
    """What runs a bundle: runtime, provider and threads of the CPU, each None where the first that can is taken."""

    runtime: str | None = None
    provider: str | None = None
    threads: int | None = None


@dataclass
class BundleSide:
    """A bundle's pipeline, drawing the same prompt `pictures` times at once."""

    label: str
    pipeline: Pipeline
    replays: bool | None
    pictures: int

    @classmethod
    def open(cls, bundle: Bundle, where: Where, pictures: int | None = None) -> BundleSide:
        """Open it where that was asked for, or on the first runtime that can run here.

        Raises:
            InputError, RefusedError, MachineError, BundleError: as `open_bundle`.
        """
        chosen = choose_runtime(bundle, where.runtime, where.provider).limit_threads(where.threads)
        pipeline = open_pipeline(bundle, chosen)
        return cls(f"{bundle.target}-{bundle.precision}", pipeline, chosen.replays, pictures or pipeline.batch)

    def draw_others(self, pictures: int) -> BundleSide:
        """A side on the same sessions that draws another number at once."""
        return replace(self, pictures=pictures)

    @property
    def description(self) -> str:
        """What runs it and where."""
        return self.pipeline.description

    def draw(self, seed: int) -> Mapping[str, Sequence[float]]:
        """Draw; the seconds of each call of each network, by role."""
        self.pipeline.seconds.clear()
        self.pipeline([PROMPT] * self.pictures, seed=seed)
        return {role: tuple(seconds) for role, seconds in self.pipeline.seconds.items()}
