"""The executor over networks that are plain functions: order, the loop, what is optional, what replaces, what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from sprint_export.errors import BundleError, InputError
from sprint_export.executor import Executor, OneAtATime, check_finite
from sprint_export.noise import make_noise
from sprint_export.nouns.chain import EACH_STEP, Chain, Stage, ValueNames, is_loop, name_group
from sprint_export.nouns.student import Component, StepPlan, TensorSpec
from sprint_export.sampler import sample

Array = np.ndarray
Function = Callable[[Mapping[str, Array]], dict[str, Array]]
CHAIN = Chain(
    (
        Stage("text"),
        Stage("sketch", optional=True),
        Stage("control", EACH_STEP, optional=True),
        Stage("denoiser", EACH_STEP),
        Stage("decoder"),
        Stage("light", replaces="decoder"),
    ),
    ValueNames("ids", "mask", "x", "x0", "image"),
)
PLAN = StepPlan((1.0, 1.0, 0.5), 1.0, counts=(1, 2))


def spec(name: str, *shape: int, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name, dtype, (1, *shape), "")


X, IDS, MASK, STEP = spec("x", 4), spec("ids", 3, dtype="int64"), spec("mask", 3, dtype="int64"), spec("step", dtype="int64")
NETWORKS: dict[str, tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...], Function]] = {
    "text": ((IDS,), (spec("rows", 2),), lambda v: {"rows": v["ids"].sum(1, keepdims=True) * np.ones((1, 2), np.float32)}),
    "sketch": ((spec("photo", 4),), (spec("outline", 4),), lambda v: {"outline": v["photo"] * 2}),
    "control": ((X, spec("outline", 4)), (spec("hint", 4),), lambda v: {"hint": v["x"] + v["outline"]}),
    "denoiser": (
        (X, spec("rows", 2), MASK, spec("hint", 4), STEP),
        (spec("x0", 4),),
        lambda v: {"x0": v["x"] * 0.5 + v["rows"].mean() + v["hint"] + v["step"].astype(np.float32)},
    ),
    "decoder": ((X,), (spec("image", 3, 2, 2),), lambda v: {"image": np.tile(v["x"].reshape(-1, 1, 2, 2), (1, 3, 1, 1))}),
    "light": ((X,), (spec("image", 3, 2, 2),), lambda v: {"image": np.full((1, 3, 2, 2), 7, np.float32)}),
}


class Called:
    """A network, and how often it ran."""

    description = "a function"

    def __init__(self, function: Function) -> None:
        self.function, self.count = function, 0

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        self.count += 1
        return self.function(feeds)


def make(*roles: str) -> Executor:
    networks: Any = {role: Component(role, None, {}, *NETWORKS[role][:2]) for role in roles}  # type: ignore[arg-type]  # no module
    return Executor(CHAIN, PLAN, networks, {role: Called(NETWORKS[role][2]) for role in roles})


def draw(executor: Executor, steps: int = 1, **inputs: Array) -> dict[str, Array]:
    noise = make_noise(0, steps, 1, (4,))
    values = executor.start(np.array([[1, 2, 3]]), np.ones((1, 3), np.int64), inputs)
    for group in executor.groups:
        values = executor.run(group, values, noise)
    return values


WHOLE = ("text", "denoiser", "decoder")


def test_groups_are_stages_alone_but_for_the_loop() -> None:
    assert [name_group(group) for group in make(*NETWORKS).groups] == ["text", "sketch", "control+denoiser", "light"]
    assert [is_loop(group) for group in make(*WHOLE).groups] == [False, True, False]


@pytest.mark.parametrize("steps", [1, 2])
def test_it_computes_what_the_formula_says(steps: int) -> None:
    """x0 = x / 2 + mean(rows) + step, in the rows of the plan that belong to that many steps."""
    noise, rows = make_noise(0, steps, 1, (4,)), PLAN.rows(steps)
    wanted = sample(lambda x, step: x * 0.5 + 6 + rows[step], list(noise), [PLAN.times[row] for row in rows])
    found = draw(make(*WHOLE), steps)
    np.testing.assert_allclose(found["x"], wanted, rtol=1e-6)
    np.testing.assert_array_equal(found["image"][0, 0], found["x"].reshape(2, 2))


@pytest.mark.parametrize("steps", [1, 2])
def test_an_optional_network_runs_where_its_input_is_given(steps: int) -> None:
    """One that reads what a skipped one writes is skipped with it; the denoiser reads zeros then, as where none is there."""
    executor, photo = make("sketch", "control", *WHOLE), np.ones((1, 4), np.float32)
    plain, steered = draw(executor, steps), None
    counts = {role: session.count for role, session in executor.sessions.items()}  # type: ignore[attr-defined]  # Called
    assert counts == {"sketch": 0, "control": 0, "text": 1, "denoiser": steps, "decoder": 1}
    np.testing.assert_array_equal(plain["x"], draw(make(*WHOLE), steps)["x"])
    steered = draw(executor, steps, photo=photo)
    assert executor.sessions["control"].count == steps  # type: ignore[attr-defined]  # Called
    assert executor.sessions["sketch"].count == 1  # type: ignore[attr-defined]  # Called
    if steps == 1:
        x = make_noise(0, 1, 1, (4,))[0]
        np.testing.assert_allclose(steered["x"], x * 0.5 + 6 + x + 2, rtol=1e-6)


def test_what_can_be_given_is_known() -> None:
    executor = make("sketch", "control", *WHOLE)
    assert set(CHAIN.list_given(executor.networks)) == {"photo"}
    with pytest.raises(InputError, match="inputs: no network takes 'outline'; those that can be given: photo"):
        draw(executor, outline=np.ones((1, 4), np.float32))
    with pytest.raises(InputError, match=r"inputs: photo has shape \[2, 4\], expected \[1, 4\]"):
        draw(executor, photo=np.ones((2, 4), np.float32))
    with pytest.raises(InputError, match="those that can be given: none"):
        draw(make(*WHOLE), photo=np.ones((1, 4), np.float32))


def test_one_network_stands_in_for_another() -> None:
    assert draw(make("text", "denoiser", "light"))["image"].max() == 7
    both = make(*NETWORKS)
    assert draw(both)["image"].max() == 7
    assert both.sessions["decoder"].count == 0  # type: ignore[attr-defined]  # Called


@pytest.mark.parametrize(
    ("present", "missing"),
    [
        (tuple(NETWORKS), ()),
        (WHOLE, ()),
        (("text", "denoiser", "light"), ()),
        (("text", "denoiser"), ("decoder",)),
        (("light", "control"), ("text", "denoiser")),
    ],
)
def test_what_is_missing_is_named(present: tuple[str, ...], missing: tuple[str, ...]) -> None:
    assert CHAIN.list_missing(present) == missing


def test_a_value_that_none_writes_is_an_error_where_nothing_is_optional() -> None:
    stages = tuple(stage for stage in CHAIN.stages if stage.role in WHOLE)
    executor = make(*WHOLE)
    executor.chain = Chain(stages, CHAIN.names)
    with pytest.raises(BundleError, match="no network writes 'hint', which another one reads"):
        draw(executor)


def test_sessions_of_one_group_are_open_at_a_time() -> None:
    opened: list[str] = []

    def open_session(role: str) -> Called:
        opened.append(role)
        return Called(NETWORKS[role][2])

    executor = make("text", "sketch", "control", "denoiser", "decoder")
    executor.sessions = OneAtATime(executor.groups, open_session)
    draw(executor, 2, photo=np.ones((1, 4), np.float32))
    assert opened == ["text", "sketch", "control", "denoiser", "decoder"], "the loop's two stay open over its steps"
    assert list(executor.sessions) == opened
    assert len(executor.sessions) == len(opened)
    with pytest.raises(KeyError):
        executor.sessions["light"]


def test_what_is_no_number_is_named() -> None:
    with pytest.raises(BundleError, match="denoiser gave 1 of 2 values of 'x0' that are NaN or infinite"):
        check_finite("denoiser", {"x0": np.array([1.0, np.nan])})
