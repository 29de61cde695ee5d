"""`upload`: a bundle to the hub, once its gates are met."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sprint_export.bundle_files import MANIFEST, REPORT
from sprint_export.cli import options as o
from sprint_export.cli.screen import show
from sprint_export.cli.signature import takes_options
from sprint_export.errors import InputError
from sprint_export.paths import is_file


@takes_options()
def upload(
    bundle: o.Folder,
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="On the Hugging Face hub; made where it is not there.")],
    private: Annotated[bool, typer.Option("--private", help="Make a repository that is new private.")] = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Upload also where a gate is not met or not decided, or nothing was validated.")
    ] = False,
) -> None:
    """Upload a bundle with its model card and report to the Hugging Face hub.

    Example: sprint-export upload my-bundle me/my-bundle
    """
    send_bundle(bundle, repo, private, anyway)


def send_bundle(bundle: Path, repo: str, private: bool, anyway: bool = False) -> None:
    """Upload where the report says that all gates are met, or `anyway`.

    Raises:
        InputError: it says that one is not met or not decided, or there is no report.
    """
    from sprint_export.runtimes.upload import check_upload, upload_bundle
    from sprint_export.validate.model_card import write_card
    from sprint_export.validate.report import list_complaints
    from sprint_export.validate.report_file import read_report

    check_upload(repo)
    if not anyway and is_file(bundle / MANIFEST):
        if not is_file(bundle / REPORT):
            raise InputError(f"{bundle} was not validated; validate it, or upload it with --anyway")
        report = read_report(bundle)
        if not report.passed:
            found = "; ".join(list_complaints(report))
            raise InputError(f"{bundle}: {found}; to upload it nevertheless: upload --anyway")
    write_card(bundle)
    show(upload_bundle(bundle, repo, private))
