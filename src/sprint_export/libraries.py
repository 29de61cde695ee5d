"""Which libraries are installed, and which extra of this package brings one, by its own metadata. Standard library only."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from types import ModuleType

from sprint_export.errors import MachineError

PACKAGE = "sprint-export"
IMPORTED_AS = {  # distributions whose import name is another
    "pillow": "PIL",
    "scikit-image": "skimage",
    "protobuf": "google",
    "cuda-python": "cuda",
    "coreai-core": "coreai",
    "nvidia-modelopt": "modelopt",
    "mlcommons-loadgen": "mlperf_loadgen",
    "nvidia-ml-py": "pynvml",
}
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)[^;]*(;.*?extra == ['\"](?P<extra>[\w-]+)['\"])?")
_GROUPS = ("all", "dev", "peers")  # extras that are made of others, or not for users

# To load, specialize and quantize a student.
EXPORTING = ("torch", "diffusers", "transformers", "safetensors", "accelerate", "huggingface_hub", "google.protobuf")
# Address space in bytes: the least at which a small student passed whole; 1.25e9 and 0.26e9 were too little.
EXPORTING_SPACE, DRAWING_SPACE = 1_570_000_000, 340_000_000
DRAWING = ("numpy", "tokenizers")  # to open a bundle
SEARCHING = ("matplotlib",)  # to draw what a search for a recipe measured
REPORTING = ("PIL", "jinja2", "skimage", "scipy")  # to validate one beside PyTorch


@cache
def list_extras() -> dict[str, tuple[str, ...]]:
    """Import name -> the extras that bring it; () for what a plain install brings. Empty where no metadata is installed."""
    from importlib.metadata import PackageNotFoundError, requires  # slow, and only an error needs it

    try:
        lines = requires(PACKAGE) or []
    except PackageNotFoundError:
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for line in lines:
        match = _REQUIREMENT.match(line)
        if match is None or match["extra"] in _GROUPS:
            continue
        name = match["name"].lower()
        module = IMPORTED_AS.get(name, name.replace("-", "_"))
        found[module] = (*found.get(module, ()), *([match["extra"]] if match["extra"] else []))
    return found


def name_install(modules: Iterable[str]) -> str:
    """What to give to pip for libraries that are missing: the extra that brings them and least else, or all."""
    wanted = [list_extras().get(module.partition(".")[0], ("all",)) for module in modules]
    if not any(wanted):
        return PACKAGE
    shared = set.intersection(*(set(extras) for extras in wanted if extras))
    sizes = Counter(extra for extras in list_extras().values() for extra in extras)
    return f"'{PACKAGE}[{min(shared, key=lambda extra: (sizes[extra], extra)) if shared else 'all'}]'"


def is_installed(module: str) -> bool:
    """Whether a top-level module can be found; nothing is imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a finder that refuses it; None in sys.modules
        return False


def check_installed(modules: Iterable[str]) -> None:
    """Ask for libraries before any work.

    Raises:
        MachineError: one is missing; the message has the pip command that brings all that are.
    """
    missing = [module for module in dict.fromkeys(modules) if not is_installed(module)]
    if missing:
        raise missing_library(*missing)


def missing_library(*modules: str) -> MachineError:
    """The error for libraries that are not there; the first is named."""
    return MachineError(f"{modules[0]} is not installed; run: pip install {name_install(modules)}")


@contextlib.contextmanager
def hush() -> Iterator[None]:
    """Keep a library's remarks about itself off the user's screen: warnings, log messages, what it prints."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        nowhere = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stderr(nowhere), contextlib.redirect_stdout(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def require(library: str, extra: str) -> ModuleType:
    """Import a library that only one extra needs.

    Raises:
        MachineError: it, or a library behind it, is not installed; any other import failure passes through.
    """
    try:
        with hush():  # some print what is behind an import that fails, traceback and all
            return importlib.import_module(library)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if not missing or missing == "sprint_export":
            raise
        wanted, named = (library, extra) if missing == library.partition(".")[0] else (missing, "")
        install = f"'sprint-export[{named}]'" if named else name_install([wanted])
        behind = "" if wanted == library else f", and {library} needs it"
        raise MachineError(f"{wanted} is not installed{behind}; run: pip install {install}") from error
