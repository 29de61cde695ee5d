"""A student and its networks: frozen dataclasses, standard library only; modules and weights are only named here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sprint_export.errors import InputError, unknown_choice
from sprint_export.nouns.chain import Chain
from sprint_export.nouns.parts import NO_PARTS, Parts
from sprint_export.nouns.recipe import Decision, QuantizedLayer, Recipe

if TYPE_CHECKING:
    import torch

    from sprint_export.weights import Handle

PURE = 1e-5  # of a flow time: how far from 1 the noise alone may be said to stand
CHANNELS_LAST, CHANNELS_FIRST = "channels-last", "channels-first"  # tokens [B, N, D] as trained; [B, D, h, w] for Neural Engines


@dataclass(frozen=True)
class TensorSpec:
    """One graph input or output. `dtype` is numpy's name; `shape` holds ints and, for free axes, names (sizes.py)."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    meaning: str


@dataclass(frozen=True)
class Component:
    """One network: a module on the `meta` device, its weights by name (lazy), its inputs and outputs.

    `forms` says how often the network computes what kernels are rewritten for (`serves` of the rules in export/to_onnx/rules/),
    e.g. {"linear attention": 28}; a rewrite that fires less often is reported.
    """

    role: str
    module: torch.nn.Module
    weights: Mapping[str, Handle]
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    layers: Mapping[str, QuantizedLayer] = field(default_factory=dict)
    forms: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = ()
    edits: Mapping[str, torch.Tensor] = field(default_factory=dict)  # what quantization did to `weights` (quantize/mend/edits.py)
    spare: Mapping[str, Handle] = field(
        default_factory=dict
    )  # weights that this module does not read, and that of free sizes does


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
    """Fixed sampling times, noise first, as flow times s in (0, 1]; the guidance; the dtype whose constants these are; the start.

    One network may serve several step counts: their times then stand one after the other, and `counts` says how many belong to
    each, the default first. Empty means that all times are one schedule. A schedule starts from s_0 eps, or from the noise eps
    itself where `starts_from_noise`.
    """

    times: tuple[float, ...]
    guidance: float
    dtype: str = "float32"
    counts: tuple[int, ...] = ()
    starts_from_noise: bool = False

    @property
    def steps(self) -> int:
        """The default number of steps."""
        return self.counts[0] if self.counts else len(self.times)

    def list_weights(self, rows: Sequence[int]) -> tuple[float, ...]:
        """The flow times of these rows as the sampler's weights of noise: a first one within PURE of 1 is 1, noise alone.

        TrigFlow's 1.57080 is a hair over pi / 2: s = 1.0000037, which networks are specialized to, would otherwise be a factor
        that an app forgets.
        """
        times = [self.times[row] for row in rows]
        return tuple(1.0 if abs(s - 1) < PURE else s for s in times)

    def rows(self, steps: int | None = None, strength: float = 1.0) -> range:
        """Where a schedule's times stand in `times`; of a strength below 1 its last ones, for a start from a picture.

        That many of a schedule are run as diffusers runs of it: steps * strength, rounded up.

        Raises:
            InputError: the network was not specialized to that many steps, or the strength is not above 0 and at most 1.
        """
        counts, wanted = self.counts or (len(self.times),), self.steps if steps is None else steps
        if wanted not in counts:
            raise unknown_choice("number of steps", str(wanted), map(str, counts))
        if not 0 < strength <= 1:
            raise InputError(f"strength={strength}: expected more than 0, the picture itself, and at most 1, noise alone")
        start = sum(counts[: counts.index(wanted)])
        left_out = min(int(wanted - wanted * strength), wanted - 1)
        return range(start + left_out, start + wanted)


@dataclass(frozen=True)
class PromptPlan:
    """How a prompt becomes token ids, enough to do it without the model's code.

    The text is `prefix` + the prompt, stripped and lower-cased where they say so, + `suffix`; ids are padded right with `pad_id`
    to `tokens`. The encoder keeps `keep` positions: the last ones, the very first among them where `keeps_first` (BOS).
    `prefix_ids` are the ids before the last ones: where they are given, the encoder holds what it makes of them and is fed the
    ids behind them alone. A longer text is cut where `cuts` says so, else refused.
    """

    prefix: str
    lower: bool
    tokens: int
    keep: int
    pad_id: int
    prefix_ids: tuple[int, ...] = ()
    cuts: bool = True
    vocabulary: int = 0  # rows of the encoder's table of words: every id is below it; 0: not known
    suffix: str = ""
    strips: bool = True
    keeps_first: bool = True

    @property
    def before(self) -> int:
        """How many positions, the first among them, stand before the last ones that are kept."""
        return self.tokens - self.keep + self.keeps_first


@dataclass(frozen=True)
class Student:
    """A one-step (or few-step) text-to-image model, before or after specialization and quantization.

    `folder` is what it was read from (None: random weights), `variant` which of the weights there, e.g. "fp16", `parts` what
    changed or completed them; the fingerprint covers all three.
    """

    family: str
    source: str
    revision: str | None
    fingerprint: str
    components: Mapping[str, Component]
    chain: Chain
    prompt: PromptPlan
    tokenizer: Path
    latent_shape: tuple[int, ...]
    configs: Mapping[str, Mapping[str, Any]]
    licence: str
    calibration_prompts: tuple[str, ...] = ()
    validation_prompts: Sequence[str] = ()
    plan: StepPlan | None = None
    layout: str = CHANNELS_LAST
    recipe: Recipe | None = None
    folder: Path | None = None
    variant: str | None = None
    parts: Parts = NO_PARTS
