"""Stage 2: a small Gemma-2 text encoder that can parse the captions, and its word-level tokenizer.

SANA freezes a language model that already understands its prompts. The stand-in is made the same way round: first a
Gemma2Model learns to parse captions (cross-entropy of linear heads), then it is frozen. Gemma is causal, so an object
is complete only at its "announcing" token: the place word, or for relations the relation word (first object) and
the last noun (second). There the heads must name all of it, and where it is; the background is named at the end.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from common import TEXT_WIDTH, Log, draw_scenes, steps_within
from diffusers.pipelines.sana.pipeline_sana_sprint import SanaSprintPipeline
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import Gemma2Config, Gemma2Model, PreTrainedTokenizerFast

from sprint_export.students.sprint_tiny.world import (
    BACKGROUNDS,
    COLOURS,
    FORMS,
    PLACES,
    RADII,
    Scene,
    write_caption,
)

SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<instruction>")
WORDS = ("a", "an", "and", "on", "at", "in", "the", "of", "above", "below", ",", "background")
MAX_TOKENS = 32  # training length; the longest caption has 26 tokens
CHOICES = {"form": list(FORMS), "colour": list(COLOURS), "size": list(RADII), "place": list(PLACES)}


def make_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """One token a word, BOS first; SANA's 1,057-character instruction prefix becomes the single `<instruction>`."""
    words = [*SPECIAL, *WORDS, *FORMS, *COLOURS, *RADII, *PLACES, *BACKGROUNDS]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    default = SanaSprintPipeline.__call__.__kwdefaults__ or {}
    lines = default.get("complex_human_instruction") or _positional_default("complex_human_instruction")
    tokenizer.normalizer = normalizers.Replace("\n".join(lines), " <instruction> ")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(",", "isolated")])
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", words.index("<bos>"))])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        padding_side="right",
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=512,
        additional_special_tokens=["<instruction>"],
    )


def _positional_default(name: str) -> list[str]:
    import inspect

    value: list[str] = inspect.signature(SanaSprintPipeline.__call__).parameters[name].default
    return value


def make_text_encoder(tokenizer: PreTrainedTokenizerFast) -> Gemma2Model:
    """Two Gemma-2 layers of width 128 (4 query heads, 2 key/value heads); eager attention keeps the softcap."""
    config = Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        query_pre_attn_scalar=32,
        max_position_embeddings=512,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
        attn_implementation="eager",
    )
    return Gemma2Model(config)


def tokenize(tokenizer: PreTrainedTokenizerFast, captions: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask, int64 [N, 32], with the instruction token where the pipeline puts its prefix."""
    batch = tokenizer(["<instruction> " + c for c in captions], padding="max_length", max_length=MAX_TOKENS, return_tensors="pt")
    return batch.input_ids, batch.attention_mask


def _announcements(caption: str, scene: Scene) -> list[tuple[int, str, int]]:
    """(token index, head, class) targets. Index 0 is BOS and 1 the instruction, so word i is token i + 2."""
    words = re.findall(r"[^\s,]+|,", caption)
    relation = next(
        (
            i
            for i, word in enumerate(words)
            if word in ("above", "below") or words[i : i + 2] in (["left", "of"], ["right", "of"])
        ),
        None,
    )
    nouns = [i for i, word in enumerate(words) if word in FORMS]
    if relation is not None and len(nouns) == 2:
        spots = [relation + (words[relation] in ("left", "right")), nouns[1]]
    else:
        spots = [i for i, word in enumerate(words) if word in PLACES]
    targets = [
        (spot + 2, head, options.index(getattr(shape, head)))
        for spot, shape in zip(spots, scene.shapes, strict=True)
        for head, options in CHOICES.items()
    ]
    return [*targets, (len(words) + 1, "background", list(BACKGROUNDS).index(scene.background))]


def train_text_encoder(folder: Path, seconds: float, batch: int, log: Log, device: str) -> None:
    """Train on captions alone until the heads parse perfectly (or `seconds` pass); save tokenizer and encoder."""
    torch.manual_seed(0)
    rng = np.random.default_rng(2)
    tokenizer = make_tokenizer(folder / "tokenizer")
    tokenizer.save_pretrained(folder / "tokenizer")
    model = make_text_encoder(tokenizer).to(device)
    sizes = {name: len(options) for name, options in CHOICES.items()} | {"background": len(BACKGROUNDS)}
    heads = torch.nn.ModuleDict({name: torch.nn.Linear(TEXT_WIDTH, size) for name, size in sizes.items()}).to(device)
    optimizer = torch.optim.AdamW([*model.parameters(), *heads.parameters()], lr=1e-3, weight_decay=0.01)
    log(f"text encoder: {sum(p.numel() for p in model.parameters()):,} parameters")
    accuracy = 0.0
    for step, _ in steps_within(seconds, 1.5e-3, 30, optimizer):
        scenes = draw_scenes(batch, rng)
        captions = [write_caption(scene, rng) for scene in scenes]
        ids, mask = (t.to(device) for t in tokenize(tokenizer, captions))
        hidden = model(ids, mask).last_hidden_state
        rows = [(i, *target) for i, (c, s) in enumerate(zip(captions, scenes, strict=True)) for target in _announcements(c, s)]
        loss, hits = torch.zeros((), device=device), []
        for name, head in heads.items():
            picked = torch.tensor([(row, token, label) for row, token, which, label in rows if which == name], device=device)
            logits = head(hidden[picked[:, 0], picked[:, 1]])
            loss = loss + torch.nn.functional.cross_entropy(logits, picked[:, 2])
            hits.append((logits.argmax(-1) == picked[:, 2]).float().mean().item())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        accuracy = 0.9 * accuracy + 0.1 * min(hits)
        if step % 50 == 0:
            log(f"text encoder step {step}: loss {loss.item():.4f}, worst head {min(hits):.1%}")
    model.eval().save_pretrained(folder / "text_encoder")
    log(f"text encoder done after {step + 1} steps, worst head (running mean) {accuracy:.2%}")
