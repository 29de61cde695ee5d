"""Campaign: scorers that do anything but answer: processes that end, hang, flood, lie, or leave children behind.

Each is a script that behaves until it does not. Right: rows of numbers, or one sentence in their place, within the time that
answers may take, and no process of the scorer's session left.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import tempfile
from pathlib import Path
from random import Random

import numpy as np

from sprint_export.validate.confidence.means import mean_interval
from sprint_export.validate.image_metrics.measuring import measure_pictures
from sprint_export.validate.image_metrics.metric import Comparison
from sprint_export.validate.prompt_sets.prompt_set import Question, WantedObject, WantedScene
from sprint_export.validate.scorers.command import ScorerCommand
from sprint_export.validate.scorers.scorer import Scorer
from tests.attack.forks import run_forked
from tests.attack.outcomes import CLEAN, HANG, RIGHT, WRONG, Tally, judge

NAME = "hostile scorers"
START_S, ANSWER_S = 1.5, 0.5
SECONDS, GIGABYTES = 25.0, 1.0
SLEEP = "time.sleep(40)"  # longer than any limit, and no longer: what is left of a scorer ends by itself
HEAD = "import json, os, signal, subprocess, sys, time\n"
LONG = 200_000  # letters of a question that nobody reads
SAY = "sys.stdout.write({}); sys.stdout.flush()"
OFFERS = {
    "scores": "{'protocol': 1, 'gives': 'scores'}",
    "objects": "{'protocol': 1, 'gives': 'objects'}",
    "answers": "{'protocol': 1, 'gives': 'answers'}",
}
ANSWERS = {
    "scores": "{'id': q['id'], 'scores': {'a': 0.5 + q['id']}}",
    "objects": "{'id': q['id'], 'objects': [{'class': 'dog', 'box': [0, 0, 9, 9]}, {'class': 'cat', 'box': [20, 0, 29, 9]}]}",
    "answers": "{'id': q['id'], 'answers': [0.5, 1.0]}",
}
ODD_OFFERS = (
    "{}", "[]", "{'protocol': 2}", "{'protocol': 1, 'gives': 'rows'}", "{'protocol': 1, 'title': 'x' * 10000}",
    "{'protocol': 1, 'unit': 5}", "{'protocol': 1, 'title': '<script>\\x1b[2J {} {0}'}", "{'protocol': True, 'gives': 'scores'}",
    "{'protocol': 1, 'gives': ['scores']}", "{'protocol': 1, 'title': '\\ud800'}",
)  # fmt: skip
NUMBERS = ("1e308", "-1e308", "5e-324", "True", "None", "'1'", "[]", "10**18", "10**30", "float('nan')", "float('inf')", "-0.0")
DEEDS = {
    "garbage": (
        "'hello\\n'", "'\\n'", "'{\\n'", "'[' * 100000 + '\\n'", "'{\"id\": 1e400}\\n'", "'null\\n'", "'\\r\\n'", "'\\x1b[2J\\n'",
        "'\\0\\n'", "json.dumps({'id': 0, 'id2': 1}) * 2 + '\\n'", "'x' * 2000000 + '\\n'", "'{\"id\":0,\"id\":0}\\n'",
    ),
    "ends": ("sys.exit(0)", "os._exit(7)", "os.kill(os.getpid(), signal.SIGKILL)", "os.abort()", "raise ValueError"),
    "hangs": (
        SLEEP, f"os.close(1); {SLEEP}", f"os.close(0); {SLEEP}", "signal.pause()",
        f"signal.signal(15, signal.SIG_IGN); {SLEEP}",
        f"sys.stdout.write('{{'); sys.stdout.flush(); {SLEEP}",
    ),
    "floods": (
        "[sys.stdout.write('x' * 65536) for _ in range(10**9)]", "[print('{}') for _ in range(10**9)]",
        "[sys.stderr.write('x' * 65536) for _ in range(300)]",
        "[sys.stderr.write('\\x1b[31m\\n') for _ in range(9)]; sys.exit(1)",
    ),
    "children": (
        f"subprocess.Popen([sys.executable, '-c', 'import time; {SLEEP}']); sys.exit(0)",
        f"subprocess.Popen([sys.executable, '-c', 'import time; {SLEEP}'], start_new_session=True); sys.exit(0)",
        f"subprocess.Popen([sys.executable, '-c', 'import time; {SLEEP}']); {SLEEP}",
    ),
    "files": (
        "os.unlink(q['picture'])", "os.unlink(q['picture']); os.symlink('/dev/zero', q['picture'])",
        "os.unlink(q['picture']); os.mkdir(q['picture'])", "__import__('shutil').rmtree(os.path.dirname(q['picture']))",
        "os.chmod(os.path.dirname(q['picture']), 0)",
    ),
}  # fmt: skip
DOG, ID = "{'class': 'dog', 'box': [0, 0, 9, 9]}", "'id': q['id']"
ODD_ANSWERS = {  # "#" is one of NUMBERS
    "scores": (
        f"{{{ID}, 'scores': {{'a': #}}}}",
        f"{{{ID}, 'scores': {{'a': 1, 'b' * 60: #}}}}",
        "{'id': #, 'scores': {'a': 1}}",
        f"{{{ID}, 'scores': {{str(q['id']): 1}}}}",
        f"{{{ID}, 'scores': {{chr(97 + q['id'] % 3): 1}}}}",
        f"{{{ID}, 'error': '\\x1b[2J' * 900}}",
        f"{{{ID}, 'scores': {{}}}}",
        f"{{{ID}, 'scores': {{'a%d' % k: 1 for k in range(60)}}}}",
    ),
    "objects": (
        f"{{{ID}, 'objects': [{{'class': 'dog', 'box': [0, 0, #, 9]}}, {{'class': 'cat', 'box': [5, 0, 7, 9]}}]}}",
        f"{{{ID}, 'objects': [{{'class': 'dog', 'box': [0, 0, 9, 9], 'score': #}}]}}",
        f"{{{ID}, 'objects': [{DOG}] * 2000}}",
        f"{{{ID}, 'objects': {{}}}}",
        f"{{{ID}, 'objects': [{{'class': 'dog', 'box': [-1e200, 0, 9, 9]}}, {{'class': 'cat', 'box': [1e200, 1e200, 0, 9]}}]}}",
        f"{{{ID}, 'objects': [{{'class': ['dog'], 'box': [0, 0, 9, 9]}}]}}",
    ),
    "answers": (
        f"{{{ID}, 'answers': [#, 1]}}",
        f"{{{ID}, 'answers': [1]}}",
        f"{{{ID}, 'answers': '11'}}",
        f"{{{ID}, 'answers': [5e-324, 5e-324]}}",
        f"{{{ID}, 'answers': [0] * 1000}}",
    ),
}


def write_scorer(path: Path, rng: Random) -> tuple[str, str, str, bool]:
    """A script; (what it gives, the kind of its fault, the fault, whether questions are long)."""
    gives, at = rng.choice(list(OFFERS)), rng.randrange(6)
    offer, deed, answer, kind = (
        OFFERS[gives],
        "",
        ANSWERS[gives],
        rng.choice([*DEEDS, "offer", "numbers", "numbers", "deaf", "none"]),
    )
    if kind == "offer":
        offer = deed = rng.choice(ODD_OFFERS)
    elif kind == "numbers":
        answer = deed = spoil_answer(gives, rng)
    elif kind == "deaf":
        deed = SLEEP
    elif kind in DEEDS:
        code = rng.choice(DEEDS[kind])
        deed = SAY.format(code) if kind == "garbage" else code
    first = "" if kind == "deaf" and at == 0 else "sys.stdin.readline()\n"
    hello = f"print(json.dumps({offer}), flush=True)\n"
    body = f"for i, line in enumerate(sys.stdin):\n    q = json.loads(line)\n    if i == {at}:\n        {deed or 'pass'}\n"
    if kind in ("offer", "numbers"):
        body = "for i, line in enumerate(sys.stdin):\n    q = json.loads(line)\n"
    elif kind == "deaf":
        body = f"{SLEEP}\nif 0:\n    q = None\n"
    if kind in ("garbage", "ends", "hangs", "floods", "children") and rng.random() < 0.2:
        first, body = f"{deed}\n", body.replace(deed, "pass")  # at once, before anything is said
    path.write_text(f"{HEAD}{first}{hello}{body}    print(json.dumps({answer}), flush=True)\n", "utf-8")
    return gives, kind, deed, kind == "deaf" or rng.random() < 0.2


def spoil_answer(gives: str, rng: Random) -> str:
    """An answer of the right form with something in it that belongs nowhere."""
    return rng.choice(ODD_ANSWERS[gives]).replace("#", rng.choice(NUMBERS))


def make_comparison(is_long: bool) -> Comparison:
    """Three pictures of 16 x 16 pixels with scenes and questions."""
    pictures = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16, 3), np.uint8)
    scene = WantedScene((WantedObject("dog", 1, "", "left of", 1), WantedObject("cat", 2)), (("dog", 3),))
    questions = (Question("How many?", "two", "count"), Question("Red?", "Yes", "attribute"))
    prompts = ["a" * LONG if is_long else f"picture {i}" for i in range(3)]
    return Comparison(pictures[0], pictures[1], prompts, (), [scene] * 3, [questions] * 3)


def measure(script: Path, is_long: bool) -> str:
    """What becomes of it: "" of rows, else the sentence; anything else is raised."""
    scorer = Scorer(ScorerCommand("mine", (sys.executable, "-S", "-E", str(script))), START_S, ANSWER_S)
    found = measure_pictures([scorer], make_comparison(is_long), mean_interval)
    assert bool(found.rows) != bool(found.unchecked), "rows or a sentence"
    values = np.array([row.value for row in found.rows])
    assert not np.isinf(values).any(), f"rows without numbers: {values}"
    said = " ".join(found.unchecked)
    assert "\n" not in said and len(said) < 2000, f"not one sentence: {said[:200]!r}"
    return f"unchecked: {said}" if said else ""


def list_left(script: Path) -> list[int]:
    """Processes that run the script."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(script).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def run(count: int, seed: int, tally: Tally) -> None:
    """Ask `count` scorers."""
    with tempfile.TemporaryDirectory(prefix="scorers-") as name:
        for i in range(count):
            rng = Random(f"{seed}-{i}")
            script = Path(name) / f"scorer-{i}.py"
            gives, kind, deed, is_long = write_scorer(script, rng)
            ended = run_forked(functools.partial(measure, script, is_long), SECONDS, GIGABYTES)
            sample = f"{seed}-{i} {gives} {deed[:120]}, long {is_long}: {ended.kind} {ended.text[:300]} ({ended.seconds:.1f} s)"
            outcome = (CLEAN if ended.text else RIGHT) if ended.kind == "returned" else judge(ended.kind, ended.text)
            if left := list_left(script):
                outcome, sample = (outcome if outcome == HANG else WRONG), f"{sample}; left running: {left}"
                for process in left:
                    os.kill(process, signal.SIGKILL)
            tally.add(f"a scorer that {kind}", outcome, sample)
