"""What a manifest says of layers and rules: figures that arithmetic can take, names that are known."""

from __future__ import annotations

from sprint_export.export.manifest_faults import demand, demand_range
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.recipe import FLOAT, FLOAT_DTYPES, QuantizedLayer
from sprint_export.quantize.schemes.scheme import load_scheme
from sprint_export.registry import list_members

MOST_RULES = 1 << 16
LARGEST_GROUP = 1 << 20
LARGEST_AMAX = 3.5e38  # float32's
MOST_VALUES = 1 << 40  # of a layer's or a network's weights
LARGEST_SEED = 1 << 63


def check_layers(bundle: Bundle) -> None:
    """Every quantized layer's scheme is known and its ranges are finite; every count is one."""
    known = set(list_members("scheme"))
    for record in bundle.components:
        for name, count in record.precision_counts.items():
            demand_range(f"{record.role}: weights in {name}", count, 0, MOST_VALUES)
        for name, layer in record.layers.items():
            check_layer(f"{record.role}.{name}", layer, known)
        for decision in record.decisions:
            where = f"{record.role}.{decision.layer}"
            demand(decision.precision in known | {FLOAT}, where, repr(decision.precision), "a known scheme, or float")
            demand_range(f"{where}: values", decision.values, 0, MOST_VALUES)


def check_layer(where: str, layer: QuantizedLayer, known: set[str]) -> None:
    """One layer."""
    demand(layer.scheme in known, f"{where}: scheme", repr(layer.scheme), f"one of {', '.join(sorted(known))}")
    scheme = load_scheme(layer.scheme)
    demand(scheme.is_quantized, f"{where}: scheme", repr(layer.scheme), "one that rounds")
    is_measured = scheme.inputs is not None and not scheme.inputs.is_dynamic
    wanted = "the range that its inputs are rounded over" if is_measured else f"null: {layer.scheme} measures no range"
    demand((layer.input_amax is not None) == is_measured, f"{where}: input_amax", layer.input_amax, wanted)
    demand(layer.output_amax is None or is_measured, f"{where}: output_amax", layer.output_amax, "null where inputs are float")
    for what, amax in (("input_amax", layer.input_amax), ("output_amax", layer.output_amax)):
        if amax is not None:
            demand_range(f"{where}: {what}", amax, 0.0, LARGEST_AMAX)
    demand(layer.weight_axis in (0, None), f"{where}: weight_axis", layer.weight_axis, "0, or null for one scale")
    demand_range(f"{where}: group", layer.group, 0, LARGEST_GROUP)
    demand(
        layer.scale_dtype in FLOAT_DTYPES, f"{where}: scale_dtype", repr(layer.scale_dtype), f"one of {', '.join(FLOAT_DTYPES)}"
    )


def check_recipe(bundle: Bundle) -> None:
    """A recipe's figures are in the ranges that recipes have."""
    recipe = bundle.recipe
    if recipe is None:
        return
    demand_range("recipe.rules", len(recipe.rules), 1, MOST_RULES)
    demand(0 <= recipe.smooth < 1, "recipe.smooth", recipe.smooth, "0 up to 1")
    demand_range("recipe.seed", recipe.seed, 0, LARGEST_SEED)
