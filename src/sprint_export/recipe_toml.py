"""A recipe as a TOML file: the presets that ship, a user's own, and what `inspect --recipe --toml` prints for editing.

name = "mine"
meaning = "one line for people"          # optional, as all but the rules
seed = 1
prompts = ["a red circle", ...]          # default: the student's own
observer = "max"                         # and smooth, correct_bias, gptq, is_whole: nouns.recipe.Recipe says what they do
[[rules]]                                # first match wins; the last pattern must be "*"
pattern = "transformer.*.attn2.to_k"     # shell wildcards; {first} and {last} stand for the smallest and largest number there
precision = "float"                      # or a scheme, or what the target calls one; quantize/recipes.py fills in {precision},
                                         # {convolution} and {gentler}
reason = "text outliers"

Standard library only: a bundle's recipe is printed without torch.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from sprint_export.errors import InputError, unknown_choice
from sprint_export.json_forms import from_json
from sprint_export.nouns.recipe import Recipe
from sprint_export.paths import read_user_text

AUTO = "auto"  # the name that is no file: the recipe is searched (quantize/search/objectives.py)
ASKED, CONVOLUTION, GENTLER = "{precision}", "{convolution}", "{gentler}"  # in place of a rule's precision
_DEFAULTS = {
    "name": "",
    "meaning": "",
    "prompts": [],
    "seed": 1,
    "observer": "max",
    "smooth": 0.0,
    "correct_bias": False,
    "gptq": False,
    "is_whole": False,
}


def read_recipe(path: Path) -> Recipe:
    """A recipe from a TOML file.

    Raises:
        InputError: the file is not TOML, or a key is missing, unknown or of another type.
    """
    try:
        value = tomllib.loads(read_user_text("--recipe", path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"--recipe {path}: cannot be read as TOML ({error})") from error
    try:
        rules = [{"reason": ""} | rule for rule in value.pop("rules")]
        plain = {key: value.pop(key, default) for key, default in (_DEFAULTS | {"name": path.stem}).items()}
        recipe = from_json(Recipe, plain | {"rules": rules})
    except (KeyError, TypeError) as error:
        raise InputError(
            f"--recipe {path}: expected name, meaning, seed, prompts (a list), observer, smooth, correct_bias, gptq, is_whole "
            f"and [[rules]] with pattern, precision, reason ({error})"
        ) from error
    if value:
        raise unknown_choice(f"key in recipe {path}:", next(iter(value)), (*_DEFAULTS, "rules"))
    return recipe


def write_recipe(recipe: Recipe) -> str:
    """A recipe as TOML, which `read_recipe` turns back into the same recipe."""
    lines = [f"name = {_quote(recipe.name)}", f"meaning = {_quote(recipe.meaning)}", f"seed = {recipe.seed}"]
    lines += [f"observer = {_quote(recipe.observer)}", f"smooth = {recipe.smooth!r}"]
    lines += [f"correct_bias = {str(recipe.correct_bias).lower()}", f"gptq = {str(recipe.gptq).lower()}"]
    lines += [f"is_whole = {str(recipe.is_whole).lower()}", "prompts = ["]
    lines += [f"    {_quote(prompt)}," for prompt in recipe.prompts] + ["]"]
    for rule in recipe.rules:
        lines += ["", "[[rules]]"]
        lines += [f"{key} = {_quote(getattr(rule, key))}" for key in ("pattern", "precision", "reason")]
    return "\n".join(lines) + "\n"


def _quote(text: str) -> str:
    """A TOML string: JSON's escapes are among TOML's, which also wants the delete character escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
