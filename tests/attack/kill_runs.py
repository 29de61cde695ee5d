"""Kills at changes of files and at moments, anywhere in whole runs; those while a bundle is published: test_publishing.py.

After each kill the old or the new bundle is whole at its place (or nothing, where there was none); the same command ends well;
its files are those of a run that nobody killed; and nothing else lies beside the bundle, in the cache or in the temporary folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from sprint_export.bundle_files import sort_contents
from sprint_export.conversion import convert
from sprint_export.errors import SprintExportError
from sprint_export.export.bundle import hash_file, read_bundle
from sprint_export.export.captures import Captures, keep_captures
from sprint_export.files import list_tree
from sprint_export.nouns.student import Student
from sprint_export.students.sana_sprint.presets import tiny
from tests.attack.file_events import count_to, die_after, die_at
from tests.attack.forks import Ended, run_forked
from tests.attack.outcomes import CLEAN, HANG, LOST, RIGHT, SIGNAL, TRACEBACK, WRONG, Tally

NAME = "kills"
SECONDS = 300.0  # of one run; the machine may have other work
KINDS = {"clean": CLEAN, "traceback": TRACEBACK, "signal": SIGNAL, "hang": HANG}
RUNS: tuple[dict[str, Any], ...] = (  # what is run and killed; the first is the cheapest
    {"target": "onnx-fp32", "components": ("vae_decoder",)},
    {"target": "onnx-int8", "components": ("vae_decoder",)},
    {"target": "onnx-int8", "components": ("transformer", "vae_decoder")},
    {"target": "coreml-int8", "components": ("vae_decoder",)},
    {"target": "openvino-int8", "components": ("vae_decoder",)},
)
ORDER = (0, 1, 0, 0, 2, 1, 0, 3, 0, 4)  # of RUNS: the cheap ones more often
HOW = (signal.SIGKILL, signal.SIGKILL, signal.SIGINT, None, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, None)  # None: by time
ENDS = ("signal SIGKILL", "signal SIGALRM", "signal SIGTERM", "traceback KeyboardInterrupt: ")

State = dict[str, str]  # sha256 by path


def make_student() -> Student:
    """The small student, calibrated on two prompts."""
    return dataclasses.replace(tiny(), calibration_prompts=("a red circle", "a blue square"))


@contextlib.contextmanager
def keep_warm(student: Student) -> Iterator[None]:
    """Within, forks inherit exporters that are loaded, and what torch makes of the student's decoder in both float types."""
    with tempfile.TemporaryDirectory() as temporary, keep_captures(Captures()):
        for target in ("onnx-fp32", "onnx-fp16"):
            convert(student, target, Path(temporary) / target, components=("vae_decoder",), validate=False)
        yield


def read_state(folder: Path) -> State:
    """All files below a folder; an entry that is no plain file counts by its kind."""
    if not folder.exists():
        return {}
    names = ((path, path.relative_to(folder).as_posix()) for path, _ in list_tree(folder))
    return {name: hash_file(path) for path, name in names if not path.is_dir()}


class World:
    """A folder with all that a run may write to: where bundles go, the cache, temporary files."""

    def __init__(self, root: Path) -> None:
        self.root, self.home, self.cache, self.temporary = root, root / "home", root / "cache", root / "temporary"
        self.out = self.home / "bundle"
        for folder in (self.home, self.cache, self.temporary):
            folder.mkdir(parents=True)

    def run(self, act: Callable[[], object], before: Callable[[], None] = lambda: None) -> Ended:
        """`act` in a fork that writes here."""

        def child() -> str:
            self.enter()
            before()
            act()
            return ""

        return run_forked(child, SECONDS)

    def enter(self) -> None:
        """Have this process, a fork, keep what it measures and its temporary files here."""
        os.environ["SPRINT_EXPORT_CACHE"] = str(self.cache)
        tempfile.tempdir = str(self.temporary)

    def list_litter(self) -> list[str]:
        """What a run should not have left."""
        beside = [path.name for path in self.home.iterdir() if path != self.out]
        cached = [path for path, _ in list_tree(self.cache) if "part" in path.name or path.suffix == ".chunks"]
        within = sort_contents(self.out).foreign if self.out.exists() else ()
        return [*beside, *map(str, cached), *(path.name for path in self.temporary.iterdir()), *within]


@dataclasses.dataclass(frozen=True)
class Attack:
    """A run to kill: what it does, what is at its place before, and how it and its place end when nobody kills it."""

    name: str
    act: Callable[[Path], object]  # given where the bundle goes
    old: Path | None  # a bundle that is there before
    new: State
    changes: int
    seconds: float


def prepare_attack(name: str, act: Callable[[Path], object], folder: Path, old: Path | None = None) -> Attack:
    """Run it undisturbed, and count its changes of files."""
    world = _open_world(folder, old)
    counter = folder.with_suffix(".count")
    ended = world.run(lambda: act(world.out), lambda: count_to(counter))
    assert ended.kind == "returned", ended
    assert not world.list_litter(), world.list_litter()
    attack = Attack(name, act, old, read_state(world.out), int(counter.read_text()), ended.seconds)
    shutil.rmtree(folder)
    counter.unlink()
    return attack


def _open_world(folder: Path, old: Path | None) -> World:
    world = World(folder)
    if old is not None:
        shutil.copytree(old, world.out)
    return world


def kill_once(attack: Attack, end: Callable[[], None], folder: Path) -> tuple[str, str]:
    """Have a run end by `end`, which sets its moment, look, run again, look; the outcome and what was seen."""
    world = _open_world(folder, attack.old)
    old = read_state(world.out)
    try:
        killed = world.run(lambda: attack.act(world.out), end)
        if killed.kind != "returned" and not f"{killed.kind} {killed.text}".startswith(ENDS):
            return KINDS.get(killed.kind, WRONG), f"before the kill: {killed.kind} {killed.text}"
        state = _name_state(world, old, attack.new)
        if state is None:
            return LOST, "neither the old nor the new bundle is whole"
        again = world.run(lambda: attack.act(world.out))
        if again.kind != "returned":
            return KINDS[again.kind], f"{state}, then {again.text}"
        if read_state(world.out) != attack.new:
            return WRONG, f"{state}, then other files"
        litter = world.list_litter()
        return (WRONG, f"{state}, then litter: {litter}") if litter else (RIGHT, state)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _name_state(world: World, old: State, new: State) -> str | None:
    """What a kill left at the bundle's place; None where it is neither whole bundle."""
    found = read_state(world.out)
    if not found:
        return "nothing yet" if not old else None
    try:
        read_bundle(world.out)
    except SprintExportError:
        return None
    return "old" if found == old else "new" if found == new else None


def make_run(student: Student, run: dict[str, Any], folder: Path, old: Path | None = None) -> Attack:
    """A whole run of `convert`."""

    def act(out: Path) -> None:
        convert(student, out=out, validate=False, overwrite=old is not None, **run)

    name = f"whole run, {run['target']}{' --overwrite' if old else ''}, {'+'.join(run['components'])}"
    return prepare_attack(name, act, folder, old)


def run(count: int, seed: int, tally: Tally) -> None:
    """Kill `count` whole runs, every second one over an old bundle; small counts take the cheap ones."""
    random_source, student = random.Random(seed), make_student()
    with tempfile.TemporaryDirectory() as temporary, keep_warm(student):
        root = Path(temporary)
        old = root / "old"
        world = World(root / "first")
        ended = world.run(lambda: convert(student, "onnx-fp16", world.out, components=("vae_decoder",), validate=False))
        assert ended.kind == "returned", ended
        world.out.rename(old)
        attacks: dict[tuple[int, bool], Attack] = {}
        for i in range(count):
            which = ORDER[i % len(ORDER)], (i + i // len(ORDER)) % 2 == 1
            if which not in attacks:
                attacks[which] = make_run(student, RUNS[which[0]], root / "prepare", old if which[1] else None)
            attack = attacks[which]
            number, moment = random_source.randint(1, attack.changes), random_source.uniform(0, attack.seconds)
            how = HOW[i % len(HOW)]
            end = partial(die_after, moment) if how is None else partial(die_at, number, how)
            where = f"at {moment:.2f} of {attack.seconds:.2f} s" if how is None else f"at change {number} of {attack.changes}"
            outcome, seen = kill_once(attack, end, root / "kill")
            name = "SIGALRM by time" if how is None else how.name
            tally.add(f"{attack.name}, {name}", outcome, f"kill {i} of seed {seed}, {where}: {seen}")
