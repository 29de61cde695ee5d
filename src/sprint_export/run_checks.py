"""What a run was asked for, checked before any work and without a library: within a second, whatever is wrong with it."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sprint_export.clear_errors import check_space
from sprint_export.devices import find_device
from sprint_export.errors import InputError, MachineError, RefusedError, unknown_choice
from sprint_export.libraries import DRAWING, EXPORTING, EXPORTING_SPACE, REPORTING, SEARCHING, check_installed
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.recipe import Recipe
from sprint_export.nouns.student import ROLES, Student
from sprint_export.nouns.target import BuiltTarget, Device, Options, Target
from sprint_export.options import complete_options
from sprint_export.progress import Progress
from sprint_export.recipe_choice import Wish, check_wish
from sprint_export.recipe_toml import AUTO
from sprint_export.registry import list_members, load_target
from sprint_export.sampler import trigflow_times

SLOW_IMPORTS = ("torch", "transformers", "diffusers")  # seconds each where the disk is cold


@dataclass(frozen=True)
class CheckedRun:
    """What `convert` goes by: names resolved, options completed; `gates` are the user's, as texts."""

    target: Target
    precision: str
    device: Device
    options: Options
    wish: Wish
    gates: tuple[str, ...]
    is_validated: bool

    def describe(self) -> Iterator[str]:
        """A line for every choice, for --dry-run."""
        yield f"target: {self.target.name}-{self.precision}, {self.target.title}"
        yield f"device: {self.device.name}, {self.device.title}"
        for name, value in self.options.items():
            if value is not False:
                yield f"{name}: {value}"
        if self.target.offers[self.precision].is_quantized:
            recipe = self.wish.recipe
            yield f"recipe: {recipe.name if isinstance(recipe, Recipe) else recipe or 'balanced'}"
        if self.is_validated:
            from sprint_export.validate.gates import read_gates

            yield "gates: " + ", ".join(gate.text for gate in read_gates(self.gates, self.target.offers[self.precision].scheme))


def parse_target(text: str) -> tuple[Target, str]:
    """`trt-fp8` -> (Target, "fp8").

    Raises:
        InputError: no such target or precision; the message lists the pairs. RefusedError: a pair known not to work.
    """
    name, _, precision = text.rpartition("-")
    target = load_target(name) if name in list_members("target") else None
    if target is not None and precision in target.lacks:
        raise RefusedError(f"{text}: {target.lacks[precision]}")
    if target is None or precision not in target.precisions:
        raise unknown_choice("target", text, list_targets())
    return target, precision


def list_targets() -> dict[str, str]:
    """All `<target>-<precision>` pairs -> what they are."""
    targets = map(load_target, list_members("target"))
    return {f"{target.name}-{precision}": target.title for target in targets for precision in target.precisions}


def check_run(
    student: str | Path | Student,
    target: str,
    *,
    steps: int | Sequence[int],
    guidance: float | None,
    device: str | None,
    recipe: Recipe | str | Path | None,
    cost: str | None,
    components: Sequence[str],
    options: Options | None,
    max_mb: float | None,
    prompt_tokens: int | None,
    gates: Sequence[str],
    count: int | None,
    validate: bool,
) -> CheckedRun:
    """Resolve and check everything that can be known without loading the student; arguments as `convert` takes them.

    Raises:
        InputError, RefusedError: one is wrong, or two do not go together. MachineError: a library or a GPU is missing.
    """
    from sprint_export.students.source import check_source

    goal, precision = parse_target(target)
    place = find_device(device or goal.default_device)
    if (reason := goal.refuses(precision, place)) is not None:
        raise RefusedError(f"{target} --device {place.name}: {reason}")
    if not isinstance(student, Student):
        check_source(student)
    _check_numbers(steps, guidance, prompt_tokens, count)
    _check_components(components)
    chosen = complete_options(goal, precision, place, options or {})
    _check_gates(gates, goal, recipe == AUTO, validate, components)
    wish = check_wish(goal, precision, place, recipe, max_mb, cost, gates, components)
    is_validated = validate and set(components) == set(ROLES)
    _check_libraries(goal, is_validated, recipe == AUTO)
    if isinstance(goal, BuiltTarget):
        goal.check_builder(place, str(chosen["builder"]))
    return CheckedRun(goal, precision, place, chosen, wish, tuple(gates), is_validated)


def _check_numbers(steps: int | Sequence[int], guidance: float | None, prompt_tokens: int | None, count: int | None) -> None:
    for each in [steps] if isinstance(steps, int) else steps:
        trigflow_times(each)
    if guidance is not None and not math.isfinite(guidance):
        raise InputError(f"guidance={guidance}: expected a number, e.g. 4.5")
    if prompt_tokens is not None and prompt_tokens < 2:
        raise InputError(f"prompt_tokens={prompt_tokens}: expected at least 2 (BOS and one token)")
    if count is not None and count < 1:
        raise InputError(f"count={count}: expected at least one prompt to validate with")


def _check_components(roles: Sequence[str]) -> None:
    for role in roles:
        if role not in ROLES:
            raise unknown_choice("component", role, ROLES)
    if not roles:
        raise InputError(f"no component chosen; choose from: {', '.join(ROLES)}")


def _check_gates(gates: Sequence[str], target: Target, is_searched: bool, validate: bool, components: Sequence[str]) -> None:
    from sprint_export.validate.gates import read_demands
    from sprint_export.validate.metrics import check_metrics

    demands = read_demands(gates)
    check_metrics((gate.metric for gate in demands), target, is_searched)
    if not demands or (is_searched and not validate and all(gate.metric == "psnr_db" for gate in demands)):
        return  # the search itself is held to the psnr_db gate
    if not validate:
        raise InputError(f"gate {demands[0].text!r} is held by the validation, which --no-validate leaves out; give one of them")
    if set(components) != set(ROLES):
        raise InputError(
            f"gate {demands[0].text!r} is held by the validation, which draws pictures and needs all three networks; leave "
            "--gate or --component out"
        )


def _check_libraries(target: Target, is_validated: bool, is_searched: bool) -> None:
    """Ask for all that the run will import, of its own extras first."""
    from sprint_export.runtimes.runtime import load_runtime

    searching = SEARCHING if is_searched else ()
    check_installed((*EXPORTING, *target.needs, *searching, *DRAWING, *(REPORTING if is_validated else ())))
    if is_validated:
        reasons = {name: load_runtime(name).can_run() for name in target.runtimes}
        if all(reasons.values()):
            raise MachineError(
                "the bundle could not be validated: "
                + "; ".join(f"{name} cannot run here: {reason}" for name, reason in reasons.items())
                + ", or leave the validation out with --no-validate"
            )


def check_report_gates(bundle: Bundle, gates: Sequence[str], runtime: str | None) -> None:
    """Refuse, before anything is loaded, gates that a bundle's report could not hold and runtimes that cannot run here.

    Raises:
        InputError: a gate is malformed or on a row that the report has not; no such runtime. MachineError: it cannot run here.
    """
    from sprint_export.export.bundle import find_file
    from sprint_export.quantize.search.frontier import JSON
    from sprint_export.runtimes.open import choose_runtime
    from sprint_export.validate.gates import read_demands
    from sprint_export.validate.metrics import check_metrics

    demanded = (gate.metric for gate in read_demands(gates))
    check_metrics(demanded, load_target(bundle.target), find_file(bundle, JSON) is not None)
    choose_runtime(bundle, runtime)


def load_libraries(progress: Progress) -> None:
    """Import what takes seconds, one by one, saying which: so that the screen is never blank.

    Raises:
        MachineError: this process may not have the memory for them.
    """
    check_space(EXPORTING_SPACE, "PyTorch with what is behind it")
    for i, name in enumerate(SLOW_IMPORTS):
        progress(f"loading {name}", i, len(SLOW_IMPORTS))
        importlib.import_module(name)
    progress("loading libraries", len(SLOW_IMPORTS), len(SLOW_IMPORTS))
