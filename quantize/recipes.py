"""Recipes by name, and what a recipe says once it meets a student, a precision and a target.

Presets are files (students/<family>/recipes/): they name layers of a family. Of `<target>-<precision>-<name>.toml`,
`<precision>-<name>.toml` and `<name>.toml` the first that is there is taken, so one file serves every precision until one
needs its own. A preset serves every student of its family: its rules about layers that this one has not are left out. In a
user's own file such a rule is an error (quantize/patterns.py), it may be a misspelling. A rule's precision is a scheme, or what
the target calls one; it ends as a scheme.

    {precision}     the precision asked for
    {convolution}   what the target's convolutions are fastest in, where that is another (nouns.target.Offer.convolutions)
    {gentler}       its nearest more exact: weights of the most bits beside float activations, where that is a precision of the
                    target (or a rule's, beside a precision of weights alone); else float
    {first} {last}  the smallest and the largest number that the layers' names have at this place
"""

from __future__ import annotations

import dataclasses
import math
from fnmatch import fnmatchcase

from sprint_export.nouns.recipe import Recipe, Rule
from sprint_export.nouns.student import Student
from sprint_export.nouns.target import Target
from sprint_export.quantize.measure.walk import LARGE_LATENTS
from sprint_export.quantize.patterns import FLOAT, list_layers, place_pattern
from sprint_export.quantize.preset_files import find_preset
from sprint_export.quantize.schemes.scheme import load_scheme
from sprint_export.recipe_toml import ASKED, CONVOLUTION, GENTLER, read_recipe

DEFAULT = "balanced"
CALIBRATION_PROMPTS = 32
LARGE_PROMPTS = 8  # where pictures are large: each has a million rows, and takes a minute on a CPU


def read_preset(name: str, precision: str, student: Student, target: Target) -> Recipe:
    """A preset as it reads for this student, with the student's own prompts to calibrate on.

    Raises:
        InputError: there is none of that name.
    """
    recipe = read_recipe(find_preset(student.family, name, precision, target.name))
    prompts = recipe.prompts or choose_prompts(student)
    fitted = fit_recipe(dataclasses.replace(recipe, name=f"{precision}-{name}", prompts=prompts), precision, student, target)
    layers = [layer for layer, _ in list_layers(student)]
    used = {next(rule for rule in fitted.rules if fnmatchcase(layer, rule.pattern)) for layer in layers}
    return dataclasses.replace(fitted, rules=tuple(rule for rule in fitted.rules if rule in used or rule.pattern == "*"))


def choose_prompts(student: Student) -> tuple[str, ...]:
    """The student's own prompts to calibrate on at most, fewer where pictures are large."""
    count = CALIBRATION_PROMPTS if math.prod(student.latent_shape) <= LARGE_LATENTS else LARGE_PROMPTS
    return student.calibration_prompts[:count]


def default_recipe(precision: str, student: Student, target: Target) -> Recipe:
    """The preset that is taken where none is named."""
    return read_preset(DEFAULT, precision, student, target)


def fit_recipe(recipe: Recipe, precision: str, student: Student, target: Target) -> Recipe:
    """The recipe with {precision}, {convolution}, {gentler}, {first} and {last} filled in, its precisions as schemes.

    Args:
        recipe: as read.
        precision: the target's that was asked for.
        student: its layers' names hold the numbers.
        target: says what precisions mean, what is gentler and what convolutions are fastest in.

    Raises:
        InputError: a rule's precision is one that the target's format or kernels do not have.
    """
    offer = target.offers[precision]
    words = {
        FLOAT: FLOAT,
        ASKED: offer.scheme,
        CONVOLUTION: offer.convolutions or offer.scheme,
        GENTLER: find_gentler(precision, target),
    }
    layers = [layer for layer, _ in list_layers(student)]

    def fit(rule: Rule) -> Rule:
        where = f" in rule {rule.pattern!r} of recipe {recipe.name!r}"
        scheme = words.get(rule.precision) or target.find_offer(rule.precision, where).scheme
        return dataclasses.replace(rule, pattern=place_pattern(rule.pattern, layers), precision=scheme)

    return dataclasses.replace(recipe, rules=tuple(map(fit, recipe.rules)))


def list_weight_schemes(target: Target, is_named: bool = True) -> tuple[str, ...]:
    """Schemes that leave inputs in float, fewest bits first.

    `is_named`: of the target's own precisions, if they serve its convolutions too; else also what it has for rules alone.
    """
    quantized = (offer for offer in target.offers.values() if offer.is_quantized)
    offers = (offer for offer in quantized if not is_named or (offer.graph is not None and offer.convolutions is None))
    schemes = [load_scheme(name) for name in dict.fromkeys(offer.scheme for offer in offers)]
    alone = sorted((scheme for scheme in schemes if scheme.inputs is None), key=lambda scheme: scheme.weights.bits)
    return tuple(scheme.name for scheme in alone)


def find_gentler(precision: str, target: Target) -> str:
    """What a layer gets that the precision would hurt: weights of most bits beside float activations, or float.

    Weights alone in 8 bits keep 60 dB where W8A8 has 48 and four-bit palettes 42 (benchmarks/results). Beside a precision that
    leaves inputs in float too, it may be what the target has for rules alone.
    """
    asked = load_scheme(target.offers[precision].scheme)
    names = list_weight_schemes(target, is_named=asked.inputs is not None)
    gentle = max(names, key=lambda name: load_scheme(name).weights.bits, default=asked.name)
    return FLOAT if gentle == asked.name or load_scheme(gentle).weights.bits < asked.weights.bits else gentle
