"""The networks as they were trained, and once the times are fixed: what the time makes is then a table, gathered by tick."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from sprint_export.nouns.student import Component, PromptPlan, StepPlan, Student, TensorSpec
from sprint_export.students.family import replace_components
from sprint_export.students.folder import check_files, fingerprint_folder
from sprint_export.students.stripes.family import FAMILY  # type: ignore[import-not-found]  # a part of the package while the tests run
from sprint_export.weights import Handle, check_fit, constant, open_safetensors, random_handle

WIDTH, TOKENS, CHANNELS, OUTLINE, WORDS = 32, 64, 12, 16, 32
TOKENIZER = Path(__file__).parent / "tokenizer"
PROMPTS = ("a red stripe left", "Two blue stripe right", "green", "a white stripe above a red stripe")
PLAN = PromptPlan(
    prefix="<system> <user> ",
    lower=False,
    tokens=14,
    keep=12,
    pad_id=0,
    vocabulary=WORDS,
    suffix=" <end> <assistant>",
    strips=False,
    keeps_first=False,
)


class Reader(nn.Module):
    """Words [B, 14] -> rows [B, 12, 32], those of the template's beginning left out."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.inner, self.outer = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, 64), nn.Linear(64, WIDTH)

    def forward(self, words: Tensor) -> Tensor:
        """One row a word."""
        x = self.table(words)
        rows: Tensor = x + self.outer(nn.functional.silu(self.inner(x)))
        return rows[:, PLAN.before :].float()


class Hinter(nn.Module):
    """State [B, 64, 12] and outline [B, 64, 16] -> hints [B, 64, 32]."""

    def __init__(self) -> None:
        super().__init__()
        self.state, self.outline, self.mix = nn.Linear(CHANNELS, WIDTH), nn.Linear(OUTLINE, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: Tensor, outline: Tensor) -> Tensor:
        """One hint a token."""
        dtype = self.mix.weight.dtype
        hints: Tensor = self.mix(torch.tanh(self.state(tokens.to(dtype)) + self.outline(outline.to(dtype))))
        return hints.float()


class Painter(nn.Module):
    """x0 = x - s v of a state [B, 64, 12] at time s; `shift` [B, 1, 32] is what the time makes of itself."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.read, self.inner = nn.Linear(CHANNELS, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 64)
        self.outer, self.leave, self.time = nn.Linear(64, WIDTH), nn.Linear(WIDTH, CHANNELS), nn.Linear(1, WIDTH)

    def paint(self, x: Tensor, rows: Tensor, mask: Tensor, hint: Tensor, s: Tensor, shift: Tensor) -> Tensor:
        """The whole of it."""
        dtype = self.enter.weight.dtype
        h, read = self.enter(x.to(dtype)) + hint.to(dtype) + shift, self.read(rows.to(dtype))
        weights = (h @ read.transpose(1, 2) * WIDTH**-0.5 + (1 - mask[:, None].to(h.dtype)) * -1e4).softmax(-1)
        h = h + weights @ read
        h = h + self.outer(nn.functional.silu(self.inner(h)))
        clean: Tensor = x - s * self.leave(h).float()
        return clean

    def forward(self, x: Tensor, rows: Tensor, mask: Tensor, hint: Tensor, s: Tensor) -> Tensor:
        """As trained: s is [1]."""
        return self.paint(x, rows, mask, hint, s, self.time(s[:, None])[:, None])


class FixedPainter(Painter):
    """At fixed times."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        del self.time
        self.register_buffer("times", torch.empty(steps))
        self.register_buffer("shifts", torch.empty(steps, WIDTH))

    def forward(self, x: Tensor, rows: Tensor, mask: Tensor, hint: Tensor, tick: Tensor | None = None) -> Tensor:
        """At the time that `tick` counts, or at the only one."""
        times, shifts = self.get_buffer("times"), self.get_buffer("shifts")
        s, shift = (times[0], shifts[0]) if tick is None else (times[tick], shifts[tick])
        return self.paint(x, rows, mask, hint, s, shift.reshape(1, 1, WIDTH))


class Unpacker(nn.Module):
    """Tokens [B, 64, 12] -> picture [B, 3, 32, 32], 4 x 4 pixels a token."""

    def __init__(self, is_thin: bool = False) -> None:
        super().__init__()
        inner = WIDTH if is_thin else 2 * WIDTH
        self.enter, self.leave = nn.Linear(CHANNELS, inner), nn.Linear(inner, 48)

    def forward(self, tokens: Tensor) -> Tensor:
        """Pixels in [-1, 1]."""
        pixels = torch.tanh(self.leave(torch.relu(self.enter(tokens.to(self.enter.weight.dtype))))).float()
        return pixels.reshape(-1, 8, 8, 3, 4, 4).permute(0, 3, 1, 4, 2, 5).reshape(-1, 3, 32, 32)


def make_modules(is_thin: bool = False) -> dict[str, nn.Module]:
    """As trained, on `meta`."""
    with torch.device("meta"):
        unpacker = {"thin_unpacker": Unpacker(True)} if is_thin else {"unpacker": Unpacker()}
        return {"reader": Reader(), "hinter": Hinter(), "painter": Painter(), **unpacker}


def make_student(seed: int = 0, is_thin: bool = False) -> Student:
    """Random weights that neither vanish nor explode."""
    weights = {
        role: {
            name: random_handle(f"{role}.{name}", tuple(value.shape), 1.5 * value.shape[-1] ** -0.5, seed=seed)
            for name, value in module.state_dict().items()
        }
        for role, module in make_modules(is_thin).items()
    }
    return assemble(weights, TOKENIZER, "random:stripes", hashlib.sha256(f"stripes {seed} {is_thin}".encode()).hexdigest())


def load(folder: Path, source: str) -> Student:
    """A folder with one `model.safetensors` a network, and a tokenizer."""
    check_files(folder, ("reader", "painter", "unpacker", "tokenizer"))
    weights = {role: open_safetensors(folder / role, "model") for role in make_modules() if (folder / role).is_dir()}
    return dataclasses.replace(assemble(weights, folder / "tokenizer", source, fingerprint_folder(folder, set())), folder=folder)


def assemble(weights: Mapping[str, Mapping[str, Handle]], tokenizer: Path, source: str, fingerprint: str) -> Student:
    """Modules as trained, with their weights."""
    modules = make_modules("thin_unpacker" in weights)
    for role, handles in weights.items():
        check_fit(modules[role], handles, f"{source}: {role}")
    return Student(
        family=FAMILY.name,
        source=source,
        revision=None,
        fingerprint=fingerprint,
        components={role: Component(role, modules[role], handles) for role, handles in weights.items()},
        chain=FAMILY.chain,
        prompt=PLAN,
        tokenizer=tokenizer,
        latent_shape=(TOKENS, CHANNELS),
        configs={},
        licence="none needed",
        calibration_prompts=PROMPTS,
        validation_prompts=PROMPTS,
    )


def specialize(student: Student, plan: StepPlan) -> Student:
    """Specs for all, and the painter at its times."""
    keep = student.prompt.keep
    words = TensorSpec("words", "int64", (1, student.prompt.tokens), "the template around the prompt, padded right")
    rows = TensorSpec("word_rows", "float32", (1, keep, WIDTH), "a row a word")
    mask = TensorSpec("is_word", "int64", (1, keep), "1 for words, 0 for padding")
    tokens = TensorSpec("tokens", "float32", (1, TOKENS, CHANNELS), "x_s, 4 x 4 pixels a token")
    outline = TensorSpec("outline", "float32", (1, TOKENS, OUTLINE), "what the picture should follow")
    hint = TensorSpec("hint", "float32", (1, TOKENS, WIDTH), "a hint a token")
    tick = (TensorSpec("tick", "int64", (1,), "which time"),) if len(plan.times) > 1 else ()
    clean = dataclasses.replace(tokens, name="clean_tokens", meaning="x0")
    photo = TensorSpec("photo", "float32", (1, 3, 32, 32), "picture in [-1, 1]")
    specs = {
        "reader": ((words,), (rows,)),
        "hinter": ((tokens, outline), (hint,)),
        "painter": ((tokens, rows, mask, hint, *tick), (clean,)),
        "unpacker": ((tokens,), (photo,)),
        "thin_unpacker": ((tokens,), (photo,)),
    }
    networks = {
        role: dataclasses.replace(network, module=network.module.eval(), inputs=specs[role][0], outputs=specs[role][1])
        for role, network in student.components.items()
    }
    with torch.device("meta"):
        painter = FixedPainter(len(plan.times)).eval()
    weights = dict(networks["painter"].weights)
    weight, bias = (weights.pop(f"time.{name}").load() for name in ("weight", "bias"))
    times = torch.tensor(plan.times)
    weights |= {"times": constant(times), "shifts": constant(times[:, None] @ weight.t() + bias)}
    networks["painter"] = dataclasses.replace(networks["painter"], module=painter, weights=weights)
    return replace_components(dataclasses.replace(student, plan=plan), *networks.values())
