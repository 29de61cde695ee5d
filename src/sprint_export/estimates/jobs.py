"""What a run does, in numbers: prompts, pictures and bytes as the stages themselves choose them, and what is kept already.

Nothing is chosen here: recipes, prompts, chunks and files' names come from the functions that the stages call.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sprint_export.cache import cache_folder
from sprint_export.estimates.counting import Count, count_network
from sprint_export.estimates.memory import plan_layer
from sprint_export.estimates.stages import Job, Network
from sprint_export.export.repeats import share_repeated
from sprint_export.nouns.chain import EACH_STEP
from sprint_export.nouns.order import CheckedOrder
from sprint_export.nouns.recipe import Decision, Recipe
from sprint_export.nouns.student import Component, Student
from sprint_export.nouns.target import BuiltTarget, Target
from sprint_export.quantize.measure.calibrate import name_records
from sprint_export.quantize.measure.records import count_bytes
from sprint_export.quantize.measure.streaming import count_rows_at_once
from sprint_export.quantize.measure.walk import shows_quarter
from sprint_export.quantize.mend.fit import count_runs
from sprint_export.quantize.patterns import FLOAT
from sprint_export.quantize.schemes.scheme import load_scheme
from sprint_export.quantize.student import decide_layers
from sprint_export.quantize.weight_bytes import count_student_bytes, count_value_bytes
from sprint_export.recipe_choice import find_recipe
from sprint_export.runtimes.reference import MOST_FURTHER, SMALL_PIXELS
from sprint_export.students.family import load_family
from sprint_export.unpaid import EXPECTED, recall_unpaid
from sprint_export.validate.bundle import TIMED
from sprint_export.validate.inquiry import Inquiry, choose_prompts
from sprint_export.validate.judging import find_judge
from sprint_export.validate.pace import SMALL_PICTURE
from sprint_export.validate.portions import HELD_BYTES, MOST_AT_ONCE, LaterDraws
from sprint_export.validate.reference_cache import list_paths
from sprint_export.validate.side_by_side import LARGE_SAMPLES, ROLE_SAMPLES

EARLIER, BEFORE = "kept from an earlier run", "done for the target before"


@dataclass
class Shared:
    """What the targets of a run share: counts by layout and role, and what one of them will have done."""

    is_several: bool = False
    counts: dict[tuple[str, str], Count] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)

    def count(self, student: Student, role: str) -> Count:
        """Of a network, once for a layout."""
        key = student.layout, role
        if key not in self.counts:
            self.counts[key] = count_network(student.components[role])
        return self.counts[key]

    def is_done(self, question: str) -> bool:
        """Whether a target before asked the same; it is noted."""
        before = question in self.done
        self.done.add(question)
        return before


@dataclass(frozen=True)
class Planned:
    """A job, and the bytes that it adds to the disk: of the bundle, and of the cache at most."""

    job: Job
    bundle: int
    cache: int


def plan_job(checked: CheckedOrder, student: Student, specialized: Student, shared: Shared) -> Planned:
    """A target's job.

    Args:
        checked: the order.
        student: unspecialized.
        specialized: for this order.
        shared: of the run.
    """
    deployment, kept = checked.deployment, dict[str, str]()
    target, dtype = deployment.target, deployment.target.graph_dtype[deployment.precision]
    recipe: Recipe | None = None
    decisions: list[Decision] = []
    is_measured, priced = False, 0
    if deployment.offer.is_quantized:
        recipe = find_recipe(specialized, checked)
        if checked.order.drop_unpaid:
            priced, found = EXPECTED, recall_unpaid(specialized, deployment, recipe)
            kept |= {"pricing layers": EARLIER} if found is not None else {}
            recipe = found or recipe
        recipe, decisions, is_measured = decide_layers(specialized, deployment.precision, target, recipe)
    networks = {
        role: _plan_network(specialized, role, shared.count(specialized, role), recipe, decisions, target, dtype)
        for role in specialized.components
    }
    prompts = len(recipe.prompts) if recipe is not None and is_measured else 0
    if recipe is not None and prompts:
        records = cache_folder() / "calibration" / name_records(specialized, recipe.prompts, recipe.seed)
        if records.is_file():
            kept["calibrating"] = EARLIER
        elif shared.is_done(records.name):
            kept["calibrating"] = BEFORE
    job = Job(
        networks,
        prompts,
        is_rounded=recipe is not None,
        priced=priced,
        references=_count_drawings(specialized),
        built_for=deployment.device.name if isinstance(target, BuiltTarget) else "",
        target=deployment.name if shared.is_several else "",
        kept=kept,
    )
    pictures = 0
    if checked.is_validated:
        job, pictures = _plan_validation(job, checked, student, specialized, shared)
    graphs = sum(network.graph for network in networks.values())
    chunks = {role: -(-prompts // network.rows) + 1 for role, network in networks.items()}  # parts, and all of them together
    is_calibrated = bool(prompts) and "calibrating" not in kept
    records_bytes = is_calibrated * sum(chunks[role] * count_bytes(network.count.channels) for role, network in networks.items())
    return Planned(job, graphs * (2 if job.built_for else 1), pictures + records_bytes)


def _count_drawings(specialized: Student) -> int:
    """Drawings of a bundle's `reference/`: of small pictures one for each step count and of further prompts, else one."""
    assert specialized.plan is not None
    if specialized.chain.list_missing(specialized.components):
        return 0
    picture = specialized.chain.find_spec(specialized.chain.names.picture, specialized.components)
    assert picture is not None
    is_small = math.prod(size for size in picture.shape[2:] if isinstance(size, int)) <= SMALL_PIXELS
    further = min(len(specialized.validation_prompts[1:]), MOST_FURTHER)
    return max(len(specialized.plan.counts), 1) + further if is_small else 1


def _plan_network(
    student: Student, role: str, count: Count, recipe: Recipe | None, decisions: Sequence[Decision], target: Target, dtype: str
) -> Network:
    component = student.components[role]
    mine = {each.layer: each.precision for each in decisions if each.precision != FLOAT and each.layer.startswith(f"{role}.")}
    alone = replace(student, components={role: component})
    layers = {layer: plan_layer(component, layer.removeprefix(f"{role}."), scheme, target) for layer, scheme in mine.items()}
    when = {stage.role: stage.when for stage in student.chain.stages}
    assert student.plan is not None
    return Network(
        count,
        runs=count_runs(student, role),
        steps=student.plan.steps if when[role] == EACH_STEP else 1,
        stock=_compare_rows(student, component),
        rows=count_rows_at_once(component),
        shown=0.25 if shows_quarter(student, [role]) else 1.0,
        smoothed=_count_smoothed(student, role, mine) if recipe is not None and recipe.smooth else 0,
        layers=len(mine),
        captured=count.operators * (1 - share_repeated(component.module)),
        graph=count_student_bytes(alone, layers, count_value_bytes(dtype)),
    )


def _compare_rows(student: Student, component: Component) -> float:
    """Tokens that the stock text encoder reads for each that ours does, which holds what it makes of a prompt's prefix."""
    names = student.chain.names
    read = next((int(spec.shape[1]) for spec in component.inputs if spec.name == names.ids), None)
    return student.prompt.tokens / read if read else 1.0


def _count_smoothed(student: Student, role: str, rounded: Mapping[str, str]) -> int:
    """Values of the weights that smoothing looks at and scales."""
    weights = student.components[role].weights
    with_inputs = {layer for layer, scheme in rounded.items() if load_scheme(scheme).inputs is not None}
    total = 0
    for migration in load_family(student.family).list_migrations(student, role):
        if any(f"{role}.{layer}" in with_inputs for layer in migration.consumers):
            total += sum(math.prod(weights[f"{layer}.weight"].shape) for layer in migration.consumers)
    return total


def _plan_validation(job: Job, checked: CheckedOrder, student: Student, specialized: Student, shared: Shared) -> tuple[Job, int]:
    """The job with its pictures, and the bytes that those take which lie in the cache."""
    spec = specialized.chain.find_spec(specialized.chain.names.picture, specialized.components)
    assert spec is not None
    side = int(spec.shape[3])
    prompts, pace = choose_prompts(student, Inquiry(count=checked.order.count, budget=checked.order.budget), side)
    prompts = prompts[: pace.expect(find_judge(prompts, side) is not None)]
    later, places = LaterDraws(specialized, specialized.components, prompts), range(len(prompts))
    portions = (places[start : start + MOST_AT_ONCE] for start in places[::MOST_AT_ONCE])
    paths = [path for portion in portions for path in list_paths(student, later.take(portion))]
    is_timed = any(gate.metric.startswith(TIMED) for gate in checked.gates)
    missing = [path for path in paths if is_timed or not path.is_file()]
    drawn = [path for path in missing if not shared.is_done(path.name)]
    kept = dict(job.kept)
    if not drawn:
        kept["PyTorch reference"] = BEFORE if missing else EARLIER
    picture = 3 * side * side + 4 * math.prod(student.latent_shape)
    is_fed = side > SMALL_PICTURE
    samples = min(LARGE_SAMPLES if is_fed else ROLE_SAMPLES, len(prompts))
    job = replace(job, pictures=len(prompts), drawn=len(drawn), samples=samples, is_fed=is_fed, kept=kept)
    results = len(prompts) if 2 * len(prompts) * picture > HELD_BYTES else 0
    return job, (len(drawn) + results) * picture
