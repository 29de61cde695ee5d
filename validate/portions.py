"""How many pictures a validation or a comparison holds: prompts are drawn in portions, and what was drawn of many lies on a disk.

    HELD_BYTES      of pictures on both sides: so many stay in memory, more are files of the cache (kept.py, rows.py)
    PORTION_BYTES   of what networks hand to one another: all texts of a portion are encoded before its first picture is drawn
A network is opened once a portion, so a portion is as large as memory allows: hundreds of prompts of a student of full size.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sprint_export.cache import ADVICE, VARIABLE, cache_folder
from sprint_export.compute import CPU, Compute
from sprint_export.errors import MachineError
from sprint_export.noise import VALIDATION_SEED, make_noise
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.chain import Interface
from sprint_export.nouns.student import Student, TensorSpec
from sprint_export.progress import Progress, Step
from sprint_export.sizes import find_sizes
from sprint_export.students.family import Draws, load_family
from sprint_export.validate.kept import Holder

HELD_BYTES = 1 << 26
PORTION_BYTES = 1 << 30
MOST_AT_ONCE = 256  # prompts of a portion
SHELL_BYTES = 2048  # of a file beside its arrays
FLOAT_BYTES = 4


def make_draws(
    specialized: Student, networks: Mapping[str, Interface], prompts: Sequence[str], compute: Compute = CPU, first: int = 0
) -> Draws:
    """What all versions draw of a specialized student with these networks: prompts, noise, what optional networks take.

    Noise and inputs of a prompt depend on its place alone; `first` is that of the first of these prompts.
    """
    assert specialized.plan is not None
    plan, family = specialized.plan, load_family(specialized.family)
    noise = make_noise(VALIDATION_SEED + first, plan.steps, len(prompts), specialized.latent_shape)
    samples = family.make_inputs(specialized, prompts, first)
    inputs = {name: samples[name] for name in specialized.chain.list_given(networks)}
    times = tuple(plan.times[row] for row in plan.rows())
    own = family.plan_times(plan.steps)
    return Draws(prompts, noise, plan.guidance, inputs, compute, times=() if times == own else times)


@dataclass(frozen=True)
class LaterDraws:
    """What `make_draws` gives of some of many prompts, made where it is asked for: noise of all may not fit into memory."""

    specialized: Student
    networks: Mapping[str, Interface]
    prompts: Sequence[str]
    compute: Compute = CPU

    def take(self, places: range) -> Draws:
        """Of prompts that follow one another."""
        some = self.prompts[places.start : places.stop]
        return make_draws(self.specialized, self.networks, some, self.compute, places.start)

    def pick(self, places: Sequence[int]) -> Draws:
        """Of prompts at any places, at least one."""
        each = [self.take(range(place, place + 1)) for place in places]
        noise = np.concatenate([one.noise for one in each], axis=1)
        inputs = {name: np.concatenate([one.inputs[name] for one in each]) for name in each[0].inputs}
        return replace(each[0], prompts=[one.prompts[0] for one in each], noise=noise, inputs=inputs)


@dataclass(frozen=True)
class Portions:
    """The portions of one validation, or of one comparison.

    Args:
        count: prompts that may be drawn.
        at_once: prompts of a portion.
        row_bytes: a picture, and the state that it was decoded from.
        handed_bytes: what networks hand to one another for a prompt.
        sides: that draw each prompt.
    """

    count: int
    at_once: int
    row_bytes: int
    handed_bytes: int
    sides: int = 2

    @property
    def is_kept(self) -> bool:
        """Whether pictures lie on a disk, and not in memory."""
        return self.sides * self.count * self.row_bytes > HELD_BYTES

    def split(self, places: range) -> list[range]:
        """These places, a portion at a time."""
        return [places[start : start + self.at_once] for start in range(0, len(places), self.at_once)]

    def count_bytes(self, copies: int) -> int:
        """Of the disk at most: a file for each picture of each side, and what is unfinished of a portion."""
        unfinished = self.at_once * (self.handed_bytes + FLOAT_BYTES * self.row_bytes)
        return copies * self.count * (self.row_bytes + SHELL_BYTES) + unfinished


def plan_portions(bundle: Bundle, count: int) -> Portions:
    """The portions of so many prompts, by the sizes that the bundle's networks declare."""
    height, width = find_sizes(bundle).pixels
    state = FLOAT_BYTES * math.prod(bundle.latent_shape)
    row = 3 * height * width + state
    picture = bundle.chain.names.picture
    outputs = (spec for record in bundle.components for spec in record.outputs if spec.name != picture)
    handed = sum(map(_count_bytes, outputs)) + state * (1 + bundle.plan.steps)
    return divide_prompts(count, row, handed)


def divide_prompts(count: int, row_bytes: int, handed_bytes: int, sides: int = 2) -> Portions:
    """Portions as large as PORTION_BYTES and MOST_AT_ONCE let them be; arguments as in `Portions`."""
    at_once = max(1, min(MOST_AT_ONCE, PORTION_BYTES // (handed_bytes + 2 * row_bytes)))
    return Portions(count, at_once, row_bytes, handed_bytes, sides)


def _count_bytes(spec: TensorSpec) -> int:
    """Of one prompt's; free axes count 1, as the state's bytes are counted beside."""
    size = np.dtype(spec.dtype).itemsize if spec.dtype in np.sctypeDict else FLOAT_BYTES
    return size * math.prod(each for each in spec.shape[1:] if isinstance(each, int))


def check_disk(
    portions: Portions, copies: int, holder: Holder, list_kept: Callable[[], Iterable[Path]], progress: Progress
) -> None:
    """Say what the pictures take of the cache's disk, and see that it is there.

    Args:
        portions: of the validation.
        copies: files of each picture.
        holder: says that this run reads what is kept.
        list_kept: the files of pictures, of which some may be there from an earlier run; asked only where room is short.
        progress: is told, before anything is drawn.

    Raises:
        MachineError: it is not, or the cache cannot be written to.
    """
    if holder.path is None:
        raise MachineError(f"pictures are kept at {cache_folder()}, which cannot be written to; {ADVICE}")
    folder, needed = cache_folder(), portions.count_bytes(copies)
    there = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    free = shutil.disk_usage(there).free
    step = Step("disk", f"pictures take up to {needed / 1e9:.2f} GB of {free / 1e9:.1f} GB free at {folder}")
    progress(step, 0, 1)
    if needed > free:
        needed -= sum(path.stat().st_size for path in list_kept() if path.is_file())
    if needed > free:
        raise MachineError(
            f"the pictures of {portions.count:,} prompts take {needed / 1e9:.2f} GB of the disk at {folder}, where "
            f"{free / 1e9:.2f} GB are free; free some, set {VARIABLE} to a folder with more, or draw fewer (--count)"
        )
    progress(step, 1, 1)
