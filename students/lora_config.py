"""What a LoRA's config says of its scale: PEFT's adapter_config.json, or the same in the metadata that diffusers writes.

    factor = scale * alpha / rank            rsLoRA (use_rslora): scale * alpha / sqrt(rank)

alpha is that of the layer's own tensor, else of alpha_pattern, else lora_alpha, else the rank. A pattern is a regular expression
for the end of a layer's name; the first that fits counts. Ranks are those of the factors; where a config says others (r,
rank_pattern) it belongs to another file. Keys under which PEFT computes something else are refused by name.
Sources: PEFT's LoraConfig and get_pattern_key.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sprint_export.errors import InputError
from sprint_export.students.folder import parse_text, read_json
from sprint_export.weights import read_metadata

DIFFUSERS_METADATA = "lora_adapter_metadata"
CHANGED = {  # keys under which PEFT computes something else -> what
    "alora_invocation_tokens": "an activated LoRA, which holds for a part of the tokens alone",
    "arrow_config": "a mixture of LoRAs",
    "fan_in_fan_out": "weights that are transposed",
    "kasa_config": "factors with a diagonal between them, over weights that are cut",
    "layer_replication": "layers that are repeated",
    "lora_bias": "factors with a bias",
    "target_parameters": "changes of parameters that are no layer's weight",
    "trainable_token_indices": "tokens of its own",
    "use_bdlora": "block-diagonal factors",
    "use_qalora": "factors over groups of inputs",
}
KEPT = (None, True, False, "gaussian", "eva", "orthogonal", "mica")  # init_lora_weights that leave the weights below as they are
MOST_PATTERNS, LONGEST_PATTERN, MOST_REPEATS, MOST_GROUPS = 5000, 500, 2, 2  # beyond, fitting one could take for ever
Patterns = tuple[tuple[re.Pattern[str], float], ...]


@dataclass(frozen=True)
class Settings:
    """What a LoRA's config says of one network's layers; empty where there is none."""

    alpha: float | None = None
    alphas: Patterns = ()
    rank: float | None = None
    ranks: Patterns = ()
    is_rank_stabilized: bool = False
    has_magnitudes: bool | None = None  # None: it does not say

    def scale(self, layer: str, rank: int, own_alpha: float | None) -> float:
        """What B A of a layer is multiplied with, before the user's scale."""
        alpha = self.alpha if (found := _match(self.alphas, layer)) is None else found
        alpha = alpha if own_alpha is None else own_alpha
        return 1.0 if alpha is None else alpha / (math.sqrt(rank) if self.is_rank_stabilized else rank)

    def find_rank(self, layer: str) -> float | None:
        """That which it says a layer has."""
        return self.rank if (found := _match(self.ranks, layer)) is None else found


def _match(patterns: Patterns, layer: str) -> float | None:
    """The value of the first pattern that fits the end of a layer's name."""
    return next((value for pattern, value in patterns if pattern.fullmatch(layer)), None)


def read_settings(path: Path, config: Path | None) -> Mapping[str, Settings]:
    """Settings by the role that a config names before its keys, "" where it names none.

    Args:
        path: the LoRA's file, or the first of its shards.
        config: PEFT's beside it, if there is one; else the file's metadata count.

    Raises:
        InputError: it is damaged, of another method than LoRA, or holds a value that is not covered.
    """
    if config is not None:
        return {"": _check_settings(config, read_json(config, config.parent))}
    try:
        packed = parse_text(read_metadata(path).get(DIFFUSERS_METADATA, "{}"))
        by_role: dict[str, dict[str, Any]] = {}
        for key, value in packed.items():
            role, _, name = str(key).rpartition(".")
            by_role.setdefault(role, {})[name] = value
    except (ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: its metadata {DIFFUSERS_METADATA} is damaged ({error}); save the LoRA again") from error
    return {role: _check_settings(path, config) for role, config in by_role.items()}


def _check_settings(where: Path, config: Mapping[str, Any]) -> Settings:
    if config.get("peft_type", "LORA") != "LORA":
        raise InputError(
            f"{where}: an adapter of the kind {config['peft_type']}, expected LORA (use_rslora and use_dora too); merge "
            "it with the tool that made it"
        )
    for key, said in CHANGED.items():
        if config.get(key):
            raise InputError(f"{where}: {key}={config[key]!r}: {said}; expected none, or merge it with the tool that made it")
    if config.get("init_lora_weights") not in KEPT:
        raise InputError(
            f"{where}: init_lora_weights={config['init_lora_weights']!r} changes the weights below too; expected one of "
            f"{', '.join(map(str, KEPT))}: save it as a plain LoRA (PEFT's path_initial_model_for_weight_conversion)"
        )
    alphas, ranks = (_read_patterns(where, key, config.get(key) or {}) for key in ("alpha_pattern", "rank_pattern"))
    alpha, rank = (None if config.get(key) is None else _check_number(where, key, config[key]) for key in ("lora_alpha", "r"))
    for key in ("use_rslora", "use_dora"):
        if not isinstance(config.get(key, False), bool | None):
            raise InputError(f"{where}: {key}={config[key]!r}: expected true or false")
    return Settings(alpha, alphas, rank, ranks, bool(config.get("use_rslora")), config.get("use_dora"))


def _check_number(where: Path, key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{where}: {key}={value!r}: expected a finite number")
    return value


def _read_patterns(where: Path, key: str, patterns: object) -> Patterns:
    if not isinstance(patterns, dict) or len(patterns) > MOST_PATTERNS:
        raise InputError(f"{where}: {key}: expected at most {MOST_PATTERNS:,} numbers by pattern of layers' names")
    return tuple(
        (_compile(where, key, pattern), _check_number(where, f"{key}[{pattern!r}]", value)) for pattern, value in patterns.items()
    )


def _compile(where: Path, key: str, pattern: str) -> re.Pattern[str]:
    repeats = sum(map(pattern.count, "*+?{"))
    if (
        len(pattern) > LONGEST_PATTERN
        or repeats > MOST_REPEATS
        or pattern.count("(") > MOST_GROUPS
        or re.search(r"\)[*+?{]|\\\d", pattern)
    ):
        raise InputError(
            f"{where}: {key} {pattern[:LONGEST_PATTERN]!r}: expected the end of a layer's name, or a regular expression with at "
            f"most {MOST_REPEATS} repetitions and {MOST_GROUPS} groups, no group repeated"
        )
    try:
        return re.compile(rf"(.*\.)?({pattern})")
    except (re.error, OverflowError, RecursionError) as error:
        raise InputError(f"{where}: {key} {pattern!r} is no regular expression ({error})") from error
