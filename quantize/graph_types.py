"""Rounding to the type a graph computes in: its scales and tables must be values that type holds."""

from __future__ import annotations

import torch

from sprint_export.nouns.recipe import FLOAT_DTYPES


def round_to_graph(value: torch.Tensor, dtype: str) -> torch.Tensor:
    """float32 values that `dtype` ("fp32", "fp16", "bf16") holds exactly."""
    return value.to(getattr(torch, FLOAT_DTYPES[dtype])).float()
