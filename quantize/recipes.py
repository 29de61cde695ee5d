"""Recipes by name, and what a recipe says once it meets a student, a precision and a target.

Presets are files (students/<family>/recipes/): they name layers of a family. Of `<target>-<precision>-<name>.toml`,
`<precision>-<name>.toml` and `<name>.toml` the first that is there is taken, so one file serves every precision until one
needs its own. A preset serves every student of its family: its rules about layers that this one has not are left out. In a
user's own file such a rule is an error (quantize/patterns.py), it may be a misspelling.

    {precision}     the precision asked for
    {convolution}   what the target's convolutions are fastest in, where that is another (nouns.target.Target.convolutions)
    {gentler}       its nearest more exact: int8 weights with float activations where the target stores weights alone, else float
    {first} {last}  the smallest and the largest number that the layers' names have at this place
"""

from __future__ import annotations

import dataclasses
import math
from fnmatch import fnmatchcase

from sprint_export.nouns.recipe import Recipe
from sprint_export.nouns.student import Student
from sprint_export.nouns.target import Target
from sprint_export.quantize.patterns import FLOAT, list_layers, place_pattern
from sprint_export.quantize.preset_files import find_preset
from sprint_export.recipe_toml import ASKED, CONVOLUTION, GENTLER, read_recipe

DEFAULT = "balanced"
GENTLE = "int8"  # as weights alone: 60 dB where W8A8 has 48 and four-bit palettes 42 (benchmarks/results)
CALIBRATION_PROMPTS = 32
LARGE_LATENTS, LARGE_PROMPTS = 1 << 13, 8  # values; above that a picture takes a minute or more on a CPU; a maximum settles early


def read_preset(name: str, precision: str, student: Student, target: Target | None = None) -> Recipe:
    """A preset as it reads for this student, with the student's own prompts to calibrate on.

    Raises:
        InputError: there is none of that name.
    """
    recipe = read_recipe(find_preset(student.family, name, precision, target.name if target else ""))
    prompts = recipe.prompts or choose_prompts(student)
    fitted = fit_recipe(dataclasses.replace(recipe, name=f"{precision}-{name}", prompts=prompts), precision, student, target)
    layers = [layer for layer, _ in list_layers(student)]
    used = {next(rule for rule in fitted.rules if fnmatchcase(layer, rule.pattern)) for layer in layers}
    return dataclasses.replace(fitted, rules=tuple(rule for rule in fitted.rules if rule in used or rule.pattern == "*"))


def choose_prompts(student: Student) -> tuple[str, ...]:
    """The student's own prompts to calibrate on, fewer where pictures are large."""
    count = CALIBRATION_PROMPTS if math.prod(student.latent_shape) <= LARGE_LATENTS else LARGE_PROMPTS
    return student.calibration_prompts[:count]


def default_recipe(precision: str, student: Student, target: Target | None = None) -> Recipe:
    """The preset that is taken where none is named."""
    return read_preset(DEFAULT, precision, student, target)


def fit_recipe(recipe: Recipe, precision: str, student: Student, target: Target | None = None) -> Recipe:
    """The recipe with {precision}, {convolution}, {gentler}, {first} and {last} filled in.

    Args:
        recipe: as read.
        precision: the one asked for.
        student: its layers' names hold the numbers.
        target: says what is gentler (without one that is float) and what convolutions are fastest in.
    """
    convolution = target.convolutions.get(precision, precision) if target else precision
    words = {ASKED: precision, CONVOLUTION: convolution, GENTLER: find_gentler(precision, target)}
    layers = [layer for layer, _ in list_layers(student)]
    rules = tuple(
        dataclasses.replace(
            rule, pattern=place_pattern(rule.pattern, layers), precision=words.get(rule.precision, rule.precision)
        )
        for rule in recipe.rules
    )
    return dataclasses.replace(recipe, rules=rules)


def find_gentler(precision: str, target: Target | None) -> str:
    """What a layer gets that the precision would hurt: 8-bit weights beside float activations, or float."""
    return GENTLE if target is not None and precision != GENTLE and GENTLE in target.weight_only else FLOAT
