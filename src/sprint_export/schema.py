"""The nouns: frozen dataclasses, standard library only. Artifact, Bundle and Report turn into JSON and back (json_forms.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sprint_export.errors import unknown_choice

if TYPE_CHECKING:
    import torch

    from sprint_export.weights import Handle

ROLES = ("text_encoder", "transformer", "vae_decoder")  # in the order a picture passes through them
CHANNELS_LAST, CHANNELS_FIRST = "channels-last", "channels-first"  # tokens [B, N, D] as trained; [B, D, h, w] for Neural Engines
NEURAL_ENGINE = "neural-engine"
UNIT_KEY = "sprint_export.compute_unit"  # in the metadata of an Apple file: the unit it is made for
FLOAT = "float"  # what a rule gives a layer that it leaves alone
FLOAT_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True)
class TensorSpec:
    """One graph input or output. `dtype` is numpy's name; `shape` holds ints and, for free axes, names (sizes.py)."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    meaning: str


@dataclass(frozen=True)
class Precision:
    """A numeric format as a value, e.g. int8: bits 8, qmin -128, qmax 127, storage "int8".

    `qmax` is the largest magnitude a scale maps to: scale = amax / qmax. `storage` is numpy's (or ml_dtypes') name. A palette
    has no scale: its values are indices 0..qmax into a table of the weight's own values.
    """

    name: str
    bits: int
    is_float: bool
    qmin: float
    qmax: float
    storage: str
    is_quantized: bool
    meaning: str
    is_palette: bool = False


@dataclass(frozen=True)
class QuantizedLayer:
    """How one Linear, Conv2d or Embedding is quantized.

    `input_amax` is the largest magnitude its input took over the calibration prompts; None leaves the input in float and
    compresses the weight alone. `weight_axis` is the output-channel axis of the weight scales (0, as torch stores weights), or
    None for one scale per tensor. `group` narrows a scale to that many input values of a row, or a palette to that many
    rows; 0 means all. Scales have the digits of `scale_dtype` (quantize/scales.py). `output_amax` is the largest magnitude of its
    output where the target's kernel rounds that too; None where it does not.
    """

    precision: Precision
    input_amax: float | None
    weight_axis: int | None
    scale_dtype: str
    group: int = 0
    output_amax: float | None = None


@dataclass(frozen=True)
class Decision:
    """One layer's fate: `precision` is a precision's name or "float"; `rule` the pattern it falls under.

    `reason` is the rule's, or the fact about the layer (`is_refused`) that no rule can change.
    """

    layer: str
    precision: str
    rule: str
    reason: str
    values: int
    is_pointwise: bool
    is_refused: bool = False


@dataclass(frozen=True)
class Component:
    """One network: a module on the `meta` device, its weights by name (lazy), its inputs and outputs."""

    role: str
    module: torch.nn.Module
    weights: Mapping[str, Handle]
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    layers: Mapping[str, QuantizedLayer] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = ()
    edits: Mapping[str, torch.Tensor] = field(default_factory=dict)  # what quantization did to `weights` (quantize/mend/edits.py)


@dataclass(frozen=True)
class Migration:
    """A place where channels can be scaled and the network computes the same: down where they are made, up where they are read.

    `producers` are weights (or norm gains, or biases) whose axis 0 is the channels; `consumers` are layers that read them, all
    of them. `channels` says which producer channel each of a consumer's input channels is; empty: the same order. `held` are
    constants [1, heads, n, d] that hold such channels ready-made, e.g. the values of a prompt's prefix.
    """

    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    channels: tuple[int, ...] = ()
    held: tuple[str, ...] = ()


@dataclass(frozen=True)
class StepPlan:
    """Fixed sampling times, noise first, as flow times s in (0, 1]; the guidance; the dtype whose constants these are.

    One network may serve several step counts: their times then stand one after the other, and `counts` says how many belong to
    each, the default first. Empty means that all times are one schedule.
    """

    times: tuple[float, ...]
    guidance: float
    dtype: str = "float32"
    counts: tuple[int, ...] = ()

    @property
    def steps(self) -> int:
        """The default number of steps."""
        return self.counts[0] if self.counts else len(self.times)

    def rows(self, steps: int | None = None) -> range:
        """Where a schedule's times stand in `times`.

        Raises:
            InputError: the network was not specialized to that many steps.
        """
        counts, wanted = self.counts or (len(self.times),), steps or self.steps
        if wanted not in counts:
            raise unknown_choice("number of steps", str(wanted), map(str, counts))
        start = sum(counts[: counts.index(wanted)])
        return range(start, start + wanted)


@dataclass(frozen=True)
class PromptPlan:
    """How a prompt becomes token ids, enough to do it without the model's code.

    The text is `prefix` + the lower-cased, stripped prompt; ids are padded right with `pad_id` to `tokens`; the encoder keeps
    its first and its last `keep - 1` positions. `prefix_ids` are the ids before those: where they are given, the encoder holds
    what it makes of them and is fed the last `keep - 1` ids alone. A longer text is cut where `cuts` says so, else refused.
    """

    prefix: str
    lower: bool
    tokens: int
    keep: int
    pad_id: int
    prefix_ids: tuple[int, ...] = ()
    cuts: bool = True
    vocabulary: int = 0  # rows of the encoder's table of words: every id is below it; 0: not known

    @property
    def before(self) -> int:
        """How many positions, the first among them, stand before the last `keep - 1`."""
        return self.tokens - self.keep + 1


@dataclass(frozen=True)
class Student:
    """A one-step (or few-step) text-to-image model, before or after specialization and quantization.

    `folder` is what it was read from (None: random weights), `variant` which of the weights there, e.g. "fp16".
    """

    family: str
    source: str
    revision: str | None
    fingerprint: str
    components: Mapping[str, Component]
    prompt: PromptPlan
    tokenizer: Path
    latent_shape: tuple[int, int, int]
    configs: Mapping[str, Mapping[str, Any]]
    licence: str
    calibration_prompts: tuple[str, ...] = ()
    validation_prompts: tuple[str, ...] = ()
    plan: StepPlan | None = None
    layout: str = CHANNELS_LAST
    recipe: Recipe | None = None
    make_reference: Callable[..., Any] | None = None
    folder: Path | None = None
    variant: str | None = None


@dataclass(frozen=True)
class Rule:
    """Layers whose `role.module.name` matches the shell wildcard get `precision`; "float" leaves them alone."""

    pattern: str
    precision: str
    reason: str = ""


@dataclass(frozen=True)
class Recipe:
    """Ordered rules, first match wins, with a catch-all last; what calibrates it, and how ranges are chosen and errors mended.

    `observer` chooses an activation's range from what was seen; `smooth` in (0, 1) moves outliers from activations into weights
    (SmoothQuant's alpha; 0 leaves them); `correct_bias` takes the mean of the rounding error out of the bias; `gptq` fits 4-bit
    weights to what their layers read. `meaning` is one line for people.
    """

    name: str
    rules: tuple[Rule, ...]
    prompts: tuple[str, ...] = ()
    seed: int = 0
    observer: str = "max"
    smooth: float = 0.0
    correct_bias: bool = False
    gptq: bool = False
    meaning: str = ""


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
class Target:
    """Where a student can go.

    `refuses(precision, device)` gives the reason a pair cannot work, or None; `complete(precision, device, options)` fills in
    the options that were left open and raises what speaks against one. `exporter` names the module of export/ that writes
    its files; `runtimes` the members of runtimes/ that can run them, best first. `rounds_output(precision, shape)` says whether
    its kernel for such a layer gives 8 bits back, so that the output's range must be known. `one_size`: why sizes cannot be free.
    `oldest(options)` names what opens its files (a library, a system), each with the oldest version that was shown to.
    """

    name: str
    format: str
    title: str
    precisions: tuple[str, ...]
    graph_dtype: Mapping[str, str]  # precision -> dtype the graph computes in: "fp32", "fp16" or "bf16"
    refuses: Callable[[str, Device], str | None]
    default_device: str
    extra: str
    needs: tuple[str, ...] = ()  # modules that its exporter imports, beside what every export does
    exporter: str = "to_onnx"
    runtimes: tuple[str, ...] = ()
    needs_build: bool = False
    weight_only: tuple[str, ...] = ()  # precisions that leave activations in float
    layer_precisions: tuple[str, ...] = ("int8", "fp8")  # what a recipe may give a layer
    convolutions: Mapping[str, str] = field(default_factory=dict)  # precision -> what dense convolutions are faster in
    rounds_output: Callable[[str, LayerShape], bool] | None = None  # None: none does
    rewrites: tuple[str, ...] = ()  # modules of export/to_onnx/rules/ that shape the graph for its kernels, in this order
    groups: Mapping[str, int] = field(default_factory=dict)  # precision -> QuantizedLayer.group
    complete: Callable[[str, Device, Options], Options] | None = None  # None: it has no options
    scale_dtype: str | None = None  # of scales, where the format holds another type than the graph's
    one_size: str | None = "its files are made for one size of picture"  # why; None: Options.dynamic is possible
    oldest: Callable[[Options], Mapping[str, str]] = lambda options: {}  # library or system -> oldest version that opens it


@dataclass(frozen=True)
class Artifact:
    """One file of a bundle that belongs to a component; `kind` is graph, shadow, weights or engine."""

    role: str
    kind: str
    path: str
    format: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Part:
    """One graph file of a component, in the order they run; `graph` is its path in the component's folder.

    A part's inputs are the component's inputs or outputs of parts before it.
    """

    graph: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class ComponentRecord:
    """What a bundle remembers of a component: its interface, how many weight values have which type, how layers are rounded."""

    role: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parts: tuple[Part, ...]
    precision_counts: Mapping[str, int]
    layers: Mapping[str, QuantizedLayer]
    notes: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = ()  # of every layer that a recipe was asked about, those left float too


@dataclass(frozen=True)
class Bundle:
    """A folder of files and its manifest, `bundle.json`; needs no torch and no model code to run."""

    folder: Path
    family: str
    source: str
    revision: str | None
    licence: str
    target: str
    precision: str
    device: str
    options: Options
    layout: str
    plan: StepPlan
    prompt: PromptPlan
    latent_shape: tuple[int, int, int]
    components: tuple[ComponentRecord, ...]
    artifacts: tuple[Artifact, ...]
    recipe: Recipe | None
    fingerprint: str
    key: str
    tools: Mapping[str, str]
    runtimes: Mapping[str, str]  # what opens it: a library or system -> its oldest version; an engine's builder -> the only one


@dataclass(frozen=True)
class Measurement:
    """One row of a report. `limit` and `passed` are None where nothing is demanded."""

    metric: str
    value: float
    unit: str
    component: str = ""
    limit: str | None = None
    passed: bool | None = None
    note: str = ""


@dataclass(frozen=True)
class Report:
    """What validation measured: rows, the runtime and machine that ran it, and per-engine kernel summaries."""

    bundle: str
    target: str
    runtime: str
    machine: str
    prompts: int
    rows: tuple[Measurement, ...]

    @property
    def passed(self) -> bool:
        """True when no gate failed."""
        return all(row.passed is not False for row in self.rows)
