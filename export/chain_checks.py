"""What a manifest says of its chain: stages and names that make one, and networks whose values fit each other and the prompt."""

from __future__ import annotations

import math
import re

from sprint_export.errors import BundleError
from sprint_export.export.manifest_faults import ManifestError, demand, demand_range
from sprint_export.export.tensor_checks import FLOATS, INTEGERS, check_specs, demand_spec
from sprint_export.nouns.bundle import Bundle, ComponentRecord
from sprint_export.nouns.chain import EACH_STEP, ONCE
from sprint_export.nouns.student import TensorSpec
from sprint_export.nouns.target import DYNAMIC
from sprint_export.sizes import find_sizes, find_units

MOST_STAGES = 64
MOST_LATENTS = 1 << 26  # values of one picture's latents; 1024 px have 2^15
MOST_PIXELS = 1 << 28
OTHER_OWNERS = ("tokenizer", "recipe", "pipeline", "app", "reference", "licence")  # whom a file may belong to beside a network
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def check_chain(bundle: Bundle) -> None:
    """Roles are names, each once; stages of each step stand together; every network has a stage."""
    stages, roles, names = bundle.chain.stages, bundle.chain.roles, [name for name in vars(bundle.chain.names).values() if name]
    demand_range("chain.stages", len(stages), 1, MOST_STAGES)
    for what, texts in (("chain.stages", list(roles)), ("chain.names", names)):
        fault = next((text for text in texts if _NAME.fullmatch(text) is None or text in OTHER_OWNERS), None)
        demand(fault is None, what, repr(fault), "names of letters, digits and _")
        demand(len(set(texts)) == len(texts), what, texts, "each name once")
    demand(
        len({role.casefold() for role in roles}) == len(roles), "chain.stages", list(roles), "names that differ by more than case"
    )
    for stage in stages:
        demand(stage.when in (ONCE, EACH_STEP), f"when {stage.role} runs", repr(stage.when), f"{ONCE!r} or {EACH_STEP!r}")
        other = next((each for each in stages if each.role == stage.replaces), None)
        demand(
            not stage.replaces or (other is not None and other is not stage and other.when == stage.when and not other.replaces),
            f"what {stage.role} replaces",
            repr(stage.replaces),
            "a stage that runs when it does",
        )
    loop = [i for i, stage in enumerate(stages) if stage.when == EACH_STEP]
    if loop:
        demand(loop == list(range(loop[0], loop[-1] + 1)), "chain.stages", f"a loop of {loop}", "one, unbroken")
    else:
        _check_within(bundle)
    present = [record.role for record in bundle.components]
    demand(bool(present), "components", "none", "at least one")
    demand(set(present) <= set(roles) and len(set(present)) == len(present), "components", present, f"{list(roles)}, each once")


def _check_within(bundle: Bundle) -> None:
    """Without a loop the sampler is a network's: it takes one step, of noise as it is."""
    plan = bundle.plan
    demand(not bundle.chain.names.denoised, "chain.stages", "a loop of []", "one, unbroken")
    demand(plan.starts_from_noise, "plan.starts_from_noise", plan.starts_from_noise, "true where no stage runs in each step")
    demand(len(plan.times) == 1, "plan.times", list(plan.times), "one time where no stage runs in each step")


def check_interfaces(bundle: Bundle) -> None:
    """Each value has one shape and type wherever it is read and written; prompt, sampler and picture have theirs."""
    chain, names, prompt = bundle.chain, bundle.chain.names, bundle.prompt
    records = {record.role: record for record in bundle.components}
    for record in records.values():
        for side in (record.inputs, record.outputs):
            check_specs(record.role, side)
    _check_latents(bundle)
    fixed: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
        names.ids: (INTEGERS, (1, prompt.tokens - len(prompt.prefix_ids))),
        names.mask: (INTEGERS, (1, prompt.keep)),
        names.step: (INTEGERS, (1,)),
    }
    known: dict[str, TensorSpec] = {}
    given = chain.list_given(records)
    is_partial = len(records) < len(chain.stages)  # another network may write what is read
    for role in (role for role in chain.roles if role in records):
        is_loop = _is_loop(bundle, role)
        demand(
            is_loop or names.step not in _list(records[role].inputs), f"{role}: inputs", names.step, "no step outside the loop"
        )
        for spec in records[role].inputs:
            if spec.name in fixed:
                demand_spec(role, spec, *fixed[spec.name])
                continue
            if spec.name in (names.state, names.encoded):
                _check_state(bundle, role, spec)
            _check_given(bundle, role, spec)
            fits = spec.name in known or spec.name in given or spec.name == names.state or is_partial
            demand(fits, f"{role}: the input {spec.name}", "nothing that gives it", "the output of an earlier network")
            before = known.setdefault(spec.name, spec)
            demand_spec(role, spec, (before.dtype,), before.shape)
        _check_outputs(bundle, records[role], known)
    _check_whole(bundle, records)


def _check_outputs(bundle: Bundle, record: ComponentRecord, known: dict[str, TensorSpec]) -> None:
    """New values, or those of the stage that is replaced; x0 is a state, the picture has three colours."""
    chain, names, role = bundle.chain, bundle.chain.names, record.role
    replaced = next(stage.replaces for stage in chain.stages if stage.role == role)
    mine = {spec.name for each in bundle.components if each.role == replaced for spec in each.outputs}
    for spec in record.outputs:
        is_new = spec.name not in {*known, names.ids, names.mask, names.step, names.state} - mine
        demand(is_new, f"{role}: the output {spec.name}", "a value that is there", "a new one")
        demand(spec.name != names.denoised or _is_loop(bundle, role), f"{role}: {spec.name}", "outside the loop", "in it")
        if spec.name in (names.denoised, names.encoded):
            _check_state(bundle, role, spec)
        if spec.name == names.denoised:
            state = known.get(names.state)
            demand_spec(role, spec, FLOATS, state.shape if state else spec.shape)
        if spec.name == names.picture:
            demand(len(spec.shape) == 4, f"{role}: {spec.name}", list(spec.shape), "[1, 3, H, W]")
            demand_spec(role, spec, FLOATS, (1, 3, *spec.shape[2:]))
        before = known.setdefault(spec.name, spec)
        demand_spec(role, spec, (before.dtype,), before.shape)


def _check_whole(bundle: Bundle, records: dict[str, ComponentRecord]) -> None:
    """A bundle that can draw writes x0 and a picture, reads the step where there are several times, and its sizes fit."""
    chain, names = bundle.chain, bundle.chain.names
    if chain.list_missing(records):
        return
    for name in filter(None, (names.denoised, names.picture)):
        demand(chain.find_writer(name, records) is not None, "components", f"none that gives {name}", "one")
    reads_step = any(names.step in _list(record.inputs) for record in records.values())
    several = len(bundle.plan.times) > 1
    demand(reads_step == several, f"whether a network reads {names.step}", reads_step, str(several))
    try:
        height, width = find_sizes(bundle).pixels
    except BundleError as error:
        raise ManifestError(str(error)) from error
    demand_range("pixels of a picture", height * width, 1, MOST_PIXELS)


def _check_latents(bundle: Bundle) -> None:
    demand_range("axes of latent_shape", len(bundle.latent_shape), 1, 7)
    for size in bundle.latent_shape:
        demand_range("latent_shape", size, 1, MOST_LATENTS)
    demand_range("values of latent_shape", math.prod(bundle.latent_shape), 1, MOST_LATENTS)


def _check_state(bundle: Bundle, role: str, spec: TensorSpec) -> None:
    """The bundle's latent_shape, or axes of free size that it is one of."""
    own = bundle.latent_shape
    if not bundle.options.get(DYNAMIC):
        demand_spec(role, spec, FLOATS, (1, *own))
    fits = spec.dtype in FLOATS and spec.shape[:1] == (1,) and find_units(spec.shape[1:], own) is not None
    demand(fits, f"{role}: {spec.name}", f"{spec.dtype} {list(spec.shape)}", f"free sizes that {own} is one of")


def _check_given(bundle: Bundle, role: str, spec: TensorSpec) -> None:
    """A given picture has three colours and, where one is drawn, its size; how strongly it steers is one number."""
    names = bundle.chain.names
    if spec.name == names.source:
        picture = bundle.chain.find_spec(names.picture, {record.role: record for record in bundle.components})
        demand(len(spec.shape) == 4, f"{role}: {spec.name}", list(spec.shape), "[1, 3, H, W]")
        demand_spec(role, spec, FLOATS, (1, 3, *(picture or spec).shape[2:]))
    if spec.name == names.scale:
        demand_spec(role, spec, FLOATS, (1,))


def _is_loop(bundle: Bundle, role: str) -> bool:
    return next(stage.when for stage in bundle.chain.stages if stage.role == role) == EACH_STEP


def _list(specs: tuple[TensorSpec, ...]) -> set[str]:
    return {spec.name for spec in specs}
