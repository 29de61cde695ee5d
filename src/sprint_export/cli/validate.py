"""The verb `validate`: a bundle beside PyTorch, or beside its own reference."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sprint_export.cli import against_reference
from sprint_export.cli import options as o
from sprint_export.cli.bars import progress_bars
from sprint_export.cli.results import show_results
from sprint_export.cli.screen import note, stderr, verbosity
from sprint_export.cli.signature import takes_options
from sprint_export.cli.source import find_source
from sprint_export.compute import check_compute, choose_compute
from sprint_export.errors import InputError
from sprint_export.libraries import DRAWING, EXPORTING, REPORTING, check_installed
from sprint_export.nouns.order import make_parts
from sprint_export.nouns.parts import NO_PARTS

ASKED = ("gates", "count", "budget", "compute", "metrics", "metric_weights", "scorers")  # of an order: of its validation
PARTS = ("lora", "decoder", "vae", "text_encoder", "controlnet")  # of an order: what changes or completes a checkpoint


@takes_options(
    o.PROVIDER,
    *o.pick_options("variant", *PARTS, *ASKED),
    o.RAY,
    *against_reference.OPTIONS,
    o.ALLOW_UNDECIDED,
    *o.CI_OPTIONS,
)
def validate(
    bundle: o.Source,
    student: Annotated[
        str | None,
        typer.Option(
            help="The student to compare with; default: the one it was made from, where that is embedded or random:PRESET."
        ),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(metavar="FILE|SET:PATH", help="A file, one prompt a line; - for stdin; or a set, e.g. geneval:PATH."),
    ] = None,
    runtime: o.Runtime = None,
    as_json: o.Json = False,
    *,
    variant: str | None,
    allow_undecided: bool,
    **asked: Any,
) -> None:
    """Run a bundle beside PyTorch on the same prompts and noise; write report.json and contact_sheet.png into it.

    With --reference, and where PyTorch is not installed: beside the pictures that its reference/ holds, writing nothing into it.

    Example: sprint-export validate my-bundle --gate 'psnr_db>=40'
    """
    files = o.read_ci_files(asked)
    own = {option.name: asked.pop(option.name) for option in against_reference.OPTIONS}
    defaults = {"provider": asked["provider"]} | {option.name: option.default for option in o.ORDER_OPTIONS}
    gates = asked.pop("gates") or []
    others = {name: value for name, value in asked.items() if value != defaults.get(name)}
    if against_reference.is_against_reference(own, others | {"student": student, "prompts": prompts, "variant": variant}):
        asks = {"gates": gates, "runtime": runtime, "provider": asked["provider"]}
        against_reference.validate_device(find_source(bundle), own | {"allow_undecided": allow_undecided}, as_json, files, **asks)
        return
    from sprint_export.export.bundle import read_bundle
    from sprint_export.run_checks import check_report_gates, load_libraries
    from sprint_export.students.source import check_source
    from sprint_export.validate.image_metrics.measuring import choose_metrics, list_faults, read_choice
    from sprint_export.validate.own_source import check_own_source
    from sprint_export.validate.pace import read_budget

    choice = read_choice(asked["metrics"], asked["metric_weights"], asked["scorers"])
    folder = find_source(bundle)
    opened = read_bundle(folder, verify=False)
    demands = check_report_gates(opened, gates, runtime, asked["provider"], choice)
    read_budget(asked["budget"])
    for sentence in list_faults(choose_metrics(choice), choice.weights):
        note(f"will not be measured: {sentence}")
    given = o.read_prompts(prompts)
    check_compute(asked["compute"])
    parts = make_parts(**{name: asked.pop(name) for name in PARTS})
    if student is not None:
        check_source(student, parts)
    elif parts != NO_PARTS:
        raise InputError(
            "--lora, --decoder, --vae, --text-encoder and --controlnet belong to a checkpoint; give that with --student too"
        )
    else:
        check_own_source(opened.source)
    check_installed((*EXPORTING, *DRAWING, *REPORTING))
    with progress_bars(stderr, verbosity.is_quiet, verbosity.is_verbose) as progress:
        load_libraries(progress)
        from sprint_export.students import load_student
        from sprint_export.validate import validate_bundle

        loaded = None if student is None else load_student(student, variant, parts)
        asked |= {"gates": demands, "runtime": runtime, "compute": choose_compute(asked["compute"], note)}
        asked |= {"metrics": choice.names, "scorers": choice.scorers}
        report = validate_bundle(folder, loaded, given, progress, **asked)
    files.write([report], allow_undecided)
    show_results([report], as_json, allow_undecided=allow_undecided)
