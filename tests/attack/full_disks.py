"""A disk that fills up somewhere in a run: one line and status 3; with room made, the same command gives the undisturbed bundle.

Disks are small tmpfs, so this needs the right to mount; `can_mount` says whether it is there.
"""

from __future__ import annotations

import random
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sprint_export.conversion import convert
from sprint_export.errors import MachineError
from sprint_export.files import remove
from tests.attack.forks import Ended
from tests.attack.kill_runs import KINDS, World, keep_warm, make_student, read_state
from tests.attack.outcomes import CLEAN, RIGHT, WRONG, Tally

NAME = "full disks"
SAID = ("the disk is full (", "free some space and run the same command again")  # at the last byte, and before the first
TARGETS = ("onnx-int8", "openvino-int8", "coreai-int8", "coreml-int8")
LARGE = "256m"
PAGE = 4096


@contextmanager
def mount_disk(place: Path, size: str) -> Iterator[Callable[[], object]]:
    """A disk of that size; yields what makes it large."""
    place.mkdir(exist_ok=True)
    subprocess.check_call(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place])
    try:
        yield lambda: subprocess.check_call(["mount", "-o", f"remount,size={LARGE}", place])
    finally:
        subprocess.check_call(["umount", place])


def can_mount() -> bool:
    """Whether this process may mount a disk."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with mount_disk(Path(folder) / "disk", "64k"):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


def fill_disk(target: str, size: int, root: Path, wanted: dict[str, str]) -> tuple[str, str]:
    """One run on a disk of `size` bytes, and one with room; the outcome of the first and what was seen."""
    student = make_student()

    def act(world: World) -> Ended:
        return world.run(lambda: convert(student, target, world.out, components=("vae_decoder",), validate=False))

    with mount_disk(root / "disk", str(size)) as make_room:
        world = World(root / "disk" / "world")
        world.cache, world.temporary = root / "cache", root / "temporary"
        full = act(world)
        make_room()
        if full.kind == "clean" and (full.exit_status != MachineError.exit_status or not any(said in full.text for said in SAID)):
            return WRONG, f"status {full.exit_status}: {full.text}"
        if full.kind not in ("clean", "returned"):
            return KINDS[full.kind], full.text
        if full.kind == "clean" and world.out.exists():
            return WRONG, "a bundle on a full disk"
        again = act(world) if full.kind == "clean" else full
        if again.kind != "returned" or read_state(world.out) != wanted or world.list_litter():
            return WRONG, f"then {again.kind} {again.text}; litter {world.list_litter()}"
    return (CLEAN, full.text) if full.kind == "clean" else (RIGHT, "it had room")


def measure_run(target: str, root: Path) -> tuple[dict[str, str], int]:
    """An undisturbed run: its bundle, and its bytes in whole pages."""
    world = World(root / "whole")
    world.cache, world.temporary = root / "cache", root / "temporary"
    student = make_student()
    ended = world.run(lambda: convert(student, target, world.out, components=("vae_decoder",), validate=False))
    assert ended.kind == "returned", ended
    size = sum(-(-path.stat().st_size // PAGE) * PAGE + PAGE for path in world.out.rglob("*"))
    state = read_state(world.out)
    remove(root / "whole")
    return state, size


def run(count: int, seed: int, tally: Tally) -> None:
    """Fill `count` disks: sizes up to a little more than the bundle needs."""
    source = random.Random(seed)
    with tempfile.TemporaryDirectory() as temporary, keep_warm(make_student()):
        root = Path(temporary)
        for name in ("cache", "temporary"):
            (root / name).mkdir()
        measured: dict[str, tuple[dict[str, str], int]] = {}
        for i in range(count):
            target = TARGETS[i % len(TARGETS)]
            if target not in measured:
                measured[target] = measure_run(target, root)
            wanted, most = measured[target]
            size = source.randint(16, int(1.3 * most) // PAGE) * PAGE
            outcome, seen = fill_disk(target, size, root, wanted)
            tally.add(target, outcome, f"disk {i} of seed {seed}, {size} of {most} bytes: {seen}")
