"""What a manifest says of tensors: that networks fit each other and the prompt, and that parts make a chain."""

from __future__ import annotations

import math
from collections.abc import Mapping

from sprint_export.errors import BundleError
from sprint_export.export.manifest_faults import ManifestError, demand, demand_range
from sprint_export.export.safe_files import find_path_fault
from sprint_export.nouns.bundle import Bundle, ComponentRecord
from sprint_export.nouns.student import TensorSpec
from sprint_export.nouns.target import DYNAMIC
from sprint_export.sizes import SIDES, find_sizes, read_axis

MOST_PARTS = 512
MOST_TENSORS = 64  # of one side of a graph
MOST_AXES = 8
MOST_VALUES = 1 << 32  # of a tensor between parts
MOST_LATENTS = 1 << 26  # values of one picture's latents; 1024 px have 2^15
MOST_PIXELS = 1 << 28
INTEGERS = ("int32", "int64")
FLOATS = ("float32", "float16", "bfloat16")
DTYPES = (*FLOATS, *INTEGERS, "int8", "uint8", "bool")

Specs = Mapping[str, TensorSpec]


def check_interfaces(bundle: Bundle) -> None:
    """Inputs and outputs have the names, types and shapes that the chain from ids to pictures hands on."""
    records = {record.role: record for record in bundle.components}
    for record in records.values():
        for side in (record.inputs, record.outputs):
            check_specs(record.role, side)
    for role, check in (
        ("text_encoder", check_text_encoder),
        ("transformer", check_transformer),
        ("vae_decoder", check_decoder),
    ):
        if role in records:
            check(bundle, records[role])
    if {"text_encoder", "transformer"} <= set(records):
        made, taken = _named(records["text_encoder"].outputs), _named(records["transformer"].inputs)
        demand_spec("transformer", taken["prompt_embeds"], (made["prompt_embeds"].dtype,), made["prompt_embeds"].shape)
    if {"transformer", "vae_decoder"} <= set(records):
        made, taken = _named(records["transformer"].outputs), _named(records["vae_decoder"].inputs)
        demand_spec("vae_decoder", taken["latents"], (made["denoised"].dtype,), made["denoised"].shape)
        try:
            sizes = find_sizes(bundle)
        except BundleError as error:
            raise ManifestError(str(error)) from error
        demand_range("pixels of a picture", sizes.own[0] * sizes.own[1] * sizes.pixels**2, 1, MOST_PIXELS)


def check_specs(where: str, specs: tuple[TensorSpec, ...]) -> None:
    """Names once, types known, shapes positive and bounded."""
    names = [spec.name for spec in specs]
    demand(0 < len(names) <= MOST_TENSORS, f"{where}: tensors", len(names), f"1 to {MOST_TENSORS}")
    demand(len(set(names)) == len(names) and all(names), f"{where}: tensors", names, "names, each once")
    for spec in specs:
        what = f"{where}: {spec.name}"
        demand(spec.dtype in DTYPES, what, repr(spec.dtype), f"one of {', '.join(DTYPES)}")
        demand(len(spec.shape) <= MOST_AXES, what, f"{len(spec.shape)} axes", f"at most {MOST_AXES}")
        sizes = [size if isinstance(size, int) else _read_size(what, size) for size in spec.shape]
        for size in sizes:
            demand_range(f"{what}: a size", size, 1, MOST_VALUES)
        demand_range(f"{what}: values", math.prod(sizes), 1, MOST_VALUES)


def _read_size(what: str, size: str) -> int:
    """What an axis of free size is a multiple of."""
    try:
        multiple, name = read_axis(size)
    except ValueError as error:
        raise ManifestError(f"{what}: {error}") from error
    demand(name in SIDES, f"{what}: a free axis", repr(size), f"a multiple of {' or '.join(SIDES)}")
    return multiple


def check_text_encoder(bundle: Bundle, record: ComponentRecord) -> None:
    """Ids in, as many as the prompt has after a held prefix; rows out, as many as are kept."""
    prompt, ids, embeds = bundle.prompt, _take(record, "inputs", "input_ids"), _take(record, "outputs", "prompt_embeds")
    demand_spec(record.role, ids["input_ids"], INTEGERS, (1, prompt.tokens - len(prompt.prefix_ids)))
    found = embeds["prompt_embeds"]
    demand_spec(record.role, found, FLOATS, (1, prompt.keep, *found.shape[2:3]))
    demand(len(found.shape) == 3, f"{record.role}: prompt_embeds", list(found.shape), "three axes")


def check_transformer(bundle: Bundle, record: ComponentRecord) -> None:
    """Latents, rows of the prompt, their mask and, where there are several times, which of them; latents out."""
    step = ("step",) if len(bundle.plan.times) > 1 else ()
    given = _take(record, "inputs", "latents", "prompt_embeds", "prompt_mask", *step)
    demand_latents(bundle, record, given["latents"])
    demand_spec(record.role, given["prompt_mask"], INTEGERS, (1, bundle.prompt.keep))
    embeds = given["prompt_embeds"]
    demand(len(embeds.shape) == 3, f"{record.role}: prompt_embeds", list(embeds.shape), "three axes")
    demand_spec(record.role, embeds, FLOATS, (1, bundle.prompt.keep, *embeds.shape[2:]))
    for name in step:
        demand_spec(record.role, given[name], INTEGERS, (1,))
    demand_spec(record.role, _take(record, "outputs", "denoised")["denoised"], FLOATS, given["latents"].shape)


def check_decoder(bundle: Bundle, record: ComponentRecord) -> None:
    """Latents in, three colours out, as many times higher as wider."""
    given, image = _take(record, "inputs", "latents")["latents"], _take(record, "outputs", "image")["image"]
    demand_latents(bundle, record, given)
    demand(len(image.shape) == 4, f"{record.role}: image", list(image.shape), "[1, 3, H, W]")
    demand_spec(record.role, image, FLOATS, (1, 3, *image.shape[2:]))
    high, wide = (_ratio(image.shape[axis], given.shape[axis]) for axis in (2, 3))
    demand(high == wide and high is not None, f"{record.role}: image", list(image.shape), f"a multiple of {list(given.shape)}")


def _ratio(made: int | str, given: int | str) -> int | None:
    """How many times one size is the other, both free or both fixed, or None."""
    (m, m_name), (g, g_name) = (read_axis(size) if isinstance(size, str) else (size, "") for size in (made, given))
    return m // g if m_name == g_name and m % g == 0 else None


def demand_latents(bundle: Bundle, record: ComponentRecord, spec: TensorSpec) -> None:
    """The bundle's latent_shape, or axes of free size that it is one of."""
    own = bundle.latent_shape
    for size in own:
        demand_range("latent_shape", size, 1, MOST_LATENTS)
    demand_range("values of latent_shape", math.prod(own), 1, MOST_LATENTS)
    if not bundle.options.get(DYNAMIC):
        demand_spec(record.role, spec, FLOATS, (1, *own))
        return
    demand(len(spec.shape) == 4, f"{record.role}: latents", list(spec.shape), "[1, C, height, width]")
    demand_spec(record.role, spec, FLOATS, (1, own[0], *spec.shape[2:]))
    for size, side, name in zip(own[1:], spec.shape[2:], SIDES, strict=True):
        multiple, found = read_axis(side) if isinstance(side, str) else (0, "")
        demand(
            found == name and size % multiple == 0,
            f"{record.role}: latents",
            list(spec.shape),
            f"free sizes that {own} is one of",
        )


def demand_spec(role: str, spec: TensorSpec, dtypes: tuple[str, ...], shape: tuple[int | str, ...]) -> None:
    """One of these types, exactly this shape."""
    what = f"{role}: {spec.name}"
    demand(
        spec.dtype in dtypes and spec.shape == shape,
        what,
        f"{spec.dtype} {list(spec.shape)}",
        f"{'/'.join(dtypes)} {list(shape)}",
    )


def check_parts(bundle: Bundle) -> None:
    """Parts are named graphs, each once; each reads what was given or made before; the last makes what the component gives."""
    graphs = {artifact.path for artifact in bundle.artifacts if artifact.kind == "graph"}
    for record in bundle.components:
        demand_range(f"{record.role}: parts", len(record.parts), 1, MOST_PARTS)
        names = [part.graph for part in record.parts]
        demand(len(set(names)) == len(names), f"{record.role}: parts", names, "each graph once")
        for name in names:
            fault = find_path_fault(name)
            demand(fault is None, f"{record.role}: the part {name!r}", fault, "the path of a graph")
            demand(
                f"{record.role}/{name}" in graphs,
                f"{record.role}: the part {name!r}",
                "no such artifact",
                "a graph among artifacts",
            )
        _check_chain(record)


def _check_chain(record: ComponentRecord) -> None:
    known = dict(_named(record.inputs))
    for part in record.parts:
        where = f"{record.role}/{part.graph}"
        for side in (part.inputs, part.outputs):
            check_specs(where, side)
        for spec in part.inputs:
            demand(
                spec.name in known, f"{where}: the input {spec.name}", "nothing that gives it", "an input or an earlier output"
            )
            demand_spec(where, spec, (known[spec.name].dtype,), known[spec.name].shape)
        taken = [spec.name for spec in part.outputs if spec.name in known]
        demand(not taken, f"{where}: outputs", f"{taken} again", "new names")
        known |= _named(part.outputs)
    last = {(spec.name, spec.dtype, spec.shape) for spec in record.parts[-1].outputs}
    wanted = {(spec.name, spec.dtype, spec.shape) for spec in record.outputs}
    demand(last == wanted, f"{record.role}: outputs of the last part", sorted(s[0] for s in last), "the component's")


def _take(record: ComponentRecord, side: str, *names: str) -> Specs:
    """The specs of one side, which are exactly these."""
    found = _named(getattr(record, side))
    demand(set(found) == set(names), f"{record.role}: {side}", sorted(found), f"{sorted(names)}")
    return found


def _named(specs: tuple[TensorSpec, ...]) -> dict[str, TensorSpec]:
    return {spec.name: spec for spec in specs}
