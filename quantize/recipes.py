"""Recipes: the default of each precision with its reasons, and a user's own as a TOML file.

name = "mine"
seed = 1
prompts = ["a red circle", ...]          # optional; default: the student's own
observer = "max"                         # optional, as smooth and correct_bias: schema.Recipe says what they do
[[rules]]                                # first match wins; the last pattern must be "*"
pattern = "transformer.*.attn2.to_k"
precision = "float"
reason = "text outliers"
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Container
from pathlib import Path

from sprint_export.errors import InputError, unknown_choice
from sprint_export.json_forms import from_json
from sprint_export.quantize.patterns import FLOAT
from sprint_export.registry import list_members, load_member
from sprint_export.schema import Recipe, Rule, Student

CALIBRATION_PROMPTS = 32
# 3x3 convolutions at full resolution are bound by arithmetic: docs/decisions/0010-rtx-decoder.md
DECODER_IN_INT8 = Rule("vae_decoder.*", "int8", "dense convolutions: INT8 multiplies at twice FP8's rate")
LARGE_LATENTS, LARGE_PROMPTS = 16, 8  # above 16 x 16 latents a picture takes a minute or more on a CPU; a maximum settles early


def default_recipe(precision: str, student: Student, weight_only: Container[str] = ()) -> Recipe:
    """Quantize every Linear and dense Conv2d but the doors; `weight_only` names the precisions that leave activations alone.

    Where pictures and texts enter and leave, the values are few and their errors are not averaged over anything.
    """
    mixed = precision == "fp8" and precision not in weight_only
    rules: tuple[Rule, ...] = (
        Rule("transformer.patch_embed.*", FLOAT, "entry layer: 32 channels in, sees the noise itself"),
        Rule("transformer.caption_projection.*", FLOAT, "text outliers (BOS) enter here and reach every block"),
        Rule("transformer.proj_out", FLOAT, "exit layer: its error is the picture's error"),
        Rule("vae_decoder.decoder.conv_in", FLOAT, "entry layer of the decoder"),
        Rule("vae_decoder.decoder.conv_out*", FLOAT, "exit layer: writes the pixels"),
        *((DECODER_IN_INT8,) if mixed else ()),
        Rule("*", precision, "all other Linear and dense Conv2d layers"),
    )
    count = CALIBRATION_PROMPTS if student.latent_shape[1] <= LARGE_LATENTS else LARGE_PROMPTS
    rules = tuple(rule for rule in rules if rule.pattern.partition(".")[0] in (*student.components, "*"))
    return Recipe(f"{precision}-default", rules, student.calibration_prompts[:count], seed=1)


def read_recipe(path: Path) -> Recipe:
    """A recipe from a TOML file.

    Raises:
        InputError: the file is not TOML, a key is missing, unknown or of another type, or a precision does not exist.
    """
    try:
        value = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"--recipe {path}: cannot be read as TOML ({error})") from error
    try:
        rules = [{"reason": ""} | rule for rule in value.pop("rules")]
        defaults = {"name": path.stem, "prompts": [], "seed": 1, "observer": "max", "smooth": 0.0, "correct_bias": False}
        plain = {key: value.pop(key, default) for key, default in defaults.items()}
        recipe = from_json(Recipe, plain | {"rules": rules})
    except (KeyError, TypeError) as error:
        raise InputError(
            f"--recipe {path}: expected name, seed, prompts (a list), observer, smooth, correct_bias and [[rules]] with pattern, "
            f"precision, reason ({error})"
        ) from error
    if value:
        raise unknown_choice(f"key in recipe {path}:", next(iter(value)), (*defaults, "rules"))
    choices = [FLOAT, *(p for p in list_members("precision") if load_member("precision", p).PRECISION.is_quantized)]
    for rule in recipe.rules:
        if rule.precision not in choices:
            raise unknown_choice(f"precision in rule {rule.pattern!r} of {path}:", rule.precision, choices)
    return recipe


def write_recipe(recipe: Recipe) -> str:
    """A recipe as TOML, which `read_recipe` turns back into the same recipe."""
    lines = [f"name = {_quote(recipe.name)}", f"seed = {recipe.seed}", f"observer = {_quote(recipe.observer)}"]
    lines += [f"smooth = {recipe.smooth!r}", f"correct_bias = {str(recipe.correct_bias).lower()}", "prompts = ["]
    lines += [f"    {_quote(prompt)}," for prompt in recipe.prompts] + ["]"]
    for rule in recipe.rules:
        lines += ["", "[[rules]]"]
        lines += [f"{key} = {_quote(getattr(rule, key))}" for key in ("pattern", "precision", "reason")]
    return "\n".join(lines) + "\n"


def _quote(text: str) -> str:
    """A TOML string: JSON's escapes are among TOML's, which also wants the delete character escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
