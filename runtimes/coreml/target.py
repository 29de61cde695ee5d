"""Target `coreml`: ML programs (`.mlpackage`) for iPhone, iPad and Mac, iOS 17 to 26.

    made       on any system, by export/to_coreml/writer.py
    run        on a Mac, by Core ML itself through coremltools (this file): not run yet, no Mac was at hand
    checked    everywhere else, op by op in PyTorch, by runtimes/coreml/checker.py
A package is fixed in shape. For a Neural Engine the transformer is laid out channels first; what unit a package is made for is
written into it, and is where it runs unless the machine lacks it.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sprint_export.devices import refuse_apple
from sprint_export.errors import BundleError, MachineError, RefusedError, unknown_choice
from sprint_export.nouns.report import Measurement
from sprint_export.nouns.student import TensorSpec
from sprint_export.nouns.target import NEURAL_ENGINE, UNIT_KEY, Device, Offer, Options, Target
from sprint_export.registry import require
from sprint_export.versions import is_older

if TYPE_CHECKING:
    from sprint_export.session import Array, Session

SYSTEMS = ("iOS17", "iOS18", "iOS26", "macOS14", "macOS15", "macOS26")
_TOGETHER = (("17", "14"), ("18", "15"), ("26", "26"))  # iOS and macOS that read one version of the format
UNITS = {NEURAL_ENGINE: "CPU_AND_NE", "gpu": "CPU_AND_GPU", "cpu": "CPU_ONLY", "all": "ALL"}  # ours -> coremltools'
_SINCE_18 = ("w6", "w4")  # tables for groups of channels


def refuse_pair(precision: str, device: Device) -> str | None:
    """Apple devices run all of them; W8A8 pays only where integers are multiplied as such."""
    return refuse_apple(TARGET, "Core ML", precision, device)


def complete_options(precision: str, device: Device, options: Options) -> Options:
    """Fill in the deployment target (iOS 18), the device's compute unit and largest weight file.

    Raises:
        InputError: no such compute unit. RefusedError: the system is too old, or unknown; the message names what works.
    """
    system = options.deployment_target or "iOS18"
    if system not in SYSTEMS:
        raise RefusedError(
            f"--deployment-target {system}: coreml packages are made for {', '.join(SYSTEMS)}; the oldest of them is the nearest "
            "to an older system, where 8-bit weights and activations do not exist"
        )
    if precision in _SINCE_18 and system in ("iOS17", "macOS14"):
        raise RefusedError(
            f"coreml-{precision} --deployment-target {system}: palettes for groups of channels need iOS18 or macOS15; "
            f"for {system} the nearest is coreml-int8"
        )
    unit = options.compute_unit or device.compute_unit
    if unit not in UNITS:
        raise unknown_choice("compute unit", str(unit), UNITS)
    return replace(
        options,
        deployment_target=system,
        compute_unit=unit,
        part_megabytes=options.part_megabytes or device.part_megabytes,
    )


TARGET = Target(
    name="coreml",
    format="mlpackage",
    title="Core ML package for iPhone, iPad and Mac",
    offers={
        "fp32": Offer("fp32", "fp32"),
        "fp16": Offer("fp16", "fp16"),
        "int8": Offer("w8a16", "fp16"),
        "w8a8": Offer("w8a8", "fp16"),
        "w6": Offer("p6a16", "fp16", group=16),
        "w4": Offer("p4a16", "fp16", group=16),
        "int4": Offer("w4a16", group=32),
    },
    refuses=refuse_pair,
    default_device="iphone-15-pro",
    extra="coreml",
    needs=("coremltools",),
    exporter="to_coreml",
    runtimes=("coreml", "coreml-checker"),
    complete=complete_options,
    one_size="a Neural Engine program is compiled for one size, and packages are cut and checked at that size",
    oldest=lambda options: next(
        {"iOS": ios, "macOS": macos} for ios, macos in _TOGETHER if options.deployment_target in (f"iOS{ios}", f"macOS{macos}")
    ),
)


def build(graph: Path, device: Device, builder: str, progress: Callable[[str], None]) -> tuple[Path, ...]:
    """Nothing to build: the device compiles a package when it first loads it."""
    return ()


def can_run() -> str | None:
    """Why Core ML cannot run here, or None: it is part of macOS."""
    if platform.system() != "Darwin":
        return f"Core ML is part of macOS, this is {platform.system()}"
    return None


def refuse_version(runtimes: Mapping[str, str]) -> str | None:
    """Why the macOS that runs here cannot open a bundle that names these, or None."""
    found, oldest = platform.mac_ver()[0], runtimes.get("macOS", "")
    if is_older(found, oldest):
        return f"macOS {found} runs here and {oldest} is the oldest that opens this bundle; export it with --deployment-target"
    return None


def open_session(graph: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> Session:
    """Load a package by its program file, on the compute unit it was made for.

    Raises:
        BundleError: Core ML cannot load the package. MachineError: coremltools is missing.
    """
    return CoreMLSession(package_of(graph), inputs, outputs)


def package_of(graph: Path) -> Path:
    """The `.mlpackage` folder that holds a program file."""
    return next(parent for parent in graph.parents if parent.suffix == ".mlpackage")


class CoreMLSession:
    """The session protocol over coremltools.models.MLModel, on a Mac. Not run yet; see README's status table."""

    def __init__(self, package: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
        ct: Any = require("coremltools", TARGET.extra)
        self._inputs, self._outputs, self._ct, self._package = inputs, outputs, ct, package
        start = time.perf_counter()
        try:
            unit = ct.utils.load_spec(str(package)).description.metadata.userDefined.get(UNIT_KEY, "all")
            self._unit = getattr(ct.ComputeUnit, UNITS[unit])
            self._model = ct.models.MLModel(str(package), compute_units=self._unit)
        except MemoryError as error:
            raise MachineError(f"not enough memory to load {package}") from error
        except Exception as error:  # coremltools raises RuntimeError, ValueError and bare Exceptions for a bad package
            raise BundleError(f"Core ML cannot load {package}: {error}") from error
        self._load_s = time.perf_counter() - start
        self.description = f"Core ML on macOS {platform.mac_ver()[0]}, {unit}"

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs by name -> outputs by name."""
        given = {spec.name: feeds[spec.name].astype(spec.dtype) for spec in self._inputs}
        found = self._model.predict(given)
        return {spec.name: found[spec.name].astype(spec.dtype) for spec in self._outputs}

    def findings(self) -> list[Measurement]:
        """How long the first load took, and how many operations each compute device is planned to run."""
        rows = [Measurement("load_s", self._load_s, "s", note="as loaded here; the first load on a system compiles")]
        plan = self._ct.models.compute_plan.MLComputePlan.load_from_path(self._model.get_compiled_model_path(), self._unit)
        counts: dict[str, int] = {}
        for operation in plan.model_structure.program.functions["main"].block.operations:
            usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
            if usage is not None:
                name = type(usage.preferred_compute_device).__name__.removeprefix("ML").removesuffix("ComputeDevice")
                counts[name] = counts.get(name, 0) + 1
        return rows + [Measurement(f"ops_on_{name}", count, "", note="Core ML's plan") for name, count in sorted(counts.items())]
