"""From what was typed to what is planned: a student or a bundle, devices, measurements, prices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sprint_export.bundle_files import MANIFEST
from sprint_export.devices import find_device
from sprint_export.errors import InputError
from sprint_export.libraries import EXPORTING, check_installed, is_installed
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.order import Deployment
from sprint_export.nouns.parts import NO_PARTS, Parts
from sprint_export.nouns.student import Student
from sprint_export.nouns.target import Device
from sprint_export.paths import is_file
from sprint_export.planning.advice import Advice, advise
from sprint_export.planning.building import BuiltSubject, check_build
from sprint_export.planning.fitting import Fit, Point, fit_prices
from sprint_export.planning.measured import Measured
from sprint_export.planning.networks import BundleSubject, StudentSubject, Subject
from sprint_export.planning.plan import Answer, Question, list_deployments, list_dominating, plan_deployment, plan_device
from sprint_export.planning.prices import list_peaks
from sprint_export.progress import Progress, quiet
from sprint_export.registry import load_target


@dataclass(frozen=True)
class Wanted:
    """What is planned for, as typed: a student's name or a bundle's folder, steps, rows of text, another decoder.

    `builds`: engines of the pairs that are asked for are built, for their kernel tables.
    """

    source: str
    steps: int = 1
    prompt_tokens: int | None = None
    decoder: str | None = None
    builds: bool = False


def find_bundle(source: str) -> Bundle | None:
    """The bundle in a folder, or None where it is a student's name.

    Raises:
        BundleError: it is damaged.
    """
    from sprint_export.export.bundle import read_bundle

    return read_bundle(Path(source), verify=False) if is_file(Path(source) / MANIFEST) else None


def find_loader(bundle: Bundle, progress: Progress) -> Callable[[], Student] | None:
    """What loads the student that a bundle was made from, where it is one of this package's own and torch is here; else None.

    A folder or download that a bundle names is not opened: the bundle may come from anywhere.
    """
    if not is_installed("torch"):
        return None
    from sprint_export.students.source import RANDOM, is_embedded

    if not (is_embedded(bundle.source) or bundle.source.startswith(RANDOM)):
        return None

    def load() -> Student:
        from sprint_export.run_checks import load_libraries

        load_libraries(progress)
        from sprint_export.specialize import specialize_like
        from sprint_export.students import load_student

        return specialize_like(load_student(bundle.source), bundle)

    return load


def check_targets(bundle: Bundle, targets: Sequence[str]) -> tuple[str, ...]:
    """The one pair that a bundle is.

    Raises:
        InputError: another was asked for.
    """
    own = f"{bundle.target}-{bundle.precision}"
    for name in targets:
        if name != own:
            raise InputError(f"--target {name}: {bundle.folder} is {own}; plan its student for another: {bundle.source}")
    return (own,)


def plan_devices(wanted: Wanted, question: Question, progress: Progress = quiet) -> list[tuple[Answer, tuple[Advice, ...]]]:
    """The plan of each device, with what would help there.

    Raises:
        InputError, RefusedError: there is no such student, or a pair cannot be had on a device. MachineError: torch is missing,
            which a student takes.
    """
    bundle = find_bundle(wanted.source)
    if bundle is not None:
        _check_bundle_options(wanted)
        targets = check_targets(bundle, question.targets)
        deployments = {device.name: [_of_bundle(bundle, device)] for device in question.devices}
        subject: Subject = BundleSubject(bundle, find_loader(bundle, progress))
        steps = bundle.plan.steps
    else:
        targets, steps = question.targets, wanted.steps
        deployments = {device.name: list_deployments(device, targets) for device in question.devices}
        check_installed(EXPORTING)
        if wanted.builds:
            _check_build(deployments, targets)
        subject = load_subject(wanted, NO_PARTS, progress)
    lighter = load_subject(wanted, Parts(decoder=wanted.decoder), progress) if wanted.decoder is not None else None
    found = []
    for device in question.devices:
        answer = plan_device(subject, device, deployments[device.name], question)
        if wanted.builds and isinstance(subject, StudentSubject):
            built = plan_deployment(BuiltSubject(subject, progress), answer.chosen.deployment, question)
            answer = replace(answer, chosen=built, dominating=list_dominating(built, question.prices))
        beside = None if lighter is None else plan_deployment(lighter, answer.chosen.deployment, question)
        found.append((answer, advise(answer.chosen, answer.others, steps, beside)))
    return found


def _check_build(deployments: Mapping[str, Sequence[Deployment]], targets: Sequence[str]) -> None:
    if not targets:
        raise InputError("--build takes minutes a pair; expected --target beside it, e.g. one of sprint-export list targets")
    check_build([each for of_device in deployments.values() for each in of_device if each.name in targets])


def _check_bundle_options(wanted: Wanted) -> None:
    given = {
        "--steps": wanted.steps != 1,
        "--prompt-tokens": wanted.prompt_tokens is not None,
        "--decoder": wanted.decoder is not None,
        "--build": wanted.builds,
    }
    for name, is_given in given.items():
        if is_given:
            raise InputError(f"{name} is a student's; {wanted.source} is a bundle, made with its own")


def _of_bundle(bundle: Bundle, device: Device) -> Deployment:
    """The bundle on a device; its options are its own, whatever would be chosen there."""
    target = load_target(bundle.target)
    reason = target.refuses(bundle.precision, device)
    if reason is not None:
        raise InputError(f"{bundle.folder} on {device.name}: {reason}")
    return Deployment(target, bundle.precision, device, bundle.options)


def load_subject(wanted: Wanted, parts: Parts, progress: Progress = quiet) -> StudentSubject:
    """A student to plan for; its weights are not read.

    Raises:
        InputError: there is none, or it is not downloaded.
    """
    from sprint_export.run_checks import load_libraries
    from sprint_export.students.source import check_source, find_absent

    check_source(wanted.source, parts)
    if (absent := find_absent(wanted.source, parts)) is not None:
        raise InputError(f"{absent} is not downloaded yet, and a plan downloads nothing; its shape may be had as random:PRESET")
    load_libraries(progress)
    from sprint_export.students import load_student

    return StudentSubject(load_student(wanted.source, None, parts), wanted.steps, wanted.prompt_tokens)


def fit_measured(
    wanted: Wanted | None, measured: Sequence[Measured], device: str | None, progress: Progress, note: Callable[[str], None]
) -> Fit:
    """Fit prices of the unit that measured bundles ran on.

    Args:
        wanted: the student or bundle that was measured; None: the bundles that the measurements name.
        measured: what `bench` printed of each.
        device: its name in the table; None: what the bundles were made for.
        progress: of loading a student.
        note: is told what was left out.

    Raises:
        InputError: a bundle is not there, or measurements are of several units.
    """
    points, units = [], set()
    subject: Subject | None = None
    for each in measured:
        bundle = find_bundle(each.bundle if wanted is None else wanted.source)
        if bundle is not None:
            deployment = _of_bundle(bundle, find_device(device or bundle.device))
            own: Subject = BundleSubject(bundle, find_loader(bundle, progress))
        elif wanted is None:
            raise InputError(
                f"{each.path}: its bundle {each.bundle!r} is not there; name it or its student, e.g. plan STUDENT --fit"
            )
        else:
            subject = subject or load_subject(wanted, NO_PARTS, progress)
            own, deployment = subject, _of_target(each.target, device)
        unit = deployment.target.find_unit(deployment.precision, deployment.device, deployment.options)
        units.add((deployment.device.name, unit or ""))
        points += list(_list_points(own, deployment, each, note))
    if len(units) != 1:
        said = ", ".join(sorted(f"{name}'s {unit}" for name, unit in units))
        raise InputError(f"--fit takes measurements of one unit of one device, found {said}; fit each apart, or say --device")
    name, unit = next(iter(units))
    return fit_prices(points, name, unit, list_peaks(find_device(name), unit))


def _of_target(name: str, device: str | None) -> Deployment:
    from sprint_export.run_checks import parse_target

    found = find_device(device or parse_target(name)[0].default_device)
    return list_deployments(found, [name])[0]


def _list_points(subject: Subject, deployment: Deployment, measured: Measured, note: Callable[[str], None]) -> list[Point]:
    unit = deployment.target.find_unit(deployment.precision, deployment.device, deployment.options)
    kinds = {*deployment.device.units.get(unit or "", ("fp32", "16-bit", "int8", "fp8"))}
    points = []
    for work in subject.list_networks(deployment, kinds):
        name = f"{deployment.name} {work.role}"
        milliseconds = measured.medians.get(work.role)
        if milliseconds is None or not work.kernels:
            note(f"{name}: left out, {'not among the measured rows' if work.kernels else work.origin}")
        else:
            points.append(
                Point(name, [kernel for kernel in work.kernels for _ in range(work.times)], milliseconds * work.pictures)
            )
    return points


def find_devices(names: str) -> tuple[Device, ...]:
    """Devices by their names, commas between them.

    Raises:
        InputError: one is unknown, or named twice.
    """
    found = tuple(find_device(name.strip()) for name in names.split(","))
    if len({device.name for device in found}) < len(found):
        raise InputError(f"--device {names}: expected each device once")
    return found
