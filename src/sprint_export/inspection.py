"""What `list` and `inspect` say: names with their meaning, a bundle in lines, its recipe layer by layer; no torch for these."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sprint_export.amounts import show_bytes
from sprint_export.devices import find_device
from sprint_export.errors import InputError, unknown_choice
from sprint_export.json_forms import to_json
from sprint_export.nouns.bundle import Bundle, ComponentRecord
from sprint_export.nouns.recipe import FLOAT, Recipe
from sprint_export.nouns.target import Device
from sprint_export.registry import list_members, load_target

if TYPE_CHECKING:
    from rich.table import Table


def list_names(what: str | None) -> dict[str, str]:
    """Names of a kind -> what they are.

    Raises:
        InputError: there is no such list, or none was asked for.
    """
    lists: Mapping[str, Callable[[], dict[str, str]]] = {
        "students": _list_students,
        "targets": _list_targets,
        "precisions": _list_precisions,
        "devices": _list_devices,
        "recipes": _list_recipes,
        "providers": _list_providers,
    }
    if what is None:
        raise InputError(f"what to list is missing; choose from: {', '.join(sorted(lists))}")
    if what not in lists:
        raise unknown_choice("list", what, lists)
    return lists[what]()


def _list_students() -> dict[str, str]:
    from sprint_export.students import list_students

    return list_students()


def _list_targets() -> dict[str, str]:
    from sprint_export.run_checks import list_targets

    return list_targets()


def _list_precisions() -> dict[str, str]:
    """Schemes, and what targets call them by names of their own."""
    from sprint_export.quantize.schemes.scheme import list_schemes

    aliases: dict[str, dict[str, list[str]]] = {}
    for target in (load_target(name) for name in list_members("target")):
        for alias, offer in target.offers.items():
            if alias != offer.scheme:
                aliases.setdefault(alias, {}).setdefault(offer.scheme, []).append(target.name)
    means = {
        alias: "; ".join(f"{scheme} on {', '.join(targets)}" for scheme, targets in schemes.items())
        for alias, schemes in aliases.items()
    }
    found = {name: scheme.meaning for name, scheme in list_schemes().items()}
    for alias, meaning in means.items():
        found[alias] = f"{found[alias]}; {meaning}" if alias in found else meaning  # fp8 is a scheme, and another on one target
    return dict(sorted(found.items()))


def _list_devices() -> dict[str, str]:
    from sprint_export.devices import list_devices

    return {device.name: f"{device.title}{_describe_figures(device)}" for device in list_devices()}


def _describe_figures(device: Device) -> str:
    """`; 16 GB, 120 GB/s; gpu: int8 67 T/s`: what prices are made of; nothing where no number is known."""
    sizes = [f"{device.memory_gb:g} GB"] if device.memory_gb is not None else []
    sizes += [f"{device.gigabytes_per_s:g} GB/s"] if device.gigabytes_per_s else []
    peaks = [
        f"{unit}: {', '.join(f'{kind} {value:g} T/s' for kind, value in sorted(kinds.items()))}"
        for unit, kinds in device.units.items()
    ]
    text = "; ".join([*([", ".join(sizes)] if sizes else []), *peaks])
    return f"; {text}" if text else ""


def _list_recipes() -> dict[str, str]:
    from sprint_export.quantize.preset_files import list_presets
    from sprint_export.recipe_toml import AUTO

    presets: dict[str, str] = {}
    for family in list_members("student"):
        for name, meaning in list_presets(family).items():
            presets[name if presets.get(name, meaning) == meaning else f"{name} ({family})"] = meaning
    return {AUTO: "searched: the cheapest mix whose measured pictures meet --gate 'psnr_db>=...'"} | presets


def _list_providers() -> dict[str, str]:
    """What runtimes can run graphs on, and what brings it."""
    from sprint_export.runtimes.runtime import load_runtime

    runtimes = [load_runtime(name) for name in list_members("runtime")]
    return {
        name: f"{meaning} (runtime {runtime.name})" for runtime in runtimes for name, meaning in runtime.list_providers().items()
    }


def describe_bundle(bundle: Bundle, layers: bool = False) -> Iterator[str]:
    """A line about the whole, then each network's files, interface and notes; with `layers`, every quantized layer.

    A line is a line: a licence or a note that goes on in another one could say what looks like ours.
    """
    for line in _describe_whole(bundle, layers):
        yield line.replace("\n", r"\n")


def _describe_whole(bundle: Bundle, layers: bool) -> Iterator[str]:
    steps = " or ".join(map(str, bundle.plan.counts or (bundle.plan.steps,)))
    yield (
        f"{bundle.source} ({bundle.family}) as {bundle.target}-{bundle.precision} for {bundle.device}; "
        f"{steps} step(s), guidance {bundle.plan.guidance:g}; licence: {bundle.licence}"
    )
    yield f"opens with {', '.join(_describe_runtimes(bundle))}"
    yield from _describe_providers(bundle)
    if taken := ", ".join(_list_taken(bundle)):
        yield f"takes beside prompts: {taken}"
    for record in bundle.components:
        size = sum(a.bytes for a in bundle.artifacts if a.role == record.role and a.kind in ("graph", "weights"))
        counts = ", ".join(f"{name} {count:,}" for name, count in record.precision_counts.items())
        yield f"{record.role}: {show_bytes(size)}; values stored as {counts}"
        yield from (f"    {s.name}: {s.dtype} {list(s.shape)}  {s.meaning}" for s in (*record.inputs, *record.outputs))
        yield from (f"    note: {note}" for note in record.notes)
        if layers:
            yield from _describe_layers(record)


def _list_taken(bundle: Bundle) -> Iterator[str]:
    """What may be given beside prompts: a control picture, a picture to start from, other inputs by name."""
    names, networks = bundle.chain.names, {record.role: record for record in bundle.components}
    given = bundle.chain.list_given(networks)
    if names.scale in given:
        yield "a control picture and its scale (run --control, --control-scale)"
    if bundle.chain.find_writer(names.encoded, networks) is not None:
        yield "a picture to start from (run --image, --strength)"
    yield from (f"{name} {list(spec.shape)} (inputs=)" for name, spec in given.items() if name not in (names.source, names.scale))


def _describe_runtimes(bundle: Bundle) -> Iterator[str]:
    """`onnxruntime 1.21.0 or newer`; an engine opens in one version of its builder, on one generation of GPUs."""
    builders = {a.format for a in bundle.artifacts if a.kind == "engine"}
    for name, version in bundle.runtimes.items():
        if name not in builders:
            yield f"{name} {version} or newer" + (" (shadows, on a CPU)" if builders else "")
            continue
        devices = {a.device for a in bundle.artifacts if a.kind == "engine" and a.format == name and a.device is not None}
        found = sorted({find_device(device).compute_capability or (0, 0) for device in devices})
        yield f"{name} {version} exactly (engines, compute capability {', '.join(f'{a}.{b}' for a, b in found)})"


def _describe_providers(bundle: Bundle) -> Iterator[str]:
    """What its runtimes may run it on, where there is a choice, and why not on the others."""
    from sprint_export.runtimes.runtime import load_runtime

    target = load_target(bundle.target)
    providers = {name for runtime in target.runtimes for name in load_runtime(runtime).list_providers()}
    reasons = {name: target.refuse_provider(bundle.precision, name) for name in sorted(providers)}
    refused = [name for name, reason in reasons.items() if reason is not None]
    if refused:
        fit = ", ".join(name for name in reasons if name not in refused)
        yield f"providers: {fit}; not {', '.join(refused)}: {reasons[refused[0]]}"


def _describe_layers(record: ComponentRecord) -> Iterator[str]:
    for name, layer in record.layers.items():
        grain = "per tensor" if layer.weight_axis is None else "per output channel"
        seen = "weight only" if layer.input_amax is None else f"input amax {layer.input_amax:.4g}"
        yield f"    {name}: {layer.scheme}, {seen}, weights {grain}"


def require_recipe(bundle: Bundle) -> Recipe:
    """The recipe a bundle was quantized with.

    Raises:
        InputError: nothing in it is quantized.
    """
    if bundle.recipe is None:
        raise InputError(
            f"{bundle.folder} was made without quantization ({bundle.target}-{bundle.precision}), so it has no recipe; "
            "take a target that quantizes (see: sprint-export list targets)"
        )
    return bundle.recipe


def describe_recipe(bundle: Bundle) -> dict[str, Any]:
    """The recipe, and every layer with its network, precision, rule and reason, as JSON values.

    Raises:
        InputError: nothing in the bundle is quantized.
    """
    layers = [to_json(d) | {"component": record.role} for record in bundle.components for d in record.decisions]
    return {"recipe": to_json(require_recipe(bundle)), "layers": layers}


def tabulate_recipe(bundle: Bundle) -> Iterator[Table]:
    """A table a network: layer, precision, the rule that decided and why; what a fact about the layer forbade is in brackets.

    Raises:
        InputError: nothing in the bundle is quantized.
    """
    from rich.table import Table
    from rich.text import Text

    recipe = require_recipe(bundle)
    for record in bundle.components:
        values = Counter[str]()
        for decision in record.decisions:
            values[decision.precision] += decision.values
        shares = ", ".join(f"{name} {count / values.total():.1%}" for name, count in values.most_common())
        title = f"{record.role}, recipe {recipe.name}: {shares} of the values in its {len(record.decisions)} layers"
        table = Table(title=Text(title), title_justify="left")
        for name in ("layer", "precision", "rule", "reason"):
            table.add_column(name, overflow="fold")
        for d in record.decisions:
            style = "dim" if d.precision == FLOAT else None
            rule = f"({d.rule})" if d.is_refused else d.rule
            table.add_row(*map(Text, (d.layer.partition(".")[2], d.precision, rule, d.reason)), style=style)
        yield table
