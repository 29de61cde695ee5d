"""Recipes by name: the files of the presets, and what a name may be. No torch, so that names are checked at once."""

from __future__ import annotations

from pathlib import Path

from sprint_export.errors import InputError, nearest_name, unknown_choice
from sprint_export.paths import is_file
from sprint_export.recipe_toml import AUTO, read_recipe
from sprint_export.registry import list_members
from sprint_export.students.family import load_family


def preset_folder(family: str) -> Path:
    """Where a family's presets lie."""
    return load_family(family).recipes


def list_presets(family: str) -> dict[str, str]:
    """Names that `--recipe` takes for every precision of a family -> what they mean."""
    found = {path.stem: path for path in sorted(preset_folder(family).glob("*.toml")) if "-" not in path.stem}
    return {name: read_recipe(path).meaning for name, path in found.items()}


def find_preset(family: str, name: str, precision: str, target: str = "") -> Path:
    """The file of a preset.

    Raises:
        InputError: the family has none of that name; the message lists them.
    """
    folder = preset_folder(family)
    for stem in (f"{target}-{precision}-{name}", f"{precision}-{name}", name):
        if (folder / f"{stem}.toml").is_file():
            return folder / f"{stem}.toml"
    hint = "A file of your own is given by a path that exists, e.g. ./mine.toml"
    raise unknown_choice("recipe", name, (AUTO, *list_presets(family)), hint)


def check_name(name: str, family: str | None = None) -> Path | None:
    """A recipe's name as a path, or None where it names a preset or `auto`.

    Raises:
        InputError: it is neither a name nor a file that is there.
    """
    families = [family] if family else list_members("student")
    known = {AUTO, *(preset for each in families for preset in list_presets(each))}
    if name in known:
        return None
    if not is_file(Path(name)):
        shown, meant = name[:200], nearest_name(name, known)
        raise InputError(
            f"unknown recipe {shown!r}; choose from: {', '.join(sorted(known))}, or the path of a TOML file that exists"
            + (f". Did you mean {meant!r}?" if meant else "")
        )
    return Path(name)
