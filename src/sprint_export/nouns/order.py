"""Order: what one run is asked for, each option declared once. The command line, `convert` and the bundle's key read it here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from sprint_export.nouns.option import Option
from sprint_export.nouns.parts import Lora, Parts, read_lora
from sprint_export.nouns.recipe import Recipe
from sprint_export.nouns.report import Gate
from sprint_export.nouns.student import Student
from sprint_export.nouns.target import Device, Offer, Options, Target

STUDENT, QUANTIZATION, VALIDATION = "Student", "Quantization", "Validation"  # panels of the help


def hashed(help: str, kind: type = str, panel: str | None = None, **spelling: Any) -> dict[str, Any]:
    """Of a field that shapes the bundle's files: its value is part of the bundle's key, unless it is the default."""
    return {"option": Option("", help, kind, None, panel, **spelling), "is_hashed": True}


def resolved(help: str, kind: type = str, panel: str | None = None, **spelling: Any) -> dict[str, Any]:
    """Of a field that shapes no file, or whose effect the key covers by what it is resolved to (a plan, a recipe, weights)."""
    return {"option": Option("", help, kind, None, panel, **spelling), "is_hashed": False}


@dataclass(frozen=True)
class Order:
    """What one run is asked for: the options of `convert` by their names, and of the command by their flags.

    A new option is one line here. In Python `student` may also be what `load_student` gives, and `recipe` a Recipe.
    """

    student: str | Path | Student = field(
        default="sprint-tiny", metadata=resolved("An embedded name, a diffusers folder, a hub id, or random:PRESET.")
    )
    target: str = field(
        default="trt-fp8", metadata=resolved("Where to, e.g. trt-fp8, onnx-int8; several with commas; see: list targets.")
    )
    out: str | Path | None = field(
        default=None, metadata=resolved("The bundle's folder, or that of several; default STUDENT-TARGET here.", Path)
    )
    variant: str | None = field(
        default=None,
        metadata=resolved("Which of a checkpoint's weights, e.g. fp16; default: the plain ones, or the only ones."),
    )
    lora: Sequence[str | Lora] = field(
        default=(),
        metadata=resolved(
            "A LoRA: safetensors, a folder of them or a hub id, merged into the weights, with how much of it; may be repeated.",
            panel=STUDENT,
            metavar="FILE[:SCALE]",
            is_repeated=True,
        ),
    )
    decoder: str | Path | None = field(
        default=None,
        metadata=resolved("Another decoder of the same latent space: a folder or hub id.", panel=STUDENT),
    )
    vae: str | Path | None = field(
        default=None,
        metadata=resolved("The autoencoder of a checkpoint that has none, e.g. a .pth: a folder or hub id.", panel=STUDENT),
    )
    text_encoder: str | Path | None = field(
        default=None,
        metadata=resolved("Its text encoder with the tokenizer, likewise.", panel=STUDENT),
    )
    controlnet: str | Path | None = field(
        default=None,
        metadata=resolved("A ControlNet beside it, for run --control: a folder or hub id.", panel=STUDENT),
    )
    image_to_image: bool = field(
        default=False,
        metadata=resolved("Export the encoder of pictures too, for run --image.", bool, STUDENT),
    )
    overwrite: bool = field(default=False, metadata=resolved("Replace a bundle made from other inputs.", bool))
    device: str | None = field(default=None, metadata=resolved("What to build for; see: list devices."))
    compute: str = field(default="auto", metadata=resolved("What PyTorch computes on here: auto, cpu, cuda, mps or xpu."))
    steps: int | Sequence[int] = field(
        default=1, metadata=resolved("Sampling steps to specialize to, 1 to 4; 1,2,4 share one set of weights.")
    )
    times: str | Sequence[float] | None = field(
        default=None,
        metadata=resolved(
            "Flow times in place of the family's, noise first: 1,0.6; trigflow:1.5708,1.0; or a schedule's name, e.g. tbcm."
        ),
    )
    guidance: float | None = field(default=None, metadata=resolved("Guidance scale to fix; default: the family's.", float))
    components: Sequence[str] | None = field(
        default=None,
        metadata=resolved("Export only this network; may be repeated.", flags=("--component",), metavar="ROLE", is_repeated=True),
    )
    prompt_tokens: int | None = field(
        default=None, metadata=resolved("Rows of text the networks are fixed to, BOS and the prompt's; default 300.", int)
    )
    prefix_cache: bool = field(
        default=True,
        metadata=resolved(
            "Compute the instruction before a prompt too, instead of holding it.", bool, flags=("--no-prefix-cache",)
        ),
    )
    recipe: Recipe | str | Path | None = field(
        default=None,
        metadata=resolved(
            "Which layers are quantized: fast, balanced (default), faithful, auto (searched), or a TOML file.",
            panel=QUANTIZATION,
        ),
    )
    cost: str | None = field(
        default=None,
        metadata=resolved("What --recipe auto makes small: time (priced for the device) or bytes.", panel=QUANTIZATION),
    )
    max_mb: float | None = field(
        default=None,
        metadata=resolved(
            "coreml-w4 and coreml-w6: choose every layer's bits by picture error to fit this size.", float, QUANTIZATION
        ),
    )
    drop_unpaid: bool = field(
        default=False,
        metadata=hashed(
            "Leave in float the layers without whose rounding the priced engine is less than 2 % slower; builds some engines.",
            bool,
            QUANTIZATION,
        ),
    )
    prompts: Sequence[str] | None = field(
        default=None,
        metadata=resolved(
            "A file, one prompt a line, to calibrate and validate with; - for stdin; or a set, e.g. geneval:PATH.",
            panel=QUANTIZATION,
            metavar="FILE|SET:PATH",
        ),
    )
    gates: Sequence[str | Gate] = field(
        default=(),
        metadata=resolved(
            "A demand, e.g. 'psnr_db>=30'; may be repeated, all hold.",
            panel=VALIDATION,
            flags=("--gate",),
            metavar="DEMAND",
            is_repeated=True,
        ),
    )
    count: int | None = field(
        default=None, metadata=resolved("How many prompts, with --budget at most; default: as many as decide.", int, VALIDATION)
    )
    budget: str | float | None = field(
        default=None,
        metadata=resolved(
            "Draw as many pictures as fit into 90s, 10m or 1h, at least 4; default 3m above 128 px.", panel=VALIDATION
        ),
    )
    provider: str | None = field(
        default=None,
        metadata=resolved(
            "What the runtime's library runs graphs on for the check; see: list providers. Default: the CPU.", panel=VALIDATION
        ),
    )
    metrics: str | Sequence[str] | None = field(
        default=None,
        metadata=resolved(
            "More to measure of the pictures, with commas: lpips, dists, clip_score, fid, cmmd, ...; see docs/metrics.md.",
            panel=VALIDATION,
            metavar="NAMES",
        ),
    )
    metric_weights: Path | None = field(
        default=None,
        metadata=resolved("A folder of metrics' weights; else torch's and the hub's caches.", Path, VALIDATION),
    )
    scorers: Sequence[str] = field(
        default=(),
        metadata=resolved(
            "A process that scores pictures in JSON lines; may be repeated.",
            panel=VALIDATION,
            flags=("--scorer",),
            metavar="NAME=COMMAND",
            is_repeated=True,
        ),
    )
    validate: bool = field(
        default=True, metadata=resolved("Leave the validation out.", bool, VALIDATION, flags=("--no-validate",))
    )
    options: Options | None = None  # of the target, which declares them, e.g. {"deployment_target": "iOS17"}

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets, of which there may be several with commas between them."""
        return tuple(name.strip() for name in self.target.split(","))

    @property
    def parts(self) -> Parts:
        """What changes or completes the student's checkpoint; InputError where a LoRA's scale is no number."""
        return make_parts(self.lora, self.decoder, self.vae, self.text_encoder, self.controlnet)

    def list_hashed(self) -> dict[str, Any]:
        """The values that are part of the bundle's key as they stand."""
        declared = [each for each in fields(self) if each.metadata.get("is_hashed")]
        return {each.name: getattr(self, each.name) for each in declared if getattr(self, each.name) != each.default}


def list_options(order: type[Order] = Order) -> tuple[Option, ...]:
    """The options that an order is made of, as the command line asks for them."""
    declared = (each for each in fields(order) if "option" in each.metadata)
    return tuple(replace(each.metadata["option"], name=each.name, default=each.default) for each in declared)


def make_parts(
    lora: Sequence[str | Lora] | None = None,
    decoder: str | Path | None = None,
    vae: str | Path | None = None,
    text_encoder: str | Path | None = None,
    controlnet: str | Path | None = None,
) -> Parts:
    """The Parts that these options of an order ask for.

    Raises:
        InputError: a LoRA's scale is no number.
    """
    read = tuple(each if isinstance(each, Lora) else read_lora(each) for each in lora or ())
    return Parts(read, decoder, vae, text_encoder, controlnet)


@dataclass(frozen=True)
class Deployment:
    """What a bundle's files are made for: a target, one of its precisions, a device, and the target's options."""

    target: Target
    precision: str
    device: Device
    options: Options = field(default_factory=dict)
    hashed: Mapping[str, Any] = field(default_factory=dict)  # of the order: part of the bundle's key as it stands

    @property
    def name(self) -> str:
        """As the user writes it, e.g. trt-fp8."""
        return f"{self.target.name}-{self.precision}"

    @property
    def offer(self) -> Offer:
        """What the target makes of the precision."""
        return self.target.offers[self.precision]


@dataclass(frozen=True)
class CheckedOrder:
    """An order whose names are resolved: what the stages go by."""

    order: Order
    deployment: Deployment
    out: Path
    components: tuple[str, ...]  # empty: all
    recipe: Recipe | str | None  # a preset's name, "auto", or the recipe itself; None leaves the choice to the precision
    gates: tuple[Gate, ...]  # the user's own
    min_psnr_db: float  # what a search for a recipe has to reach
    is_validated: bool
