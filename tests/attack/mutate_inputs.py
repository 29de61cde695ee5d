"""Campaign: files beside bundles and students that come from elsewhere are altered and read as the verbs read them.

Results of devices, reports, price lists, sets of prompts, folders of pictures, pictures, what `reference/` says. It ends right,
or in one line; no file outside is read, and nothing of a file stands in a page unescaped.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path
from random import Random

from tests.attack.file_mutations import alter_file
from tests.attack.forks import run_forked, was_read, watch_reads
from tests.attack.input_subjects import Subject, list_subjects
from tests.attack.mutate_bundles import make_bundle, warm_up
from tests.attack.outcomes import OUTSIDE, Tally, judge

NAME = "altered inputs"
SECONDS, GIGABYTES = 40.0, 2.0


def run(count: int, seed: int, tally: Tally) -> None:
    """Alter `count` inputs."""
    with tempfile.TemporaryDirectory(prefix="inputs-") as name:
        base = Path(name)
        warm_up()
        make_bundle(base / "bundle", "onnx-fp32")
        subjects = list_subjects(base / "bundle")
        whole = {subject.name: _prepare(subject, base / f"whole-{i}") for i, subject in enumerate(subjects)}
        for i in range(count):
            rng = Random(f"{seed}-{i}")
            subject = rng.choices(subjects, [each.weight for each in subjects])[0]
            attack_one(base / "attacked", subject, *whole[subject.name], rng, f"{seed}-{i}", tally)


def _prepare(subject: Subject, folder: Path) -> tuple[Path, list[str]]:
    """The subject's files as they should be, read once as they are; their names."""
    folder.mkdir()
    names = [path.relative_to(folder).as_posix() for path in subject.write(folder)]
    kept = folder.with_name(f"{folder.name}-kept")
    shutil.copytree(folder, kept)
    ended = run_forked(functools.partial(subject.act, folder), SECONDS, 6.0)
    assert (ended.kind, ended.text) == ("returned", ""), f"{subject.name}: {ended}"
    return kept, names


def attack_one(work: Path, subject: Subject, whole: Path, names: list[str], rng: Random, name: str, tally: Tally) -> None:
    """Alter one of the subject's files, in a copy of all, and read them."""
    shutil.rmtree(work, ignore_errors=True)
    folder, outside = Path(shutil.copytree(whole, work / "folder")), work / "outside"
    outside.mkdir()
    (outside / "secret").write_text('{"secret": 1}')
    mutation, what = alter_file(folder / rng.choice(names), rng, outside)
    watch_reads(outside)
    ended = run_forked(functools.partial(subject.act, folder), SECONDS, GIGABYTES)
    outcome = OUTSIDE if subject.is_inside and was_read(outside) else judge(ended.kind, ended.text)
    tally.add(f"{subject.name}, {mutation}", outcome, f"{name} {what}: {ended.kind} {ended.text[:300]} ({ended.seconds:.1f} s)")
