"""Campaign: every verb that writes is ended or refused in the midst of it, and typed again (typed_verbs.py lists them).

    SIGKILL, SIGTERM, Ctrl-C   at a change of a file; SIGALRM at a moment
    a disk                     that is full, read-only, another's or failing from some change of a file on
    two at once                the same command twice, in one folder and one cache
After the first: what it makes is whole or not there, inputs and what stood there before are whole, an end that was asked for is
one line and its status. After the second: it ended well, files are those of an undisturbed run, and nothing lies beside them.
"""

from __future__ import annotations

import errno
import functools
import json
import random
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sprint_export.files import list_tree
from tests.attack.file_events import count_to, die_after, die_at, fail_from
from tests.attack.forks import Ended, run_forked
from tests.attack.kill_runs import World, read_state
from tests.attack.outcomes import CLEAN, LOST, OF_KINDS, RIGHT, WRONG, Tally
from tests.attack.typed_verbs import Verb, find_half, list_dear_verbs, list_verbs, make_verb_inputs, prepare_home
from tests.attack.verb_faults import Inputs, load_command, read_inputs

NAME = "killed verbs"
SECONDS, GIGABYTES = 300.0, 16.0
KILLS = ("SIGKILL", "SIGKILL", "SIGKILL", "SIGINT", "SIGTERM", "moment")
DISKS = ("ENOSPC", "EROFS", "EACCES", "EIO", "EDQUOT")
HOWS = (*KILLS, *DISKS, "two at once", "two at once")
STATUSES = {"SIGINT": "130", "SIGTERM": "143"}
SHOWN = 300
State = dict[str, str]


@dataclass(frozen=True)
class Undisturbed:
    """What a verb does when nobody ends it: files, changes of files, seconds."""

    files: State
    changes: int
    seconds: float


class Home(World):
    """A world in which commands are typed."""

    def type(self, verb: Verb, before: Callable[[], None] = lambda: None) -> Ended:
        """The command in a fork, in the folder where it writes."""

        def child() -> str:
            self.enter()
            before()
            return verb.run(self.home)

        return run_forked(child, SECONDS, GIGABYTES)

    def list_left(self, verb: Verb) -> list[str]:
        """What lies where a run should leave nothing."""
        beside = [path.name for path in self.home.iterdir() if path.name not in {*verb.makes, *verb.copies}]
        cached = [path for path, _ in list_tree(self.cache) if ".part" in path.name or path.suffix == ".chunks"]
        within = [path.name for name in verb.makes for path in (self.home / name).rglob("*") if ".part" in path.name]
        return [*beside, *map(str, cached), *(path.name for path in self.temporary.iterdir()), *within]


def measure(verb: Verb, root: Path) -> Undisturbed:
    """Type it once, and count."""
    home, counter = Home(root), root.with_suffix(".count")
    prepare_home(verb, home.home)
    ended = home.type(verb, lambda: count_to(counter))
    assert (ended.kind, ended.text[:2]) in (("returned", "0 "), ("returned", "1 ")), f"{verb.name}: {ended}"
    assert not home.list_left(verb), f"{verb.name} leaves {home.list_left(verb)}"
    files, changes = read_files(verb, home.home), int(counter.read_text())
    shutil.rmtree(root)
    counter.unlink()
    return Undisturbed(files, changes, ended.seconds)


def read_files(verb: Verb, home: Path) -> State:
    """All files that it makes; by name alone where bytes are not promised."""
    found: State = {}
    for name in verb.makes:
        path = home / name
        if path.is_dir():
            found |= {f"{name}/{file}": digest for file, digest in read_state(path).items()}
        elif path.exists():
            found |= {name: read_state(home)[name]}
    return found if verb.is_exact else dict.fromkeys(found, "")


def attack_once(verb: Verb, whole: Undisturbed, how: str, rng: random.Random, root: Path) -> tuple[str, str]:
    """The outcome and what was seen."""
    home = Home(root)
    prepare_home(verb, home.home)
    try:
        if how == "two at once":
            return _run_two(verb, whole, rng, home)
        number, moment = rng.randint(1, whole.changes), rng.uniform(0, whole.seconds)
        where = f"at {moment:.2f} of {whole.seconds:.2f} s" if how == "moment" else f"at change {number} of {whole.changes}"
        before = read_state(home.home)
        ended = home.type(verb, _choose_end(how, number, moment, home.home))
        outcome, seen = _judge_first(ended, how)
        if outcome in (RIGHT, CLEAN) and (lost := _find_lost(verb, before, home.home)):
            outcome, seen = LOST, f"{seen}, then {lost}"
        if outcome in (RIGHT, CLEAN):
            fault = _type_again(verb, whole, home)
            outcome, seen = (WRONG, f"{seen}; {fault}") if fault else (outcome, seen)
        return outcome, f"{where}: {seen}"
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _choose_end(how: str, number: int, moment: float, home: Path) -> Callable[[], None]:
    if how == "moment":
        return partial(die_after, moment)
    if how in DISKS:
        return partial(fail_from, number, getattr(errno, how), home)
    return partial(die_at, number, signal.Signals[how])


def _judge_first(ended: Ended, how: str) -> tuple[str, str]:
    """Whether it ended as it was told to."""
    seen = f"{ended.kind} {ended.text[:SHOWN]}"
    if ended.kind == "signal" and ended.text == ("SIGALRM" if how == "moment" else how):
        return RIGHT, seen
    if ended.kind != "returned":
        return OF_KINDS[ended.kind], seen
    status, _, line = ended.text.partition(" ")
    allowed = {"0", "1"} | ({"2", "3"} if how in DISKS else {STATUSES.get(how, "0")})
    if status not in allowed or (status not in "01" and not line):
        return WRONG, seen
    return (CLEAN if line else RIGHT), seen


def _find_lost(verb: Verb, before: State, home: Path) -> str:
    """Half a file, or one that is gone and stood there."""
    for name in verb.makes:
        if half := find_half(home / name, is_bundle=name in ("out", "mine")):
            return half
    after = read_state(home)
    gone = [name for name in before if name not in after and not (home / name.partition("/")[0] / "bundle.json").is_file()]
    return f"{len(gone)} files are gone: {gone[:3]}" if gone else ""


def _type_again(verb: Verb, whole: Undisturbed, home: Home) -> str:
    """What is wrong after the same command again; "" where all is well."""
    again = home.type(verb)
    if (again.kind, again.text[:2]) not in (("returned", "0 "), ("returned", "1 ")):
        return f"the next run: {again.kind} {again.text[:SHOWN]}"
    found = read_files(verb, home.home)
    if found != whole.files:
        apart = sorted(name for name in {*found, *whole.files} if found.get(name) != whole.files.get(name))
        return f"then other files: {apart[:4]}"
    if half := next(filter(None, (find_half(home.home / name) for name in verb.makes)), ""):
        return f"then {half}"
    return f"then litter: {home.list_left(verb)}" if home.list_left(verb) else ""


def _run_two(verb: Verb, whole: Undisturbed, rng: random.Random, home: Home) -> tuple[str, str]:
    """The same command twice; the second begins somewhere within the first."""
    delay, ends = rng.uniform(0, whole.seconds), list[Ended]()

    def type_one(wait: float) -> None:
        threading.Event().wait(wait)
        ends.append(home.type(verb))

    threads = [threading.Thread(target=type_one, args=(wait,)) for wait in (0.0, delay)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = f"the second after {delay:.2f} of {whole.seconds:.2f} s: {[(each.kind, each.text[:SHOWN]) for each in ends]}"
    odd = [each for each in ends if each.kind != "returned" or each.text[:1] not in "0123"]
    if odd:
        return OF_KINDS.get(odd[0].kind, WRONG), seen
    done = [each for each in ends if each.text[:2] in ("0 ", "1 ")]
    if not done or not all(each in done or "another run works" in each.text or "not empty" in each.text for each in ends):
        return WRONG, seen
    if half := next(filter(None, (find_half(home.home / name) for name in verb.makes)), ""):
        return LOST, f"{seen}: {half}"
    if read_files(verb, home.home) != whole.files or home.list_left(verb):
        return WRONG, f"{seen}: other files, or litter {home.list_left(verb)}"
    return RIGHT, seen


def describe_inputs(folder: Path) -> str:
    """`make_verb_inputs` in a fork."""
    return json.dumps(make_verb_inputs(folder))


def run(count: int, seed: int, tally: Tally, names: Sequence[str] = (), hows: Sequence[str] = HOWS, dear: bool = False) -> None:
    """End `count` commands: of these verbs, where names are given; those that take long a little less often."""
    with tempfile.TemporaryDirectory(prefix="verbs-") as temporary:
        root = Path(temporary)
        load_command()
        inputs = read_inputs(run_forked(functools.partial(describe_inputs, root), 600, GIGABYTES))
        verbs = _choose_verbs(inputs, names, dear)
        known: dict[str, Undisturbed] = {}
        rng = random.Random(seed)
        for i in range(count):
            verb = verbs[i] if i < len(verbs) else rng.choices(verbs, [1 / each.seconds**0.5 for each in verbs])[0]
            how = rng.choice(hows)
            if verb.name not in known:
                known[verb.name] = measure(verb, root / "measured")
            outcome, seen = attack_once(verb, known[verb.name], how, rng, root / f"home-{i}")
            kind = "disk" if how in DISKS else how
            tally.add(f"{verb.name}, {kind}", outcome, f"{i} of seed {seed}, {how} {seen}")


def _choose_verbs(inputs: Inputs, names: Sequence[str], dear: bool) -> list[Verb]:
    verbs = [*list_verbs(inputs), *(list_dear_verbs(inputs) if dear else ())]
    return [verb for verb in verbs if verb.name in names or not names]
