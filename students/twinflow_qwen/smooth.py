"""Where TwinFlow-Qwen-Image's networks let channels be scaled without changing what they compute.

    joint attention      out = softmax(q k^T) v       linear in each channel of v, and both streams' values are one v:
                                                      to_v and add_v_proj -> to_out and to_add_out
    RMSNorm with a gain  out = gain x / rms(x)        the gain -> all that read it
    gated feed-forward   out = silu(gate x) (up x)    up_proj -> down_proj
Left out: the transformer's norms, which have no gain once the time is folded (scales are in the layers that read them), what GELU
gives, and the decoder, whose convolutions read what a SiLU gives.
"""

from __future__ import annotations

from collections.abc import Iterator

from sprint_export.nouns.student import Migration, Student


def list_migrations(student: Student, role: str) -> tuple[Migration, ...]:
    """All places of one network of a specialized student."""
    makers = {"text_encoder": _text_encoder, "transformer": _transformer}
    return tuple(makers[role](student)) if role in makers else ()


def _transformer(student: Student) -> Iterator[Migration]:
    layers, weights = student.configs["transformer"]["num_layers"], student.components["transformer"].weights
    for attention in (*(f"transformer_blocks.{i}.attn" for i in range(layers - 1)), "last_block.attn"):
        made = tuple(f"{attention}.{layer}.{leaf}" for layer in ("to_v", "add_v_proj") for leaf in ("weight", "bias"))
        outputs = (f"{attention}.to_out.0", f"{attention}.to_add_out")
        yield Migration(made, tuple(layer for layer in outputs if f"{layer}.weight" in weights))


def _text_encoder(student: Student) -> Iterator[Migration]:
    config, weights = student.configs["text_encoder"], student.components["text_encoder"].weights
    heads, shared = config["num_attention_heads"], config["num_key_value_heads"]
    width = config["hidden_size"] // heads
    channels = tuple(head // (heads // shared) * width + i for head in range(heads) for i in range(width))
    for block in (f"layers.{i}" for i in range(config["num_hidden_layers"])):
        read = tuple(f"{block}.self_attn.{layer}" for layer in ("q_proj", "k_proj", "v_proj"))
        yield Migration((f"{block}.input_layernorm.weight",), read)
        values = f"{block}.self_attn.prefix_values"  # of the template's beginning, made by this very projection
        made = tuple(f"{block}.self_attn.v_proj.{leaf}" for leaf in ("weight", "bias"))
        yield Migration(made, (f"{block}.self_attn.o_proj",), channels, (values,) if values in weights else ())
        yield Migration((f"{block}.post_attention_layernorm.weight",), (f"{block}.mlp.gate_proj", f"{block}.mlp.up_proj"))
        yield Migration((f"{block}.mlp.up_proj.weight",), (f"{block}.mlp.down_proj",))
