"""MJHQ-30K (Playground 2024, arXiv:2402.17245): 30,000 prompts of ten categories, each with a picture to measure FID against.

    FOLDER/meta_data.json               {"<id>": {"category": "animals", "prompt": "...", ...}, ...}
    FOLDER/<category>/<id>.jpg          or FOLDER/mjhq30k_imgs/<category>/<id>.jpg

Without any picture beside the file the prompts are read alone; with some, each prompt must have its own.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sprint_export.errors import InputError
from sprint_export.paths import is_file, is_folder, read_user_text
from sprint_export.validate.prompt_sets.json_lines import read_object, take
from sprint_export.validate.prompt_sets.prompt_set import PromptLayout, PromptSet, check_count, check_inside, check_prompt

FILE, PICTURES = "meta_data.json", ("mjhq30k_imgs", "imgs", "")
NAME = re.compile(r"[\w-]{1,100}")  # of ids and categories: they become paths


class Mjhq30k(PromptLayout):
    """Prompts in the order of the file."""

    title, path = "MJHQ-30K: prompts and pictures of ten categories", "its folder, with meta_data.json"

    def read(self, path: Path) -> PromptSet:
        file = path / FILE
        where = f"--prompts {self.name}:{path}"
        if not is_file(file):
            raise InputError(f"{where}: no {FILE} there; expected the folder of MJHQ-30K")
        check_inside(where, path, [file])
        entries = read_object(f"--prompts {file}", read_user_text("--prompts", file))
        check_count(str(file), len(entries))
        prompts = [_read_entry(file, name, entry) for name, entry in entries.items()]
        texts = tuple(text for _, text in prompts)
        return PromptSet(texts, _find_pictures(where, path, [relative for relative, _ in prompts]), title="MJHQ-30K")


def _read_entry(file: Path, name: str, entry: Any) -> tuple[Path, str]:
    """(the picture's path within the folder, the prompt)."""
    where = f"--prompts {file}, {name[:100]!r}"
    if not isinstance(entry, dict):
        raise InputError(f"{where}: holds {type(entry).__name__}, expected an object with category and prompt")
    category = take(where, entry, "category", str)
    for each in (name, category):
        if NAME.fullmatch(each) is None:
            raise InputError(f"{where}: {each[:100]!r} is no name of a picture; expected letters, digits, _ and -")
    return Path(category, f"{name}.jpg"), check_prompt(where, entry.get("prompt"))


def _find_pictures(where: str, folder: Path, relatives: list[Path]) -> tuple[Path, ...]:
    """The picture of each; none where the folder of the first category is not there."""
    homes = [folder / inner for inner in PICTURES if is_folder(folder / inner / relatives[0].parent)]
    if not homes:
        return ()
    found = tuple(homes[0] / relative for relative in relatives)
    if missing := [path for path in found if not is_file(path)]:
        raise InputError(
            f"{where}: {len(missing):,} of {len(found):,} pictures are missing, the first {missing[0]}; unpack all of them"
        )
    check_inside(where, folder, found)
    return found


PROMPT_SET = Mjhq30k(name="mjhq30k")
