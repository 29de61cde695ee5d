"""What a run was asked for, checked before any work and without a library: within a second, whatever is wrong with it."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sprint_export.bundle_files import MANIFEST
from sprint_export.compute import check_compute
from sprint_export.devices import find_device
from sprint_export.disk_errors import clear_disk_errors
from sprint_export.errors import InputError, MachineError, RefusedError, SprintExportError, unknown_choice
from sprint_export.libraries import DRAWING, EXPORTING, EXPORTING_SPACE, REPORTING, SEARCHING, check_installed
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.order import CheckedOrder, Deployment, Order
from sprint_export.nouns.parts import NO_PARTS
from sprint_export.nouns.recipe import Recipe
from sprint_export.nouns.report import Gate
from sprint_export.nouns.student import Student
from sprint_export.nouns.target import BuiltTarget, Target
from sprint_export.options import complete_options
from sprint_export.out_folder import check_out, name_bundle
from sprint_export.paths import is_file, resolve_path
from sprint_export.process_memory import check_address_space
from sprint_export.progress import Progress, Step
from sprint_export.recipe_choice import check_recipe, find_psnr_gate
from sprint_export.recipe_toml import AUTO
from sprint_export.registry import list_members, load_target
from sprint_export.students.family import Family, load_family, plan_steps
from sprint_export.work_folder import claim_bundle

if TYPE_CHECKING:
    from sprint_export.validate.image_metrics.measuring import MetricChoice

SLOW_IMPORTS = ("torch", "transformers", "diffusers")  # seconds each where the disk is cold


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


def check_order(order: Order) -> CheckedOrder:
    """Resolve and check everything that can be known without loading the student.

    Raises:
        InputError, RefusedError: one option is wrong, or two do not go together. MachineError: a library or a GPU is missing, or
            another run works on the bundle.
    """
    checked = _resolve_order(order)
    resolve_path("--out", checked.out)
    with clear_disk_errors(checked.out):
        folder = check_out(checked.out, order.overwrite)
    with claim_bundle(folder):  # says now what cannot be written to, and who works there
        return checked


def check_orders(order: Order) -> list[CheckedOrder]:
    """As `check_order`, for every target of an order, before anything is done for one of them.

    Raises:
        InputError, RefusedError, MachineError: as `check_order`; where not all targets fail alike the message says which does.
    """
    orders, checked, failures = split_order(order), [], []
    for each in orders:
        try:
            checked.append(check_order(each))
        except SprintExportError as error:
            failures.append((each.target, error))
    if failures:
        name, failure = failures[0]
        is_common = len(failures) == len(orders) and len({str(error) for _, error in failures}) == 1
        if is_common or name in str(failure):
            raise failure
        raise type(failure)(f"{name}: {failure}") from failure
    return checked


def split_order(order: Order) -> list[Order]:
    """An order for each target: its own folder within `out`, and those of the options that it has, or that none has.

    Raises:
        InputError: no such target, the same twice, or `out` is a bundle itself. RefusedError: a pair known not to work.
    """
    names, asked = order.targets, order.options or {}
    if len(names) == 1:
        return [order]
    declared = {name: {option.name for option in parse_target(name)[0].options} for name in names}
    if len(declared) < len(names):
        raise InputError(f"--target {order.target} names {max(names, key=names.count)} twice; expected each once")
    if order.out is not None and is_file(Path(order.out) / MANIFEST):
        raise InputError(f"--out {order.out} is a bundle; for several targets expected a folder for a bundle of each")
    unowned = set(asked) - set().union(*declared.values())
    return [
        replace(
            order,
            target=name,
            out=None if order.out is None else Path(order.out) / name,
            options={option: value for option, value in asked.items() if option in declared[name] | unowned},
        )
        for name in names
    ]


def _resolve_order(order: Order) -> CheckedOrder:
    from sprint_export.students.source import check_source
    from sprint_export.validate.gates import read_gates

    deployment = read_deployment(order.target, order.device)
    # None: a hub id that is not known; what it is, is seen when it is there
    if isinstance(order.student, Student) and order.parts != NO_PARTS:
        raise InputError(
            "lora, decoder, vae, text_encoder and controlnet belong to a checkpoint; give them to load_student as its parts"
        )
    family = load_family(order.student.family) if isinstance(order.student, Student) else check_source(order.student, order.parts)
    _check_numbers(order)
    check_compute(order.compute)
    if family is not None:
        plan_steps(family, order.steps, times=order.times)
    _check_components(order.components, family)
    options = complete_options(deployment.target, deployment.precision, deployment.device, order.options or {})
    if family is not None and (reason := deployment.target.refuse_pipelines(family.pipelines, options)) is not None:
        raise RefusedError(reason)
    deployment = replace(deployment, options=options, hashed=order.list_hashed())
    is_searched, components = order.recipe == AUTO, tuple(order.components or ())
    is_whole = not components or (family is not None and not family.chain.list_missing(components))
    gates, choice = read_gates(order.gates), _check_choice(order, is_whole)
    _check_gates(gates, deployment.target, is_searched, order.validate, is_whole, choice)
    recipe = check_recipe(order, deployment, is_whole)
    if order.drop_unpaid:
        _check_unpaid(deployment)
    least = find_psnr_gate(gates, deployment.offer.scheme) if recipe == AUTO else 0.0
    is_validated = order.validate and is_whole
    _check_libraries(deployment, is_validated, is_searched)
    _check_provider(order, deployment)
    if isinstance(deployment.target, BuiltTarget):
        deployment.target.check_builder(deployment.device, str(options["builder"]))
    return CheckedOrder(order, deployment, name_bundle(order), components, recipe, gates, least, is_validated)


def read_deployment(text: str, device: str | None = None) -> Deployment:
    """`trt-fp8` and a device's name, by default the target's -> the deployment; its options are left open.

    Raises:
        InputError: there is no such target, precision or device. RefusedError: they do not go together.
    """
    target, precision = parse_target(text)
    chosen = find_device(device or target.default_device)
    if (reason := target.refuses(precision, chosen)) is not None:
        raise RefusedError(f"{text} --device {chosen.name}: {reason}")
    return Deployment(target, precision, chosen)


def describe_order(checked: CheckedOrder) -> Iterator[str]:
    """A line for every choice, for --dry-run."""
    from sprint_export.validate.gates import add_defaults
    from sprint_export.validate.image_metrics.measuring import choose_metrics, list_faults, read_choice

    deployment, recipe = checked.deployment, checked.recipe
    yield f"target: {deployment.name}, {deployment.target.title}"
    yield f"device: {deployment.device.name}, {deployment.device.title}"
    for lora in checked.order.parts.lora:
        yield f"lora: {lora.file} x {lora.scale:g}"
    for part, source in checked.order.parts.folders.items():
        yield f"{part}: {source}"
    if checked.order.times is not None:
        yield f"times: {checked.order.times}"
    for name, value in deployment.options.items():
        if value is not False:
            yield f"{name}: {value}"
    if deployment.offer.is_quantized:
        yield f"recipe: {recipe.name if isinstance(recipe, Recipe) else recipe or 'balanced'}"
    if checked.order.drop_unpaid:
        yield (
            f"drop_unpaid: kinds of layers are priced for {deployment.device.name} in float too; what does not pay stays so, "
            "and no quantized_share is held then"
        )
    if checked.is_validated:
        gates = add_defaults(checked.gates, deployment.offer.scheme, of_target=deployment.target.gates)
        yield "gates: " + ", ".join(gate.text for gate in gates)
        choice = read_choice(checked.order.metrics, checked.order.metric_weights, checked.order.scorers)
        metrics = choose_metrics(choice, [gate.metric for gate in checked.gates])
        if metrics:
            yield "metrics: " + ", ".join(metric.name for metric in metrics)
        for sentence in list_faults(metrics, choice.weights):
            yield f"not measured: {sentence}"


def _check_numbers(order: Order) -> None:
    from sprint_export.validate.pace import read_budget

    if order.guidance is not None and not math.isfinite(order.guidance):
        raise InputError(f"guidance={order.guidance}: expected a number, e.g. 4.5")
    if order.prompt_tokens is not None and order.prompt_tokens < 2:
        raise InputError(f"prompt_tokens={order.prompt_tokens}: expected at least 2 (BOS and one token)")
    if order.count is not None and order.count < 1:
        raise InputError(f"count={order.count}: expected at least one prompt to validate with")
    read_budget(order.budget)


def _check_components(roles: Sequence[str] | None, family: Family | None) -> None:
    if roles is not None and not roles:
        choices = "name one" if family is None else f"choose from: {', '.join(family.chain.roles)}"
        raise InputError(f"no component chosen; {choices}, or leave components out for all")
    for role in roles or ():
        if family is not None and role not in family.chain.roles:
            raise unknown_choice("component", role, family.chain.roles)


def _check_choice(order: Order, is_whole: bool) -> MetricChoice:
    """What the validation is asked to measure; a misspelt metric or scorer is refused, and one that nothing would measure."""
    from sprint_export.validate.image_metrics.measuring import read_choice

    choice = read_choice(order.metrics, order.metric_weights, order.scorers)
    if (choice.names or choice.scorers) and not (order.validate and is_whole):
        raise InputError(
            "metrics and scorers measure what the validation draws; leave out --no-validate or --component, or these"
        )
    return choice


def _check_gates(
    gates: Sequence[Gate], target: Target, is_searched: bool, validate: bool, is_whole: bool, choice: MetricChoice
) -> None:
    from sprint_export.validate.image_metrics.measuring import choose_metrics
    from sprint_export.validate.metrics import check_metrics

    check_metrics((gate.metric for gate in gates), target, is_searched, choice)
    choose_metrics(choice, [gate.metric for gate in gates])
    if not gates or (is_searched and not validate and all(gate.metric == "psnr_db" for gate in gates)):
        return  # the search itself is held to the psnr_db gate
    if not validate:
        raise InputError(f"gate {gates[0].text!r} is held by the validation, which --no-validate leaves out; give one of them")
    if not is_whole:
        raise InputError(
            f"gate {gates[0].text!r} is held by the validation, which draws pictures and needs all networks; leave "
            "--gate or --component out"
        )


def _check_unpaid(deployment: Deployment) -> None:
    """Refuse to drop layers by an engine's price where there is none.

    Raises:
        RefusedError: the target builds no engine, or the pair quantizes nothing. InputError: the device has no published peaks.
    """
    targets = map(load_target, list_members("target"))
    able = [
        f"{each.name}-{name}"
        for each in targets
        if each.needs_build
        for name in each.precisions
        if each.offers[name].is_quantized
    ]
    if not deployment.target.needs_build:
        why = "builds no files that say what will run, so nothing tells which layers pay"
        raise RefusedError(f"--drop-unpaid: {deployment.target.name} {why}; those that do: {', '.join(able)}")
    if not deployment.offer.is_quantized:
        raise RefusedError(f"--drop-unpaid: {deployment.name} quantizes nothing; use {', '.join(able)}")
    if not (deployment.device.tflops and deployment.device.gigabytes_per_s):
        raise InputError(f"--drop-unpaid: {deployment.device.name} has no published peaks to price with; choose e.g. rtx-4090")


def _check_libraries(deployment: Deployment, is_validated: bool, is_searched: bool) -> None:
    """Ask for all that the run will import, of its own extras first."""
    from sprint_export.runtimes.runtime import load_runtime

    target, needs = deployment.target, deployment.target.list_needs(deployment.precision)
    searching = SEARCHING if is_searched else ()
    check_installed((*EXPORTING, *needs, *searching, *DRAWING, *(REPORTING if is_validated else ())))
    if is_validated:
        reasons = {name: load_runtime(name).can_run() for name in target.runtimes}
        if all(reasons.values()):
            raise MachineError(
                "the bundle could not be validated: "
                + "; ".join(f"{name} cannot run here: {reason}" for name, reason in reasons.items())
                + ", or leave the validation out with --no-validate"
            )


def _check_provider(order: Order, deployment: Deployment) -> None:
    """Refuse a provider that the check could not run the graphs on."""
    if order.provider is None:
        return
    from sprint_export.runtimes.open import list_runtimes

    if not order.validate:
        raise InputError(f"provider {order.provider!r} is for the check, which --no-validate leaves out; give one of them")
    reasons = [each.can_run() for each in list_runtimes(deployment.target, deployment.precision, order.provider)]
    if all(reasons):
        raise MachineError("; ".join(map(str, reasons)))


def check_report_gates(
    bundle: Bundle, demands: Sequence[str], runtime: str | None, provider: str | None, choice: MetricChoice
) -> tuple[Gate, ...]:
    """The gates that a bundle's report shall hold; refused, before anything is loaded, is what it or its runtime cannot do.

    Raises:
        InputError: a gate is malformed or on a row that the report has not; no such runtime or provider. RefusedError: the graphs
            are in no form for the provider. MachineError: it cannot run here.
    """
    from sprint_export.export.bundle import find_file
    from sprint_export.quantize.search.frontier import JSON
    from sprint_export.runtimes.open import choose_runtime
    from sprint_export.validate.gates import read_gates
    from sprint_export.validate.image_metrics.measuring import choose_metrics
    from sprint_export.validate.metrics import check_metrics

    gates = read_gates(demands)
    target = load_target(bundle.target)
    check_metrics((gate.metric for gate in gates), target, find_file(bundle, JSON) is not None, choice)
    choose_metrics(choice, [gate.metric for gate in gates])
    choose_runtime(bundle, runtime, provider)
    return gates


def load_libraries(progress: Progress) -> None:
    """Import what takes seconds, one by one, saying which: so that the screen is never blank.

    Raises:
        MachineError: this process may not have the memory for them.
    """
    check_address_space(EXPORTING_SPACE, "PyTorch with what is behind it")
    for i, name in enumerate(SLOW_IMPORTS):
        progress(Step("loading", name), i, len(SLOW_IMPORTS))
        importlib.import_module(name)
    progress(Step("loading", "libraries"), len(SLOW_IMPORTS), len(SLOW_IMPORTS))
