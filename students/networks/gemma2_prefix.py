"""The constant beginning of every prompt, run through Gemma-2 once: keys, values and the row of BOS.

    k_i, v_i [1, K, N, d] of layer i, and h_0 [1, 1, hidden], for the N tokens before the prompt
Attention is causal: none of the N positions sees the prompt, so all of this is the same for every prompt, and the prompt's own
positions need nothing else of them. Exact as long as the prompt's ids begin with these N; prompt_reader.PromptReader checks that.

The weights are the stock ones, before any fold: a key is made of a normalized input, so scaling the residual stream down does
not change it. Computed when the first handle is pulled, in the weights' own precision but at least float32, with one layer's
weights in memory at a time; what stays is 2 N K d values a layer (26 layers of Gemma-2-2b, N = 212: 45 MB in float32).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import Gemma2Model

from sprint_export.linear_kernels import hasten_products
from sprint_export.students.networks.gemma2 import PromptLayer, bias_handles, rotation_handles
from sprint_export.weights import Handle, LazyHandle, materialize, widen_dtype

Tensors = list[torch.Tensor]


class PrefixCache:
    """Handles of what a prefix leaves behind; they share one computation.

    Args:
        model: the stock model on `meta`, with eager attention.
        weights: its own, by its names.
        ids: the prefix's token ids, BOS first.
        unused: keys and values of zeros to put before them, for the kernels' sake.
    """

    def __init__(self, model: Gemma2Model, weights: Mapping[str, Handle], ids: Sequence[int], unused: int = 0) -> None:
        self._model, self._weights, self._ids, self._unused = model, weights, list(ids), unused
        self._dtype = widen_dtype(weights["norm.weight"].dtype)

    def handles(self) -> dict[str, Handle]:
        """Under the names PromptEncoder gives its buffers; nothing is computed yet."""
        stock = self._model.config
        shape = (1, stock.num_key_value_heads, self._unused + len(self._ids), stock.head_dim)
        found: dict[str, Handle] = {"bos_row": LazyHandle((1, 1, stock.hidden_size), self._dtype, lambda: self._values[2][0])}
        for i in range(stock.num_hidden_layers):
            for kind, name in enumerate(("prefix_keys", "prefix_values")):
                path = f"model.layers.{i}.self_attn.{name}"
                found[path] = LazyHandle(shape, self._dtype, lambda kind=kind, i=i: self._values[kind][i])  # type: ignore[misc]
        return found

    @cached_property
    def _values(self) -> tuple[Tensors, Tensors, Tensors]:
        """Keys by layer, values by layer, and the row of BOS alone."""
        stock, length = self._model.config, len(self._ids)
        bias = {name: handle.load().to(self._dtype) for name, handle in bias_handles(stock.sliding_window, length).items()}
        cos, sin = (handle.load().to(self._dtype) for handle in rotation_handles(self._model.rotary_emb, length).values())
        keys, values = Tensors(), Tensors()
        with torch.no_grad():
            rows = self._weights["embed_tokens.weight"].load()[self._ids].to(self._dtype)
            x = rows[None] * torch.tensor(stock.hidden_size**0.5, dtype=self._dtype)
            for i, layer in enumerate(self._model.layers):
                real = self._fill(PromptLayer(layer, 0), f"layers.{i}.")
                heads = real.project(x, (cos, sin))
                keys.append(heads[1])
                values.append(heads[2])
                seen = bias.get(real.attention_type.replace("attention", "bias"), bias["full_bias"])
                x = real.finish(x, heads, seen)
            bos = self._fill(self._model.norm, "norm.")(x[:, :1])
        keys, values = ([pad(value, (0, 0, self._unused, 0)) for value in kind] for kind in (keys, values))
        return keys, values, [bos]

    def _fill(self, module: torch.nn.Module, path: str) -> Any:
        own = {name.removeprefix(path): handle for name, handle in self._weights.items() if name.startswith(path)}
        real = materialize(module, own, self._dtype)
        hasten_products(real)
        return real
