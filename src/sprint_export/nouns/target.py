"""Where a student can go: targets, devices and options as frozen dataclasses, standard library only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sprint_export.errors import unknown_choice
from sprint_export.nouns.recipe import FLOAT, FLOAT_DTYPES
from sprint_export.nouns.student import CHANNELS_FIRST, CHANNELS_LAST

NEURAL_ENGINE = "neural-engine"
UNIT_KEY = "sprint_export.compute_unit"  # in the metadata of an Apple file: the unit it is made for


@dataclass(frozen=True)
class Device:
    """Published figures of a device.

    Peaks price a kernel table (TFLOP/s by type, GB/s, microseconds a kernel). Apple's devices have a chip generation, the
    compute unit that suits them and the largest weight file (in 10^6 bytes) one of their models should have.
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


@dataclass(frozen=True)
class Options:
    """What one asks of a target beside the precision; None leaves it to the target or the device."""

    deployment_target: str | None = None  # "iOS18": the oldest system the files must run on
    compute_unit: str | None = None  # one of the target's
    part_megabytes: int | None = None  # a component with more weights becomes several files that run one after the other
    dynamic: bool = False  # height and width of latents and picture are free axes

    @property
    def layout(self) -> str:
        """How the networks lay out what they compute: a Neural Engine wants channels first."""
        return CHANNELS_FIRST if self.compute_unit == NEURAL_ENGINE else CHANNELS_LAST


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
class Target:
    """Where a student can go.

    `refuses(precision, device)` gives the reason a pair cannot work, or None; `complete(precision, device, options)` fills in
    the options that were left open and raises what speaks against one. `exporter` names the module of export/ that writes
    its files; `runtimes` the members of runtimes/ that can run them, best first. `one_size`: why sizes cannot be free.
    `oldest(options)` names what opens its files (a library, a system), each with the oldest version that was shown to.

    `offers` says what its names of precisions mean; a recipe's rule may give the scheme or the name. `rounds_output(scheme,
    shape)` says whether its kernel for such a layer gives 8 bits back, so that the output's range must be known.
    """

    name: str
    format: str
    title: str
    offers: Mapping[str, Offer]
    refuses: Callable[[str, Device], str | None]
    default_device: str
    extra: str
    needs: tuple[str, ...] = ()  # modules that its exporter imports, beside what every export does
    exporter: str = "to_onnx"
    runtimes: tuple[str, ...] = ()
    needs_build: bool = False
    rounds_output: Callable[[str, LayerShape], bool] | None = None  # None: none does
    rewrites: tuple[str, ...] = ()  # modules of export/to_onnx/rules/ that shape the graph for its kernels, in this order
    complete: Callable[[str, Device, Options], Options] | None = None  # None: it has no options
    scale_dtype: str | None = None  # of scales, where the format holds another type than the graph's
    one_size: str | None = "its files are made for one size of picture"  # why; None: Options.dynamic is possible
    oldest: Callable[[Options], Mapping[str, str]] = lambda options: {}  # library or system -> oldest version that opens it

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
            what = f"precision{where} for a {self.name} target:"
            raise unknown_choice(what, name, {FLOAT, *quantized, *by_scheme}, hint)
        return offer
