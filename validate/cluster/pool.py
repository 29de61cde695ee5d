"""Shards of prompts over the workers of a Ray cluster; each prompt's result is a file as soon as it is there.

Whose file is there is not drawn again: a killed validation goes on with what is missing, on any number of workers. A worker that
is lost is started again by Ray, and draws its shard again; one that is lost more than RESTARTS times ends the validation.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sprint_export.errors import MachineError, SprintExportError
from sprint_export.libraries import hush, require
from sprint_export.progress import Progress, Step, quiet
from sprint_export.runtimes.interfaces import name_first_line
from sprint_export.students.family import Draws
from sprint_export.validate.cluster.job import KIND, Job, ShardDrawer, ShardResult
from sprint_export.validate.kept import Kept
from sprint_export.validate.portions import LaterDraws
from sprint_export.validate.reference_cache import ReferenceSide
from sprint_export.validate.rows import open_rows
from sprint_export.validate.side_by_side import NO_MASK, Drawn, Trace

if TYPE_CHECKING:
    from pathlib import Path

LOCAL = "local"  # a cluster of this machine's processors, started for the validation
RESTARTS = 3  # of one worker
SMALL_SHARD, LARGE_SHARD = 16, 4  # prompts; loading what draws them takes a second, or many
SHARDS_A_WORKER = 4  # at least, as long as a shard has two prompts: the last ones end together
DRAWING = Step("drawing", "on the cluster")


class Worker:
    """An actor: what Ray starts for each processor, or each GPU."""

    def __init__(self, job: Job) -> None:
        self._drawer = ShardDrawer(job)

    def draw(self, places: list[int], draws: Draws) -> tuple[list[int], ShardResult]:
        """A shard, with the places it was sent with."""
        return places, self._drawer.draw(draws)


@dataclass
class Cluster:
    """Workers that draw.

    Args:
        address: of a Ray cluster, as ray.init takes it, or "local".
        job: what each opens.
        is_small: whether pictures are.
        kept: where results lie until the report is written.
    """

    address: str
    job: Job
    is_small: bool
    kept: Kept

    @property
    def copies(self) -> int:
        """Files of each picture on this machine's disk: results, and what workers here keep of the reference."""
        return 3 if self.address == LOCAL else 2

    def draw(self, draws: LaterDraws, portions: Sequence[range], progress: Progress = quiet) -> tuple[ReferenceSide, Drawn]:
        """Both sides of all prompts at the places of these portions, in their order; they lie in files.

        Raises:
            MachineError: the cluster is not there, or loses its workers again and again; or a result cannot be written.
        """
        paths = {
            place: path for portion in portions for place, path in zip(portion, self._locate(draws.take(portion)), strict=True)
        }
        missing = [place for place, path in paths.items() if self.kept.read(path) is None]
        done = len(paths) - len(missing)
        reference_seconds: dict[str, list[float]] = {}
        traces: dict[str, Trace] = {}
        description = f"{done} pictures of an earlier run" if done else ""
        progress(DRAWING, done, len(paths))
        for places, shard in self._draw_missing(draws, missing):
            for place, result in zip(places, shard.prompts, strict=True):
                self.kept.write(paths[place], result.as_arrays(), is_needed=True)
            done += len(places)
            for role, seconds in shard.reference_seconds.items():
                reference_seconds.setdefault(role, []).extend(seconds)
            for role, seconds in shard.exported_seconds.items():
                traces.setdefault(role, Trace()).seconds.extend(seconds)
            description = shard.description
            progress(DRAWING, done, len(paths))
        names = ("reference", "reference_latents", "exported", "exported_latents")
        rows, _ = open_rows(self.kept, list(paths.values()), names)
        return ReferenceSide(rows[0], rows[1], reference_seconds), Drawn(rows[2], rows[3], NO_MASK, traces, description)

    def _draw_missing(self, draws: LaterDraws, missing: Sequence[int]) -> Iterator[tuple[list[int], ShardResult]]:
        """Places and results of shards, as they are done."""
        if not missing:
            return
        with connect(self.address) as ray:
            workers = self._start(ray, len(missing))
            shards = split_places(missing, len(workers), SMALL_SHARD if self.is_small else LARGE_SHARD)

            def send(worker: Any, shard: list[int]) -> Any:
                return worker.draw.remote(shard, _take(draws, shard))

            try:
                yield from ray.util.ActorPool(workers).map_unordered(send, shards)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, SprintExportError):
                    raise error.cause from None
                raise MachineError(f"a worker of the cluster failed: {name_first_line(error.cause)}") from error
            except ray.exceptions.RayActorError as error:
                raise MachineError(
                    f"a worker of the cluster was lost more than {RESTARTS} times (is its memory too small?); what was drawn is "
                    "kept: validate again to go on"
                ) from error

    def _start(self, ray: Any, count: int) -> list[Any]:
        """A worker for each processor of the cluster, or each GPU where torch draws on GPUs; no more than there are prompts."""
        on_gpus = self.job.compute == "cuda"
        there = int(ray.cluster_resources().get("GPU" if on_gpus else "CPU", 0))
        if not there:
            raise MachineError(f"the cluster at {self.address!r} has no {'GPU' if on_gpus else 'processor'} to draw with")
        make = ray.remote(num_cpus=1, num_gpus=int(on_gpus), max_restarts=RESTARTS, max_task_retries=RESTARTS)(Worker)
        return [make.remote(self.job) for _ in range(min(there, count))]

    def _locate(self, draws: Draws) -> list[Path]:
        question = json.dumps(asdict(self.job), sort_keys=True, default=str)
        return [self.kept.locate([KIND, question, *one.prompts], {"noise": one.noise, **one.inputs}) for one in draws.split()]


def split_places(places: Sequence[int], workers: int, most: int) -> list[list[int]]:
    """Shards of at most `most` places; smaller ones where that leaves fewer than SHARDS_A_WORKER to each worker."""
    size = max(1, min(most, len(places) // (workers * SHARDS_A_WORKER)))
    return [list(places[start : start + size]) for start in range(0, len(places), size)]


@contextmanager
def connect(address: str) -> Iterator[Any]:
    """The library `ray`, connected to a cluster, or to one that is started here and ends with it.

    Raises:
        MachineError: ray is not installed, or there is no cluster at the address.
    """
    ray = require("ray", "ray")
    was_connected = ray.is_initialized()
    try:
        if not was_connected:
            with hush():
                ray.init(address=address, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    except Exception as error:  # ConnectionError, RuntimeError, ValueError, and grpc's own
        raise MachineError(
            f"no Ray cluster at {address!r} ({name_first_line(error)}); expected {LOCAL!r}, auto, or the HOST:PORT that "
            "`ray start --head` said"
        ) from error
    try:
        yield ray
    finally:
        if not was_connected:
            ray.shutdown()


def _take(draws: LaterDraws, places: Sequence[int]) -> Draws:
    """Some of the prompts, without what is of this process alone."""
    part = draws.pick(places)
    return Draws(part.prompts, part.noise, part.guidance, part.inputs, times=part.times)
