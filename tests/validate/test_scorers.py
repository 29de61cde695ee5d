"""Scorers as processes: the examples really run, what they answer becomes rows, and what goes wrong becomes a sentence."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sprint_export.errors import InputError
from sprint_export.students.sprint_tiny.world import Scene, Shape, held_out_captions, read_caption, render_scene
from sprint_export.validate.confidence.means import mean_interval
from sprint_export.validate.image_metrics.measuring import Measured, measure_pictures
from sprint_export.validate.image_metrics.metric import Comparison
from sprint_export.validate.prompt_sets.prompt_set import Question, WantedObject, WantedScene
from sprint_export.validate.rows import walk_rows
from sprint_export.validate.scorers.command import ScorerCommand, read_scorers
from sprint_export.validate.scorers.objects import Detection, find_relations, score_scene
from sprint_export.validate.scorers.questions import score_answers
from sprint_export.validate.scorers.scorer import Scorer
from tests.tree import ROOT

EXAMPLES = ROOT / "examples" / "scorers"
HEAD = "import json, os, sys, time\n"
HELLO = "sys.stdin.readline(); print(json.dumps({'protocol': 1, 'gives': 'scores'}), flush=True)\n"


def run(script: Path | str, comparison: Comparison, tmp_path: Path, seconds: float = 20.0) -> Measured:
    """What a script's rows are; a text is written to a file first."""
    if isinstance(script, str):
        path = tmp_path / "scorer.py"
        path.write_text(HEAD + script, "utf-8")
        script = path
    scorer = Scorer(ScorerCommand("mine", (sys.executable, str(script))), seconds, seconds)
    return measure_pictures([scorer], comparison, mean_interval)


def make_pictures(count: int = 3, **beside: Any) -> Comparison:
    """Exported pictures that are softer than the reference's, the more so the later they come."""
    rng = np.random.default_rng(0)
    reference = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
    share = np.linspace(0.9, 0.5, count).reshape(-1, 1, 1, 1)
    return Comparison(
        (127 + share * (reference - 127.0)).astype(np.uint8), reference, [f"picture {i}" for i in range(count)], **beside
    )


def test_the_example_scorer_scores_both_sides_with_their_interval(tmp_path: Path) -> None:
    comparison = make_pictures(4)
    measured = run(EXAMPLES / "sharpness.py", comparison, tmp_path)
    assert measured.unchecked == []
    rows = {row.metric: row for row in measured.rows}
    assert set(rows) == {"mine", "mine_reference", "mine_drop"}

    def slope(picture: Any) -> float:
        grey = np.rint(picture @ np.array([299, 587, 114]) / 1000)
        return float(np.hypot(*np.gradient(grey)).mean())

    wanted = [slope(each) for each in walk_rows(comparison.reference)]
    assert measured.figures["mine_reference"] == pytest.approx(wanted, rel=0.01)
    assert rows["mine_drop"].value == pytest.approx(rows["mine_reference"].value - rows["mine"].value)
    assert rows["mine_drop"].interval == mean_interval(measured.figures["mine_drop"])
    assert rows["mine"].unit == "levels" and "mean slope of brightness" in rows["mine"].note


def test_the_example_detector_sees_what_the_worlds_own_judge_sees(tmp_path: Path) -> None:
    from sprint_export.students.sprint_tiny.adherence import list_right

    rng = np.random.default_rng(3)
    captions = held_out_captions(12)
    reference = np.stack([render_scene(read_caption(caption), rng) for caption in captions])
    exported = np.roll(reference, 1, axis=0)  # each shows another prompt's scene
    scenes = [describe_scene(read_caption(caption)) for caption in captions]
    measured = run(EXAMPLES / "detect_shapes.py", Comparison(exported, reference, captions, scenes=scenes), tmp_path)
    assert measured.unchecked == []
    rows = {row.metric: row for row in measured.rows}
    assert rows["mine_prompt_reference"].value == 100
    assert rows["mine_prompt_reference"].unit == "%"
    assert list_right(captions, list(reference)).all()
    assert rows["mine_prompt"].value < 50
    assert rows["mine_prompt_drop"].interval is not None
    assert {"mine_object", "mine_color", "mine_position", "mine_count"} <= set(rows)


def describe_scene(scene: Scene) -> WantedScene:
    """What GenEval would say of a scene of the shapes world."""

    def want(shape: Shape, relation: str) -> WantedObject:
        return WantedObject(shape.form, 1, shape.colour, relation, 1)

    relation = {("top", "bottom"): "above", ("left", "right"): "left of"}
    places = tuple(shape.place for shape in scene.shapes)
    found = next((word for pair, word in relation.items() if all(a in b for a, b in zip(pair, places, strict=False))), "")
    firsts = [found if len(scene.shapes) == 2 else "", ""]
    forms = [shape.form for shape in scene.shapes]
    limits = tuple((form, forms.count(form) + 1) for form in sorted(set(forms)))
    wanted = tuple(want(shape, word) for shape, word in zip(scene.shapes, firsts, strict=False))
    return WantedScene(wanted, limits)


def test_answers_to_questions_are_joined_as_soft_tifa_does(tmp_path: Path) -> None:
    questions = [(Question("How many?", "two", "count"), Question("Red?", "Yes", "attribute"))] * 2
    script = (
        "sys.stdin.readline(); print(json.dumps({'protocol': 1, 'gives': 'answers'}), flush=True)\n"
        "for line in sys.stdin:\n"
        "    q = json.loads(line); assert q['questions'] == [['How many?', 'two'], ['Red?', 'Yes']]\n"
        "    assert os.path.getsize(q['picture']) > 0\n"
        "    print(json.dumps({'id': q['id'], 'answers': [0.25, 1.0] if q['id'] % 2 == 0 else [1.0, 1.0]}), flush=True)\n"
    )
    measured = run(script, make_pictures(2, questions=questions), tmp_path)
    rows = {row.metric: row.value for row in measured.rows}
    assert rows["mine_am"] == pytest.approx(62.5)
    assert rows["mine_gm"] == pytest.approx(50)
    assert rows["mine_count"] == pytest.approx(25)
    assert rows["mine_attribute_drop"] == pytest.approx(0)
    assert rows["mine_gm_drop"] == pytest.approx(50)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            "print('no weights', file=sys.stderr); sys.exit(3)",
            "ended with status 3 without an answer; .* ends: no weights",
        ),
        ("time.sleep(60)", "gave no answer within 2 s and was ended"),
        ("print('Loading model...', flush=True); time.sleep(60)", "answered 'Loading model...', which is no JSON"),
        ("print('[1]', flush=True); time.sleep(60)", r"answered '\[1\]'; expected an object"),
        ("print(json.dumps({'protocol': 2}), flush=True); time.sleep(60)", "answered with protocol '2'; expected 1"),
        ("print(json.dumps({'protocol': 1, 'gives': 'boxes'}), flush=True); time.sleep(60)", "gives 'boxes'; expected scores"),
        ("print(json.dumps({'protocol': 1, 'gives': 'objects'}), flush=True)", "expected --prompts geneval:FILE"),
        ("while True: print('x' * 10000, end='')", "answered with a line of more than 1,000,000 bytes"),
        ("ANSWER {'id': 7, 'scores': {'a': 1}}", "picture 1 of 6: .*for id '7'; expected 0"),
        ("ANSWER {'id': 0, 'error': 'no GPU'}", "says: no GPU"),
        ("ANSWER {'id': 0, 'scores': {'a': True}}", "gives a = 'True'; expected a number"),
        ("ANSWER {'id': 0, 'scores': {}}", "no object of 1 to 50 'scores'"),
        ("ANSWER {'id': 0, 'scores': {'a': float('nan')}}", "which is no JSON"),
        ("ANSWER {'id': 0, 'scores': {'../a': 1}}", "names a score '../a'"),
        (
            "for _ in range(99): sys.stderr.write('x' * 65536)\nsys.stderr.write(' the end'); sys.exit(1)",
            "stderr ends: x+ the end",
        ),
        (HELLO + "import shutil; q = json.loads(input()); shutil.rmtree(os.path.dirname(q['picture'])); LATER", "folder away"),
    ],
)
def test_a_scorer_that_does_something_else_is_said_and_has_no_row(script: str, said: str, tmp_path: Path) -> None:
    script = script.replace("LATER", "print(json.dumps({'id': 0, 'scores': {'a': 1}}), flush=True); time.sleep(60)")
    if script.startswith("ANSWER "):
        script = f"{HELLO}print(json.dumps({script.removeprefix('ANSWER ')}), flush=True); time.sleep(60)"
    measured = run(script, make_pictures(), tmp_path, seconds=2.0)
    assert measured.rows == [] and measured.figures == {}
    (sentence,) = measured.unchecked
    assert sentence.startswith("mine: the process ")
    assert re.search(said, sentence), sentence


def test_a_scorer_that_hangs_halfway_is_ended_with_its_children(tmp_path: Path) -> None:
    mark = tmp_path / "child"
    script = (
        HELLO + "line = sys.stdin.readline(); print(json.dumps({'id': 0, 'scores': {'a': 1}}), flush=True)\n"
        f"child = os.fork()\nif child == 0:\n    time.sleep(3); open({str(mark)!r}, 'w').close(); os._exit(0)\ntime.sleep(60)\n"
    )
    start = time.monotonic()
    measured = run(script, make_pictures(), tmp_path, seconds=1.0)
    assert "picture 2 of 6: gave no answer within 1 s" in measured.unchecked[0]
    time.sleep(max(0.0, 4.5 - (time.monotonic() - start)))
    assert not mark.exists(), "its child went on"


def test_a_child_that_left_the_session_with_the_pipes_is_not_waited_for(tmp_path: Path) -> None:
    mark = tmp_path / "child"
    script = (
        "child = os.fork()\nif child == 0:\n    os.setsid(); open("
        f"{str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(60)\n"
        f"while not os.path.exists({str(mark)!r}): time.sleep(0.01)\n"
    )
    measured = run(script, make_pictures(), tmp_path)
    assert "gave no answer within 20 s" in measured.unchecked[0] or "without an answer" in measured.unchecked[0]
    os.kill(int(mark.read_text()), signal.SIGKILL)  # it is there still


def test_a_question_that_nobody_reads_is_no_hang(tmp_path: Path) -> None:
    comparison = dataclasses.replace(make_pictures(), prompts=["a" * 200_000] * 3)
    measured = run(HELLO + "time.sleep(60)", comparison, tmp_path, seconds=2.0)
    assert "picture 1 of 6: gave no answer within 2 s and was ended" in measured.unchecked[0]


def test_boxes_that_no_picture_has_are_refused_and_directions_stay_numbers(tmp_path: Path) -> None:
    scenes = [WantedScene((WantedObject("a", 1, "", "left of", 1), WantedObject("b")))] * 3
    for side, said in (("1e200", "expected class, box of 4 numbers in pixels"), ("1e6", "")):
        objects = f"[{{'class': 'a', 'box': [0, 0, 1, {side}]}}, {{'class': 'b', 'box': [50, 0, 60, {side}]}}]"
        script = HELLO.replace("scores", "objects") + (
            f"for line in sys.stdin:\n    print(json.dumps({{'id': json.loads(line)['id'], 'objects': {objects}}}), flush=True)\n"
        )
        measured = run(script, make_pictures(3, scenes=scenes), tmp_path)
        assert said in "".join(measured.unchecked) and bool(measured.rows) is not bool(said)


def test_scores_that_change_their_names_are_said(tmp_path: Path) -> None:
    script = HELLO + (
        "for line in sys.stdin:\n    q = json.loads(line)\n"
        "    print(json.dumps({'id': q['id'], 'scores': {'abc'[q['id']]: 1}}), flush=True)\n"
    )
    measured = run(script, make_pictures(), tmp_path)
    assert "picture 2 of 6: names the scores b; it began with a" in measured.unchecked[0]


def test_a_scorer_with_several_scores_has_rows_of_each(tmp_path: Path) -> None:
    script = HELLO + (
        "for line in sys.stdin:\n    q = json.loads(line)\n"
        "    print(json.dumps({'id': q['id'], 'scores': {'beauty': q['id'], 'truth': 1}}), flush=True)\n"
    )
    measured = run(script, make_pictures(), tmp_path)
    rows = {row.metric: row.value for row in measured.rows}
    assert rows["mine_beauty"] == 2 and rows["mine_beauty_reference"] == 3 and rows["mine_truth_drop"] == 0
    scorer = Scorer(ScorerCommand("mine", ("x",)))
    assert all(any(metric.fits(row) for metric in scorer.declare()) for row in rows)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["hps"], "expected NAME=COMMAND"),
        (["HPS v2=python x.py"], "expected NAME=COMMAND"),
        (["hps="], "no command"),
        (["hps=python 'x"], "cannot be taken apart"),
        (["hps=no-such-program-here x"], "no program 'no-such-program-here' here"),
        (["hps=python a.py", "hps=python b.py"], "is there twice"),
    ],
)
def test_a_scorer_that_is_misspelt_is_refused(texts: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_scorers(texts)


def test_demands_of_a_scene_are_scored_by_kind() -> None:
    dog, cat = Detection("dog", (0, 0, 10, 10), "black"), Detection("cat", (50, 0, 60, 10), "white")
    wanted = WantedScene((WantedObject("dog", 1, "black", "left of", 1), WantedObject("cat", 2)), (("dog", 2),))
    scores = score_scene(wanted, [dog, cat])
    assert scores == {"object": 1, "count": 0.5, "color": 1, "position": 1, "prompt": 0}
    assert score_scene(wanted, [dog, cat, cat])["prompt"] == 1
    assert score_scene(wanted, [dog, dog, cat, cat])["count"] == 0.5, "two dogs are one too many"
    assert score_scene(wanted, []) == {"object": 0, "count": 0.5, "color": 0, "position": 0, "prompt": 0}


def test_a_box_lies_where_its_centre_does_less_a_tenth_of_both_sides() -> None:
    assert find_relations((0, 0, 10, 10), (50, 0, 60, 10)) == {"left of"}
    assert find_relations((50, 50, 60, 60), (0, 0, 10, 10)) == {"right of", "below"}
    assert find_relations((0, 0, 10, 10), (1, 1, 11, 11)) == set(), "nearer than the margin"
    assert find_relations((0, 0, 10, 10), (50, 10, 60, 20)) == {"left of"}, "a little above is not above"


def test_a_row_that_some_prompts_lack_is_the_mean_of_the_others(tmp_path: Path) -> None:
    scenes = [WantedScene((WantedObject("a", 1, "red"),)), WantedScene((WantedObject("a"),)), WantedScene((WantedObject("b"),))]
    script = (
        "sys.stdin.readline(); print(json.dumps({'protocol': 1, 'gives': 'objects'}), flush=True)\n"
        "for line in sys.stdin:\n    q = json.loads(line)\n"
        "    print(json.dumps({'id': q['id'], 'objects': [{'class': 'a', 'box': [0, 0, 1, 1], 'color': 'red'}]}), flush=True)\n"
    )
    measured = run(script, make_pictures(3, scenes=scenes), tmp_path)
    rows = {row.metric: row.value for row in measured.rows}
    assert rows["mine_color"] == 100 and rows["mine_object"] == pytest.approx(200 / 3)
    assert math.isnan(measured.figures["mine_color"][1])


def test_a_skill_called_like_a_mean_has_a_row_of_its_own() -> None:
    found = score_answers((Question("a", "b", "AM"), Question("c", "d")), [0.25, 0.75])
    assert (found["am"], found["skill_am"]) == (0.5, 0.25)
