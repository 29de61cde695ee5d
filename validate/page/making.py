"""How a bundle was made and validated, as names with their values."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.recipe import Recipe
from sprint_export.nouns.report import Report
from sprint_export.runtimes.makings import name_student
from sprint_export.validate.page.templates import render


def render_making(bundle: Bundle, report: Report) -> Markup:
    """What it takes to make it again, and what measured it."""
    groups = [
        ("Student", list(_describe_student(bundle))),
        ("Bundle", list(_describe_bundle(bundle))),
        ("Recipe", list(_describe_recipe(bundle.recipe)) if bundle.recipe is not None else []),
        ("Validation", list(_describe_validation(report))),
        ("Made with", list(bundle.tools.items())),
        ("Opens with", list(_describe_runtimes(bundle))),
    ]
    rules = bundle.recipe.rules if bundle.recipe is not None else ()
    return render("making.html", groups=[group for group in groups if group[1]], rules=rules)


def _describe_student(bundle: Bundle) -> Iterator[tuple[str, str]]:
    yield "name", name_student(bundle)
    yield "family", bundle.family
    if bundle.revision:
        yield "revision", bundle.revision
    yield "licence", bundle.licence
    yield "weights, sha256", bundle.fingerprint
    yield "steps", ", ".join(map(str, bundle.plan.counts or (len(bundle.plan.times),)))
    yield "flow times", ", ".join(f"{time:.9g}" for time in bundle.plan.times)
    yield "guidance", f"{bundle.plan.guidance:g}"
    yield "latents", " \u00d7 ".join(map(str, bundle.latent_shape))


def _describe_bundle(bundle: Bundle) -> Iterator[tuple[str, str]]:
    yield "target", bundle.target
    yield "precision", bundle.precision
    yield "device", bundle.device
    yield "layout", bundle.layout
    for name, value in bundle.options.items():
        yield name, str(value)
    yield "key", bundle.key


def _describe_recipe(recipe: Recipe) -> Iterator[tuple[str, str]]:
    yield "name", recipe.name
    if recipe.meaning:
        yield "meaning", recipe.meaning
    yield "calibrated on", f"{len(recipe.prompts)} prompts of its own" if recipe.prompts else "the student's prompts"
    yield "seed", str(recipe.seed)
    yield "observer", recipe.observer
    yield "smooth", f"{recipe.smooth:g}"
    yield "corrects bias", "yes" if recipe.correct_bias else "no"
    yield "gptq", "yes" if recipe.gptq else "no"


def _describe_runtimes(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """An engine opens in the version that built it alone."""
    builders = {artifact.format for artifact in bundle.artifacts if artifact.kind == "engine"}
    for name, version in bundle.runtimes.items():
        yield name, f"{version} exactly" if name in builders else f"{version} or newer"


def _describe_validation(report: Report) -> Iterator[tuple[str, str]]:
    yield "pictures", f"{report.prompts:,}"
    yield "ran on", report.runtime
    yield "machine", report.machine
    if report.seconds:
        yield "took", f"{report.seconds:,.0f} s"
