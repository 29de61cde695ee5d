"""What a manifest says of layers and rules: figures that arithmetic can take, names that are known."""

from __future__ import annotations

import math

from sprint_export.export.manifest_faults import demand, demand_range
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.recipe import FLOAT, FLOAT_DTYPES, Precision, QuantizedLayer
from sprint_export.registry import list_members

MOST_RULES = 1 << 16
MOST_BITS = 32
LARGEST_GROUP = 1 << 20
LARGEST_AMAX = 3.5e38  # float32's
MOST_VALUES = 1 << 40  # of a layer's or a network's weights
LARGEST_SEED = 1 << 63


def check_layers(bundle: Bundle) -> None:
    """Every quantized layer's precision is known and its ranges are finite; every count is one."""
    known = set(list_members("precision"))
    for record in bundle.components:
        for name, count in record.precision_counts.items():
            demand_range(f"{record.role}: weights in {name}", count, 0, MOST_VALUES)
        for name, layer in record.layers.items():
            check_layer(f"{record.role}.{name}", layer, known)
        for decision in record.decisions:
            where = f"{record.role}.{decision.layer}"
            demand(decision.precision in known | {FLOAT}, where, repr(decision.precision), "a known precision, or float")
            demand_range(f"{where}: values", decision.values, 0, MOST_VALUES)


def check_layer(where: str, layer: QuantizedLayer, known: set[str]) -> None:
    """One layer."""
    check_precision(where, layer.precision, known)
    for what, amax in (("input_amax", layer.input_amax), ("output_amax", layer.output_amax)):
        if amax is not None:
            demand_range(f"{where}: {what}", amax, 0.0, LARGEST_AMAX)
    demand(layer.weight_axis in (0, None), f"{where}: weight_axis", layer.weight_axis, "0, or null for one scale")
    demand_range(f"{where}: group", layer.group, 0, LARGEST_GROUP)
    demand(
        layer.scale_dtype in FLOAT_DTYPES, f"{where}: scale_dtype", repr(layer.scale_dtype), f"one of {', '.join(FLOAT_DTYPES)}"
    )


def check_precision(where: str, precision: Precision, known: set[str]) -> None:
    """A known name with bits and a range that a scale can be made for."""
    demand(precision.name in known, f"{where}: precision", repr(precision.name), f"one of {', '.join(sorted(known))}")
    demand_range(f"{where}: bits", precision.bits, 1, MOST_BITS)
    bounds = (precision.qmin, precision.qmax)
    is_range = all(map(math.isfinite, bounds)) and bounds[0] <= 0 < bounds[1]
    demand(is_range, f"{where}: qmin, qmax", list(bounds), "a range around 0")


def check_recipe(bundle: Bundle) -> None:
    """A recipe's figures are in the ranges that recipes have."""
    recipe = bundle.recipe
    if recipe is None:
        return
    demand_range("recipe.rules", len(recipe.rules), 1, MOST_RULES)
    demand(0 <= recipe.smooth < 1, "recipe.smooth", recipe.smooth, "0 up to 1")
    demand_range("recipe.seed", recipe.seed, 0, LARGEST_SEED)
