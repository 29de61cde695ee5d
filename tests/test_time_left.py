"""What is left of a run: the estimate, corrected by the stages that are done."""

from __future__ import annotations

from rich.progress import Progress

from sprint_export.cli.bars import TimeLeft
from sprint_export.cli.time_left import RunTime
from sprint_export.progress import Step

LOADING, DRAWING = Step("loading"), Step("drawing")
STAGES = [(LOADING, 10.0), (Step("exporting", "a"), 40.0), (Step("exporting", "b"), 60.0), (DRAWING, 100.0)]


def test_a_stage_is_left_as_expected_until_its_own_speed_is_known() -> None:
    run = RunTime(STAGES)
    run.tell(Step("exporting"), 0.0)
    assert run.left_of(Step("exporting"), 30.0) == 70.0, "both networks' less what has passed"
    assert run.left_of(Step("exporting"), 130.0) == 0.0
    assert run.left_behind() == 100.0


def test_finished_stages_correct_those_to_come() -> None:
    run = RunTime(STAGES)
    run.tell(LOADING, 0.0)
    run.tell(Step("exporting"), 20.0)
    assert run.left_behind() == 200.0, "loading took twice what was expected"
    assert run.left_of(Step("exporting"), 20.0) == 200.0


def test_a_stage_that_was_passed_over_is_done() -> None:
    run = RunTime(STAGES)
    run.tell(DRAWING, 5.0)
    assert run.left_behind() == 0.0


def test_parts_that_the_estimate_has_are_their_own_and_others_are_the_stage() -> None:
    run = RunTime([(Step("exported", "a"), 3.0), (Step("exported", "b"), 4.0), (DRAWING, 10.0)])
    run.tell(Step("exported", "a"), 0.0)
    assert (run.left_of(Step("exported", "a"), 1.0), run.left_behind()) == (2.0, 14.0)
    run.tell(Step("drawing", "prompts"), 3.0)
    run.tell(Step("drawing", "pictures"), 5.0)
    assert run.left_of(Step("drawing", "pictures"), 9.0) == 4.0, "both are one stage of ten seconds"


def test_stages_without_an_estimate_say_nothing() -> None:
    run = RunTime(STAGES)
    run.tell(Step("searching"), 0.0)
    assert run.left_of(Step("searching"), 1.0) == 0.0


def test_a_bar_says_the_stage_and_the_whole_run() -> None:
    now = [0.0]
    run = RunTime(STAGES)
    display = Progress(TimeLeft(run), get_time=lambda: now[0], disable=True)
    display.add_task("exporting", total=2, step=Step("exporting"))
    run.tell(Step("exporting"), 0.0)
    assert TimeLeft(run).render(display.tasks[0]).plain == "about 0:01:40 left, of all 0:03:20"
    display.add_task("drawing", total=2, step=DRAWING)
    now[0] = 100.0
    run.tell(DRAWING, 100.0)
    assert TimeLeft(run).render(display.tasks[1]).plain == "about 0:01:40 left", "nothing comes behind it"
