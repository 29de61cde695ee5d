"""Where SANA-Sprint's networks let channels be scaled without changing what they compute.

A tensor's channel can be scaled where what makes it is linear in that channel and what reads it is a matmul:
    linear attention     out = q (sum k v^T) / (q . sum k)       linear in each channel of v:  to_v -> to_out
    cross-attention      out = softmax(q k^T) v                  the same;  Gemma's too, where heads share a v (GQA)
    gated convolution    out = a silu(g),  a, g = conv_depth     linear in a:  conv_depth's first half -> conv_point
    gated feed-forward   out = gelu(gate x) (up x)               linear in up:  up_proj -> down_proj
    RMSNorm with a gain  out = gain x / rms(x)                   the gain -> all that read it
Left out: the affine-free norms of the blocks (no gain to write 1 / s into), inputs behind SiLU (the decoder's second
convolutions), and the decoder's and encoder's attention (its to_v also feeds the convolutions of the other scales).
"""

from __future__ import annotations

from collections.abc import Iterator

from sprint_export.nouns.student import Migration, Student


def list_migrations(student: Student, role: str) -> tuple[Migration, ...]:
    """All places of one network of a specialized student."""
    if role == "text_encoder":
        return tuple(_text_encoder(student))
    return tuple((_autoencoder if role.startswith("vae") else _blocks)(student, role))


def _blocks(student: Student, role: str) -> Iterator[Migration]:
    """Of the transformer or the ControlNet."""
    blocks = [f"transformer_blocks.{i}" for i in range(student.configs[role]["num_layers"])]
    readers = tuple(f"{block}.attn2.{layer}" for block in blocks for layer in ("to_k", "to_v"))
    yield Migration(("caption_norm.weight",), readers)
    for block in blocks:
        for attention in ("attn1", "attn2"):
            yield Migration(_parameters(student, role, f"{block}.{attention}.to_v"), (f"{block}.{attention}.to_out.0",))
        yield _gated_convolution(student, role, f"{block}.ff")


def _text_encoder(student: Student) -> Iterator[Migration]:
    config = student.configs["text_encoder"]
    heads, shared, width = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    channels = tuple(head // (heads // shared) * width + i for head in range(heads) for i in range(width))
    for block in (f"model.layers.{i}" for i in range(config["num_hidden_layers"])):
        read = tuple(f"{block}.self_attn.{layer}" for layer in ("q_proj", "k_proj", "v_proj"))
        yield Migration((f"{block}.input_layernorm.weight",), read)
        values = f"{block}.self_attn.prefix_values"  # of the prompt's prefix, made by this very projection
        held = (values,) if values in student.components["text_encoder"].weights else ()
        yield Migration((f"{block}.self_attn.v_proj.weight",), (f"{block}.self_attn.o_proj",), channels, held)
        yield Migration((f"{block}.pre_feedforward_layernorm.weight",), (f"{block}.mlp.gate_proj", f"{block}.mlp.up_proj"))
        yield Migration((f"{block}.mlp.up_proj.weight",), (f"{block}.mlp.down_proj",))


def _autoencoder(student: Student, role: str) -> Iterator[Migration]:
    """Of its decoder or its encoder."""
    for name in student.components[role].weights:
        if name.endswith(".conv_depth.weight"):
            yield _gated_convolution(student, role, name.removesuffix(".conv_depth.weight"))


def _gated_convolution(student: Student, role: str, block: str) -> Migration:
    """conv_depth writes [a, g]; conv_point reads a silu(g)."""
    producers = _parameters(student, role, f"{block}.conv_depth")
    half = student.components[role].weights[producers[0]].shape[0] // 2
    return Migration(producers, (f"{block}.conv_point",), tuple(range(half)))


def _parameters(student: Student, role: str, layer: str) -> tuple[str, ...]:
    """A layer's weight and, where it has one, its bias."""
    names = (f"{layer}.weight", f"{layer}.bias")
    return tuple(name for name in names if name in student.components[role].weights)
