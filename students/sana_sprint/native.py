"""Native checkpoints: the `.pth` of NVlabs' and hustvl's trainers (SANA-Sprint, TBCM) as a Student, under diffusers' names.

`state_dict` counts, not `state_dict_ema`. Such a file holds the denoiser alone, without the number of its heads or the size of
its pictures: linear attention is 32 wide, cross-attention goes by the width, latents are 32 x 32 (1024 px). What differs stands
in a `<name>.json` beside `<name>.pth`, under the keys of diffusers' config. VAE, text encoder and tokenizer come from folders of
their own. A fused projection becomes its parts: rows [q; k; v]. Prompts are read as diffusers' pipeline reads them.
Sources: NVlabs/Sana diffusion/utils/checkpoint.py and sana_multi_scale.py, diffusers scripts/convert_sana_to_diffusers.py.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sprint_export.errors import InputError
from sprint_export.nouns.parts import Parts
from sprint_export.nouns.student import Student
from sprint_export.students.checkpoints import FOLDERS, read_general_prompts
from sprint_export.students.folder import check_file, check_files, find_part, hash_file, read_json
from sprint_export.students.sana_sprint.checkpoint import assemble, read_weights
from sprint_export.students.sana_sprint.prompt import read_settings
from sprint_export.students.sana_sprint.published import transformer_config
from sprint_export.students.torch_file import open_torch_file
from sprint_export.weights import Handle, LazyHandle

KEY = "state_dict"
CROSS_HEADS = {1152: 16, 2240: 20}  # by width: the two published sizes
CROSS_HEAD = "num_cross_attention_heads"
HEAD_WIDTH = 32  # of linear attention
UNUSED = ("pos_embed", "y_embedder.y_embedding", "logvar_linear.weight", "logvar_linear.bias")  # of training
MODULES: Mapping[str, tuple[str, ...]] = {
    "x_embedder.proj": ("patch_embed.proj",),
    "y_embedder.y_proj.fc1": ("caption_projection.linear_1",),
    "y_embedder.y_proj.fc2": ("caption_projection.linear_2",),
    "attention_y_norm": ("caption_norm",),
    "t_embedder.mlp.0": ("time_embed.timestep_embedder.linear_1",),
    "t_embedder.mlp.2": ("time_embed.timestep_embedder.linear_2",),
    "cfg_embedder.mlp.0": ("time_embed.guidance_embedder.linear_1",),
    "cfg_embedder.mlp.2": ("time_embed.guidance_embedder.linear_2",),
    "t_block.1": ("time_embed.linear",),
    "final_layer": ("",),
    "final_layer.linear": ("proj_out",),
}
BLOCK: Mapping[str, tuple[str, ...]] = {
    "": ("",),
    "attn.qkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
    "attn.q_norm": ("attn1.norm_q",),
    "attn.k_norm": ("attn1.norm_k",),
    "attn.proj": ("attn1.to_out.0",),
    "cross_attn.q_linear": ("attn2.to_q",),
    "cross_attn.kv_linear": ("attn2.to_k", "attn2.to_v"),
    "cross_attn.q_norm": ("attn2.norm_q",),
    "cross_attn.k_norm": ("attn2.norm_k",),
    "cross_attn.proj": ("attn2.to_out.0",),
    "mlp.inverted_conv.conv": ("ff.conv_inverted",),
    "mlp.depth_conv.conv": ("ff.conv_depth",),
    "mlp.point_conv.conv": ("ff.conv_point",),
}


def load(path: Path, source: str, variant: str | None, parts: Parts) -> Student:
    """A native checkpoint with the networks that it comes without.

    Raises:
        InputError: the file cannot be read safely, has unknown weights or lacks some, its heads are not known, or one of the
            folders is no such network.
    """
    native = open_torch_file(check_file(path, path.parent), KEY)
    beside = path.with_suffix(".json")
    said = read_json(beside, path.parent) if beside.exists() or beside.is_symlink() else {}
    vae, text = Path(str(parts.vae)), Path(str(parts.text_encoder))
    folders = {"vae_decoder": (vae, "vae"), "text_encoder": (text, "text_encoder"), "tokenizer": (text, "tokenizer")}
    found = {role: find_part(folder, name) for role, (folder, name) in folders.items()}
    for role, (folder, _) in folders.items():
        check_files(folder, (str(found[role].relative_to(folder)),))
    configs: dict[str, Mapping[str, Any]] = {
        role: read_json(found[role] / "config.json", folders[role][0]) for role in ("text_encoder", "vae_decoder")
    }
    weights = {role: read_weights(role, found[role], FOLDERS[role][1], variant) for role in configs}
    weights["transformer"] = rename(str(path), native)
    configs["transformer"] = describe(path, native, said)
    settings = read_settings(found["tokenizer"], text)
    digest = hashlib.sha256(b"".join(hash_file(file) for file in (path, beside) if file.exists())).hexdigest()
    student = assemble(configs, weights, found["tokenizer"], settings, source)
    heads = student.configs["transformer"]["num_cross_attention_heads"]
    by = "as said beside it" if CROSS_HEAD in said else "by its width"
    note = f"weights: {KEY} of {path.name}, not state_dict_ema; {heads} cross-attention heads {by}"
    denoiser = dataclasses.replace(student.components["transformer"], notes=(note,))
    prompts = read_general_prompts()
    return dataclasses.replace(
        student,
        fingerprint=digest,
        licence="not stated; see the model's page",
        variant=variant,
        components={**student.components, "transformer": denoiser},
        configs={**student.configs, "tokenizer": {"class": settings.get("tokenizer_class") or "PreTrainedTokenizerFast"}},
        calibration_prompts=prompts,
        validation_prompts=prompts,
    )


def rename(where: str, native: Mapping[str, Handle]) -> dict[str, Handle]:
    """The weights under diffusers' names; a fused projection's parts are views of its rows.

    Raises:
        InputError: names that are none of the family's; all that are missing are found when the network is built.
    """
    renamed: dict[str, Handle] = {}
    unknown = []
    for name, handle in native.items():
        targets = _find_targets(name)
        count = len(targets or ())
        if targets is None or (count > 1 and (not handle.shape or handle.shape[0] % count)):
            unknown.append(name)
            continue
        for i, target in enumerate(targets):
            renamed[target] = handle if count == 1 else _take_rows(handle, i, count)
    if unknown:
        raise InputError(
            f"{where}: {KEY} has {len(unknown)} weights that no SANA-Sprint has: {', '.join(unknown[:5])}"
            f"{', ...' if len(unknown) > 5 else ''}; expected those of NVlabs' SanaMSCM with linear attention and glumbconv"
        )
    return renamed


def _find_targets(name: str) -> tuple[str, ...] | None:
    """diffusers' names of a weight: none where it is not used, None where it is not known."""
    if name in UNUSED:
        return ()
    module, _, leaf = name.rpartition(".")
    if module in MODULES:
        return tuple(f"{target}.{leaf}".lstrip(".") for target in MODULES[module])
    first, number, inner = (*module.split(".", 2), "", "")[:3]
    if first != "blocks" or inner not in BLOCK:
        return None
    return tuple(f"transformer_blocks.{number}.{f'{target}.{leaf}'.lstrip('.')}" for target in BLOCK[inner])


def _take_rows(handle: Handle, place: int, count: int) -> LazyHandle:
    """One of `count` equal parts of a weight's rows."""
    rows = handle.shape[0] // count
    return LazyHandle((rows, *handle.shape[1:]), handle.dtype, lambda: handle.load()[place * rows : (place + 1) * rows])


def describe(path: Path, native: Mapping[str, Handle], said: Mapping[str, Any]) -> dict[str, Any]:
    """diffusers' config of a native denoiser, read off its shapes, with what is `said` beside it.

    Raises:
        InputError: a weight that shapes are read off is missing, or neither its width nor what is said tells its heads.
    """
    needed = [
        f"{name}.weight"
        for name in ("x_embedder.proj", "y_embedder.y_proj.fc1", "final_layer.linear", "blocks.0.mlp.inverted_conv.conv")
    ]
    if missing := [name for name in needed if name not in native or len(native[name].shape) < 2]:
        raise InputError(f"{path}: {KEY} lacks {', '.join(missing)}; expected the weights of NVlabs' SanaMSCM")
    patches, captions, last, inverted = (native[name].shape for name in needed)
    width, patch = patches[0], patches[-1]
    heads = said.get(CROSS_HEAD, CROSS_HEADS.get(width))
    if not isinstance(heads, int) or not 0 < heads <= width:
        raise InputError(
            f"{path}: the heads of its cross-attention are not in the file, and its width {width} is none of "
            f"{', '.join(map(str, CROSS_HEADS))}; say how many in {path.with_suffix('.json').name} beside it, e.g. "
            f'{{"{CROSS_HEAD}": 16}}'
        )
    layers = {name.split(".")[1] for name in native if name.startswith("blocks.")}
    known = transformer_config(width // HEAD_WIDTH, len(layers), heads, width // heads)
    return known | {
        "in_channels": patches[1],
        "out_channels": last[0] // patch**2,
        "patch_size": patch,
        "cross_attention_dim": width,
        "caption_channels": captions[1],
        "mlp_ratio": inverted[0] / 2 / width,
        "guidance_embeds": any(name.startswith("cfg_embedder.") for name in native),
        "qk_norm": "rms_norm_across_heads" if "blocks.0.attn.q_norm.weight" in native else None,
        **said,
    }
