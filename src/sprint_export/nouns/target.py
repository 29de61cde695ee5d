"""Where a student can go: targets, devices and options as frozen dataclasses, standard library only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from sprint_export.errors import unknown_choice
from sprint_export.nouns.option import Option
from sprint_export.nouns.recipe import FLOAT, FLOAT_DTYPES
from sprint_export.nouns.report import Gate, Measurement, Metric
from sprint_export.nouns.student import CHANNELS_LAST

if TYPE_CHECKING:
    from pathlib import Path

    from sprint_export.nouns.bundle import Bundle
    from sprint_export.nouns.student import Component
    from sprint_export.nouns.work import Work
    from sprint_export.session import Array

NEURAL_ENGINE = "neural-engine"
UNIT_KEY = "sprint_export.compute_unit"  # in the metadata of a file: the unit it is made for
OPERATOR_PREFIX = "sprint_export/"  # of the names of operators in a file that hold our inputs and outputs
LAYOUT_KEY = "sprint_export.layout"  # in the metadata of a file: whose inputs and outputs it has, where they are not ours
# The two options that the frame asks for:
DYNAMIC = "dynamic"  # height and width of latents and picture are free axes
BATCH = "batch"  # how many prompts the graphs take at once; left out where it is one

OptionValue = bool | int | str
Options = Mapping[str, OptionValue]  # what one asks of a target beside the precision, by the names of its `options`


@dataclass(frozen=True)
class Figure:
    """One number of a device: who gives it ("vendor", "derived" or "third party"), and where."""

    value: float
    by: str
    source: str


@dataclass(frozen=True)
class Device:
    """Published figures of a device.

    Peaks price a kernel table (TFLOP/s by type, GB/s, microseconds a kernel). Apple's devices have a chip generation, the
    compute unit that suits them and the largest weight file (in 10^6 bytes) one of their models should have.
    `units` has the peaks of every compute unit; `tflops` are those of a GPU whose kernels are priced. `memory_gb` is what is
    built in, `app_gb` what one app may hold where that is less, `runtime_gb` what a runtime holds before it loads anything; None:
    not known. `figures` says of each number where it is from ("gpu int8", "memory bandwidth", ...), `lacks` what nobody gives.
    """

    name: str
    title: str
    compute_capability: tuple[int, int] | None
    tflops: Mapping[str, float] = field(default_factory=dict)
    gigabytes_per_s: float = 0.0
    kernel_us: float = 0.0
    apple_chip: tuple[str, int] | None = None  # ("A", 17), ("M", 4)
    compute_unit: str | None = None
    part_megabytes: int | None = None
    maker: str = ""
    units: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    memory_gb: float | None = None
    app_gb: float | None = None
    runtime_gb: float | None = None
    figures: Mapping[str, Figure] = field(default_factory=dict)
    lacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class TargetOption(Option):
    """One thing to ask of a target beside the precision.

    Text is one of `choices`, where there are any; a number is at least 1 and counts what `unit` says. What has no default is left
    to the target or the device. `most` bounds a number. `is_for_building`: it shapes what is built beside a graph and not the
    graph, so that a bundle may be built with another value later.
    """

    choices: tuple[str, ...] = ()
    unit: str = ""
    most: int = 1 << 42
    is_for_building: bool = False


@dataclass(frozen=True)
class LayerShape:
    """What a target's kernels are chosen by: the weight's shape as torch stores it, and the groups of a convolution."""

    weight: tuple[int, ...]
    groups: int = 1


@dataclass(frozen=True)
class Offer:
    """What a target makes of a precision: the scheme that its layers get, and what the graph around them computes in.

    A `graph` of None: not a precision of the target, but a rule of a recipe may give it to layers. `group` is the
    QuantizedLayer.group that its kernels want, `convolutions` the scheme that dense convolutions are faster in.
    """

    scheme: str
    graph: str | None = None  # "fp32", "fp16" or "bf16"
    group: int = 0
    convolutions: str | None = None

    @property
    def is_quantized(self) -> bool:
        """Whether layers are rounded, or all is float."""
        return self.scheme not in FLOAT_DTYPES


@dataclass(frozen=True)
class Target(ABC):
    """Where a student can go: what it takes as data, what it decides as methods that a target's own class overrides.

    `exporter` names the folder of export/ that writes its files, `runtimes` the members of runtimes/ that can run them, best
    first, `extra` and `panel` what brings its libraries and heads its options in --help. `options` are its own, `lacks` the
    options and precisions that people ask for and that it cannot have, each with the reason and the nearest that can.
    `metrics` are the rows that only its reports have, `ships_to` the apps that its bundles can be packed for.

    `offers` says what its names of precisions mean; a recipe's rule may give the scheme or the name. `rounds_output(scheme,
    shape)` says whether its kernel for such a layer gives 8 bits back, so that the output's range must be known.
    """

    name: str
    format: str
    title: str
    offers: Mapping[str, Offer]
    default_device: str
    extra: str
    panel: str
    needs: tuple[str, ...] = ()  # modules that its exporter imports, beside what every export does
    exporter: str = "to_onnx"
    files: str = r"model\.onnx(\.data)?|model\.shadow\.onnx"  # a pattern of their names in a network's folder
    built_files: str = ""  # another, of what is built there
    tensor_header: int = 0  # bytes at most that they add to a weight, padding with it
    runtimes: tuple[str, ...] = ()
    rounds_output: Callable[[str, LayerShape], bool] | None = None  # None: none does
    rewrites: tuple[str, ...] = ()  # rules of export/to_onnx/rules/ that shape the graph for its kernels, in this order
    required_rules: tuple[str, ...] = ()  # of them: silent where a network has what they serve, they end the export
    scale_dtype: str | None = None  # of scales, where the format holds another type than the graph's
    options: tuple[TargetOption, ...] = ()
    lacks: Mapping[str, str] = field(default_factory=dict)  # option or precision -> why, and the nearest that can
    metrics: tuple[Metric, ...] = ()
    gates: tuple[Gate, ...] = ()  # that its bundles must meet, beside the scheme's
    ships_to: tuple[str, ...] = ()  # destinations (nouns/destination.py) whose loaders take its files
    needs_build: ClassVar[bool] = False  # True of a BuiltTarget, whose graphs come with a shadow that runs where engines cannot

    @property
    def precisions(self) -> tuple[str, ...]:
        """What it is asked for by: `<target>-<precision>`."""
        return tuple(name for name, offer in self.offers.items() if offer.graph is not None)

    @property
    def graph_dtype(self) -> dict[str, str]:
        """Precision -> what its graph computes in."""
        return {name: offer.graph for name, offer in self.offers.items() if offer.graph is not None}

    def find_offer(self, name: str, where: str = "") -> Offer:
        """What a rule's precision means here: one of the target's own names, or a scheme.

        Raises:
            InputError: it has no such scheme; the message lists what it has, and what each name means.
        """
        quantized = {key: offer for key, offer in self.offers.items() if offer.is_quantized}
        by_scheme = {offer.scheme: offer for offer in reversed(quantized.values())}
        offer = (by_scheme | quantized).get(name)
        if offer is None:
            named = ", ".join(f"{key} means {offer.scheme}" for key, offer in quantized.items() if key != offer.scheme)
            hint = f"On {self.name}, {named}" if named else ""
            what = f"precision{where} for {self.name} targets:"
            raise unknown_choice(what, name, {FLOAT, *quantized, *by_scheme}, hint)
        return offer

    def list_needs(self, precision: str) -> tuple[str, ...]:
        """Modules that an export in that precision imports, beside what every export does."""
        return self.needs

    def refuses(self, precision: str, device: Device) -> str | None:
        """The reason a pair cannot work, naming the nearest that can, or None."""
        if precision not in self.precisions:
            return f"{self.name} has no precision {precision!r}; choose from: {', '.join(self.precisions)}"
        return self.refuse_device(precision, device)

    @abstractmethod
    def refuse_device(self, precision: str, device: Device) -> str | None:
        """Why a device cannot run one of the target's precisions, or None."""

    def refuse_pipelines(self, pipelines: tuple[str, ...], options: Options) -> str | None:
        """Why students of diffusers' classes of these names (Family.pipelines) cannot be had with the options, or None."""
        return None

    def refuse_provider(self, precision: str, provider: str) -> str | None:
        """Why graphs of one of its precisions are in no form for what a runtime's library may run them on, or None."""
        return None

    def complete(self, precision: str, device: Device, options: Options) -> Options:
        """The options with what the target or the device chooses where one was left open.

        Raises:
            RefusedError: one cannot work with the pair, or with another.
        """
        return options

    @abstractmethod
    def oldest(self, options: Options) -> Mapping[str, str]:
        """What opens its files (a library, a system) -> the oldest version that was shown to."""

    def choose_layout(self, options: Options) -> str:
        """How the networks lay out what they compute."""
        return CHANNELS_LAST

    def refuse_app(self, options: Options) -> str | None:
        """Why no app can be told how to draw from such graphs, with what to leave out, or None."""
        if BATCH not in options:
            return None
        n = options[BATCH]
        return f"its graphs take {n} prompts at once, and an app draws one, which would cost what {n} do; leave --batch out"

    def find_unit(self, precision: str, device: Device, options: Options) -> str | None:
        """The compute unit of a device that runs such graphs, by its name in Device.units; None: not known, no price."""
        return device.compute_unit or next(iter(device.units), None)

    def list_kernels(self, bundle: Bundle, role: str, device: Device) -> tuple[Work, ...] | None:
        """What a network's built files say will run on a device, kernel by kernel; None where there are no such files."""
        return None

    def read_rows(self, bundle: Bundle) -> list[Measurement]:
        """Rows of a report that are read off a bundle's files."""
        return []

    def compare_rows(self, bundle: Bundle, rounded: Iterable[tuple[Component, Mapping[str, Array]]]) -> list[Measurement]:
        """Rows for which each exported component is held against PyTorch's; asked for small pictures only.

        Args:
            bundle: the files.
            rounded: by component, with the layers and edits of the manifest, one prompt's inputs; loaded when asked for.
        """
        return []


@dataclass(frozen=True)
class BuiltTarget(Target):
    """A target that builds an engine beside each graph, for one device, by the builder that its option `builder` names."""

    needs_build: ClassVar[bool] = True

    @abstractmethod
    def check_builder(self, device: Device, builder: str) -> None:
        """Refuse what `build` would refuse whatever the graph.

        Raises:
            RefusedError: it cannot build for such a device. MachineError: a library or a GPU is missing.
        """

    @abstractmethod
    def find_version(self, builder: str) -> str:
        """The installed version of a builder.

        Raises:
            MachineError: it is not installed.
        """

    @abstractmethod
    def build(self, graph: Path, device: Device, builder: str, tell: Callable[[str], None]) -> Mapping[str, Path]:
        """Build for a device; kinds of files ("engine", "kernels") -> where they lie, beside the graph, each whole or absent."""

    def read_built(self, files: Mapping[str, Path]) -> tuple[Work, ...] | None:
        """What the files that `build` made of a graph say will run, kernel by kernel; None where they do not say."""
        return None
