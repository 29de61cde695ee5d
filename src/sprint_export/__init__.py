"""From a distilled one-step text-to-image student to a small, fast bundle, and whether that is still the same model.

    load_student -> specialize_student -> quantize_student -> export_student -> build_bundle -> validate_bundle

`convert` takes a student all the way; `open_bundle` runs what it left. Importing this package loads the standard library only:
each verb is fetched from its stage when first asked for, so opening a bundle needs no torch.
"""

from __future__ import annotations

from sprint_export.errors import BundleError, InputError, MachineError, RefusedError, SprintExportError

TYPE_CHECKING = False  # typing's own would load it, before the command hears a Ctrl-C
if TYPE_CHECKING:
    from typing import Any

    from sprint_export.conversion import convert, convert_targets
    from sprint_export.export import export_student
    from sprint_export.packing import pack_bundle
    from sprint_export.quantize import quantize_student
    from sprint_export.runtimes import build_bundle, check_bundle, open_bundle
    from sprint_export.server import serve
    from sprint_export.specialize import specialize_student
    from sprint_export.students import load_student
    from sprint_export.validate import validate_bundle

__version__ = "0.2.0"

__all__ = [  # noqa: RUF022 grouped: the whole, its stages in order, the errors
    "convert",
    "convert_targets",
    "open_bundle",
    "check_bundle",
    "pack_bundle",
    "serve",
    # stages
    "load_student",
    "specialize_student",
    "quantize_student",
    "export_student",
    "build_bundle",
    "validate_bundle",
    # errors
    "SprintExportError",
    "InputError",
    "RefusedError",
    "BundleError",
    "MachineError",
]

_HOMES = {
    "load_student": "students",
    "specialize_student": "specialize",
    "quantize_student": "quantize",
    "export_student": "export",
    "build_bundle": "runtimes",
    "open_bundle": "runtimes",
    "check_bundle": "runtimes",
    "serve": "server",
    "validate_bundle": "validate",
    "convert": "conversion",
    "convert_targets": "conversion",
    "pack_bundle": "packing",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
