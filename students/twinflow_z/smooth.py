"""Where TwinFlow-Z's networks let channels be scaled without changing what they compute.

    RMSNorm with a gain  out = gain x / rms(x)        the gain -> all that read it (one step: with more, gains are a table)
    attention            out = softmax(q k^T) v       linear in each channel of v:  to_v -> to_out
    gated feed-forward   out = silu(w1 x) (w3 x)      linear in w3:  w3 -> w2;  Qwen3's the same:  up_proj -> down_proj
Left out: the decoder, whose convolutions read what a SiLU gives.
"""

from __future__ import annotations

from collections.abc import Iterator

from sprint_export.nouns.student import Migration, Student


def list_migrations(student: Student, role: str) -> tuple[Migration, ...]:
    """All places of one network of a specialized student."""
    makers = {"text_encoder": _text_encoder, "transformer": _transformer}
    return tuple(makers[role](student)) if role in makers else ()


def _transformer(student: Student) -> Iterator[Migration]:
    config, weights = student.configs["transformer"], student.components["transformer"].weights
    stacks = (("noise_refiner", config["n_refiner_layers"]), ("layers", config["n_layers"]))
    for block in (f"{stack}.{i}" for stack, count in stacks for i in range(count)):
        yield from _block(block, f"{block}.attention_norm1.weight" in weights)


def _block(block: str, has_gains: bool) -> Iterator[Migration]:
    attention, feed = f"{block}.attention", f"{block}.feed_forward"
    if has_gains:
        yield Migration((f"{block}.attention_norm1.weight",), tuple(f"{attention}.to_{part}" for part in "qkv"))
        yield Migration((f"{block}.ffn_norm1.weight",), (f"{feed}.w1", f"{feed}.w3"))
    yield Migration((f"{attention}.to_v.weight",), (f"{attention}.to_out.0",))
    yield Migration((f"{feed}.w3.weight",), (f"{feed}.w2",))


def _text_encoder(student: Student) -> Iterator[Migration]:
    config, weights = student.configs["text_encoder"], student.components["text_encoder"].weights
    heads, shared, width = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    channels = tuple(head // (heads // shared) * width + i for head in range(heads) for i in range(width))
    for block in (f"model.layers.{i}" for i in range(config["num_hidden_layers"] - 1)):
        read = tuple(f"{block}.self_attn.{layer}" for layer in ("q_proj", "k_proj", "v_proj"))
        yield Migration((f"{block}.input_layernorm.weight",), read)
        values = f"{block}.self_attn.prefix_values"  # of the template's beginning, made by this very projection
        made = tuple(name for leaf in ("weight", "bias") if (name := f"{block}.self_attn.v_proj.{leaf}") in weights)
        yield Migration(made, (f"{block}.self_attn.o_proj",), channels, (values,) if values in weights else ())
        yield Migration((f"{block}.post_attention_layernorm.weight",), (f"{block}.mlp.gate_proj", f"{block}.mlp.up_proj"))
        yield Migration((f"{block}.mlp.up_proj.weight",), (f"{block}.mlp.down_proj",))
    yield Migration(("refiner.cap_embedder.0.weight",), ("refiner.cap_embedder.1",))
    for i in range(student.configs["transformer"]["n_refiner_layers"]):
        yield from _block(f"refiner.context_refiner.{i}", has_gains=True)
