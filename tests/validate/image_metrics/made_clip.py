"""A small CLIP with random weights, saved as the published ones are: its letters are its tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

SIDE, MOST_TOKENS = 32, 16
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789,."


def save_clip(folder: Path, seed: int = 5) -> Any:
    """Write the checkpoint; the model is returned."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizerFast

    folder.mkdir(parents=True)
    tokens = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    last = len(tokens) - 1
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "projection_dim": 24}
    text = size | {
        "vocab_size": len(tokens),
        "max_position_embeddings": MOST_TOKENS,
        "bos_token_id": last - 1,
        "eos_token_id": last,
    }
    config = CLIPConfig(text_config=text, vision_config=size | {"image_size": SIDE, "patch_size": 8}, projection_dim=24)
    torch.manual_seed(seed)
    model = CLIPModel(config).eval()
    with torch.no_grad():
        for each in model.parameters():
            each += 0.1 * torch.randn_like(each)  # as it is made, all embeddings are nearly one
    model.save_pretrained(folder)
    CLIPTokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return model
