"""Where a student comes from, and which family reads it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from sprint_export.errors import InputError, MachineError, unknown_choice
from sprint_export.nouns.student import Student
from sprint_export.paths import is_file, is_folder, resolve_path
from sprint_export.registry import list_members, load_member
from sprint_export.students.folder import read_json

HERE = Path(__file__).parent
RANDOM = "random:"  # before a preset's name
HUB_STUDENTS = (
    "Efficient-Large-Model/Sana_Sprint_0.6B_1024px_diffusers",
    "Efficient-Large-Model/Sana_Sprint_1.6B_1024px_diffusers",
)
HUB_FILES = ["*.json", "*.safetensors", "*_prompts.txt", "README.md", "LICENSE*"]  # no code, no pickles
_HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?")


def list_students() -> dict[str, str]:
    """Names `load_student` knows without a path -> what they are."""
    from sprint_export.students.sana_sprint.published import PRESETS

    embedded = {path.parent.name.replace("_", "-"): "embedded, trained, 64 px" for path in HERE.glob("*/model_index.json")}
    random = {f"random:{name}": f"{preset.title}, random weights" for name, preset in PRESETS.items()}
    return embedded | dict.fromkeys(HUB_STUDENTS, "on the Hugging Face hub") | random


def load_student(source: str | Path = "sprint-tiny", variant: str | None = None) -> Student:
    """Load a student; configs and tokenizer now, weights when a later stage pulls them.

    Args:
        source: an embedded student's name, a diffusers folder, a hub id `owner/name[@revision]`, or `random:<preset>` for a
            full-size network with seeded random weights.
        variant: which weights of a folder or hub id, e.g. "fp16" for `model.fp16.safetensors`; default: the plain ones, or the
            only ones there are.

    Returns:
        Its components as stock modules on `meta` with lazy float weights.

    Raises:
        InputError: no such source, a missing or damaged file, or a config that does not fit its weights.
        MachineError: a hub id cannot be fetched (no network).
    """
    check_source(source)
    name = str(source)
    if name.startswith(RANDOM):
        from sprint_export.students.sana_sprint.presets import load_preset

        if variant is not None:
            raise InputError(f"variant {variant!r}: {name} has no files to choose from; leave --variant out")
        return load_preset(name.removeprefix(RANDOM))
    if is_embedded(name):
        return _load_folder(HERE / name.replace("-", "_"), name, None, variant)
    folder = resolve_path("--student", Path(source))
    if folder.is_dir():
        return _load_folder(folder, str(folder), None, variant)  # whole, so that a bundle finds it from anywhere
    hub = _HUB_ID.fullmatch(name)
    assert hub is not None, "check_source lets nothing else through"
    return _load_folder(_download(hub["repo"], hub["revision"]), name, hub["revision"], variant)


def check_source(source: str | Path) -> None:
    """Refuse what `load_student` would refuse by its name or its model index; no library is imported.

    Raises:
        InputError: no such source, or a folder that is no pipeline this package knows.
    """
    name = str(source)
    if name.startswith(RANDOM):
        from sprint_export.students.sana_sprint.published import PRESETS

        if (preset := name.removeprefix(RANDOM)) not in PRESETS:
            raise unknown_choice("random preset", preset, PRESETS)
    elif not is_embedded(name):
        folder = resolve_path("--student", Path(source))
        if is_folder(folder) or is_file(folder):
            _find_family(folder)
        elif _HUB_ID.fullmatch(name) is None or name.startswith((".", "/", "~")):
            raise unknown_choice("student", name, list_students(), "Or give an existing diffusers folder or a hub id owner/name")


def is_embedded(name: str) -> bool:
    """Whether a student of that name ships with the package."""
    if not re.fullmatch(r"[\w-]{1,80}", name):
        return False
    return is_file(HERE / name.replace("-", "_") / "model_index.json")


def _load_folder(folder: Path, source: str, revision: str | None, variant: str | None) -> Student:
    student: Student = load_member("student", _find_family(folder)).load(folder, source, revision, variant)
    return student


def _find_family(folder: Path) -> str:
    """The family that reads a folder's pipeline class."""
    index = folder / "model_index.json"
    if not folder.is_dir():
        raise InputError(f"{folder} is a file; expected a diffusers folder with a model_index.json")
    if not index.is_file():
        raise InputError(
            f"{folder} has no model_index.json; expected a diffusers pipeline folder (transformer/, vae/, "
            "text_encoder/, tokenizer/, scheduler/)"
        )
    pipeline = read_json(index, folder).get("_class_name")
    families = {family: _pipelines(family) for family in list_members("student")}
    for family, pipelines in families.items():
        if pipeline in pipelines:
            return family
    raise unknown_choice(f"pipeline class in {index}:", str(pipeline), sum(families.values(), ()))


def _pipelines(family: str) -> tuple[str, ...]:
    """A family file's `PIPELINES` literal, read without importing it."""
    path = HERE.joinpath(*list_members("student")[family].split(".")[2:]).with_suffix(".py")
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "PIPELINES":
            return tuple(ast.literal_eval(node.value))
    return ()


def _download(repo: str, revision: str | None) -> Path:
    """Fetch (or find in the hub cache) the files a student needs."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=HUB_FILES))
    except RepositoryNotFoundError as error:
        raise InputError(
            f"hub model {repo!r} does not exist or needs a login; known students: {', '.join(HUB_STUDENTS)}"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise MachineError(
            f"cannot reach the Hugging Face hub for {repo!r} and it is not in the local cache. Connect to the "
            "network, or give a folder downloaded elsewhere, or use the embedded student sprint-tiny"
        ) from error
