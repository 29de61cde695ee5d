"""What a device found: a report with the identity of its bundle, as JSON that comes back to where the bundle was made.

A result comes from somebody's machine, hence from anywhere: a file is bounded before it is read, and so is every text and list in
it. Two kinds are read: what `validate --reference --out` writes, and what `bench --json` prints, which has no drawings. Both are
a report.json with more beside it.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

from sprint_export.errors import InputError
from sprint_export.json_forms import from_json, to_json
from sprint_export.nouns.report import Report
from sprint_export.runtimes.checking import Check
from sprint_export.strict_json import parse_json
from sprint_export.validate.latency.results import Conditions
from sprint_export.validate.report_file import build_report, describe_report

KIND = "device result"
LONGEST_FILE = 4 << 20  # bytes
LONGEST_TEXT = 4000  # letters of any text in it
LONGEST_LABEL = 200
LONGEST_LIST = 10_000
DEEPEST = 8
OWN = ("identity", "label", "provider", "driver", "versions", "checks", "bench")  # beside a report's fields
OF_BENCH = ("identity", "bench")  # of `bench --json`, likewise
IDENTITY = 64  # letters
NO_REPORT: dict[str, Any] = to_json(Report("", "", "", "", 0, ()))


@dataclass(frozen=True)
class DeviceResult:
    """One device's report on a bundle.

    Args:
        identity: of the bundle (Bundle.identity).
        label: what the device is called.
        provider: of the runtime; "default" where none was asked for.
        driver: of its GPU; "" where there is none, or the system does not say.
        versions: of the libraries that drew.
        report: rows, verdict, pictures, what was not checked.
        checks: of each drawing of the reference; none of a bench.
        bench: how it was timed; None where it was not.
    """

    identity: str
    label: str
    provider: str
    driver: str
    versions: Mapping[str, str]
    report: Report
    checks: tuple[Check, ...] = ()
    bench: Conditions | None = None


def format_result(result: DeviceResult) -> str:
    """The text of a result's file; strict JSON."""
    return json.dumps(describe_result(result), indent=1, allow_nan=False) + "\n"


def describe_result(result: DeviceResult) -> dict[str, Any]:
    """As JSON values: those of its report, and its own."""
    own: dict[str, Any] = {name: to_json(getattr(result, name)) for name in OWN}
    return describe_report(result.report) | own | {"kind": KIND}


def read_result(path: Path) -> DeviceResult:
    """The result in a file.

    Raises:
        InputError: there is no such file, it is no result, damaged, or larger than any.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a FIFO waits for ever
            raise InputError(f"{path} cannot be read: it is no regular file; expected a device's result as JSON")
        with path.open("rb") as file:
            data = file.read(LONGEST_FILE + 1)
    except (OSError, ValueError, RuntimeError) as error:  # a NUL in the name, a loop of links
        said = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read ({said}); expected a device's result as JSON") from error
    try:
        if len(data) > LONGEST_FILE:
            raise ValueError(f"it has more than {LONGEST_FILE:,} bytes")
        value = parse_json(data)
        _check_bounds(value)
        return _build(value)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} is no device's result ({str(error)[:300]}); expected what `sprint-export validate BUNDLE --reference --out "
            "FILE` writes, or `sprint-export bench BUNDLE --json` prints"
        ) from error


def _build(value: Any) -> DeviceResult:
    if not isinstance(value, dict) or "identity" not in value:
        raise ValueError("it does not say which bundle it is of")
    kind = value.pop("kind", None)
    if kind not in (None, KIND):
        raise ValueError(f"its kind is {kind!r}")
    names = OWN if kind == KIND else OF_BENCH
    own = {name: value.pop(name) for name in names}
    own["bench"] = _fit_conditions(own["bench"])
    report = build_report(value)
    if kind is None:
        label = from_json(Conditions, own["bench"]).device[:LONGEST_LABEL]
        own |= {"label": label, "provider": "", "driver": "", "versions": {}, "checks": []}
    return _check(replace(from_json(DeviceResult, own | {"report": NO_REPORT}), report=report))


def _fit_conditions(value: Any) -> Any:
    """Conditions as any version of this package says them: what is missing has its default, what is not known is left out."""
    if not isinstance(value, dict):
        return value
    known = fields(Conditions)
    defaults = {field.name: to_json(field.default) for field in known if field.default is not MISSING}
    return defaults | {name: item for name, item in value.items() if name in {field.name for field in known}}


def _check(result: DeviceResult) -> DeviceResult:
    """The result, where its identity and label can be shown.

    Raises:
        ValueError: they cannot.
    """
    if len(result.identity) != IDENTITY or set(result.identity) - set("0123456789abcdef"):
        raise ValueError("its identity is no sha256")
    if not 1 <= len(result.label) <= LONGEST_LABEL:
        raise ValueError(f"its label has {len(result.label)} letters, expected 1 to {LONGEST_LABEL}")
    return result


def _check_bounds(value: Any, depth: int = 0) -> None:
    if depth > DEEPEST:
        raise ValueError("it is nested too deep")
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        raise ValueError(f"a text in it has {len(value):,} letters, expected at most {LONGEST_TEXT:,}")
    if isinstance(value, list | dict):
        if len(value) > LONGEST_LIST:
            raise ValueError(f"a list in it has {len(value):,} entries, expected at most {LONGEST_LIST:,}")
        for each in (*value, *value.values()) if isinstance(value, dict) else value:
            _check_bounds(each, depth + 1)
