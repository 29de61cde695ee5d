"""A site written into a folder, for any server of static files.

`_headers` says to those that read it (Netlify, Cloudflare Pages) what threads need; elsewhere the page's service worker adds the
same headers from the second load on, and without either it draws with one thread and says so.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from sprint_export.demo.server import ISOLATION
from sprint_export.demo.site_files import Site
from sprint_export.disk_errors import clear_disk_errors
from sprint_export.errors import InputError
from sprint_export.files import name_part, remove, settle_folder, sweep_parts
from sprint_export.paths import is_folder
from sprint_export.progress import Progress, Step, quiet

HEADERS = "_headers"


def check_new(folder: Path) -> None:
    """Refuse a folder that holds anything: it may be somebody's.

    Raises:
        InputError: it does, or is a file.
    """
    if folder.is_symlink() or (folder.exists() and not is_folder(folder)):
        raise InputError(f"--out {folder} is a file or a link; expected a folder that is new or empty")
    if is_folder(folder) and next(folder.iterdir(), None) is not None:
        raise InputError(f"--out {folder} is not empty; expected a folder that is new or empty")


def write_site(site: Site, folder: Path, progress: Progress = quiet) -> None:
    """Write all files of a site; the folder is whole or absent.

    Raises:
        InputError: the folder holds anything, or cannot be written to. MachineError: the disk is full.
    """
    check_new(folder)
    step, part = Step("writing", str(folder)), name_part(folder.absolute())
    with clear_disk_errors(folder):
        sweep_parts(part.parent)
        try:
            for i, file in enumerate(site.files.values()):
                progress(step, i, len(site.files))
                path = part / file.url
                path.parent.mkdir(parents=True, exist_ok=True)
                if file.content is not None:
                    path.write_bytes(file.content)
                else:
                    with file.open() as source, path.open("xb") as target:
                        shutil.copyfileobj(source, target)
            (part / HEADERS).write_text("/*\n" + "".join(f"  {name}: {value}\n" for name, value in ISOLATION.items()), "utf-8")
            settle_folder(part)
            if is_folder(folder):
                folder.rmdir()
            part.replace(folder)
        finally:
            remove(part)
    progress(step, len(site.files), len(site.files))
