"""A device's result as a file: written and read back, and bounded where it comes from anywhere."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sprint_export.errors import InputError
from sprint_export.nouns.report import Measurement, Report
from sprint_export.validate.latency.results import Bench, Conditions, describe_bench
from sprint_export.validate.merging.result import LONGEST_FILE, describe_result, format_result, read_result
from tests.validate.merging.made_results import IDENTITY, make_result


def write(folder: Path, value: Any) -> Path:
    path = folder / "result.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value), "utf-8")
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    result = make_result("lab", psnr_db=51.5, milliseconds=20.0)
    path = write(tmp_path, format_result(result))
    assert read_result(path) == result
    assert path.stat().st_size < 8000


def test_a_bench_is_read_too(tmp_path: Path) -> None:
    conditions = Conditions("own", 10, 2, 1, None, 2, 2, False, "not applicable", "RTX 4090", (2520.0,) * 4, False)
    report = Report("b", "onnx-int8", "a runtime", "a machine", 10, (Measurement("latency_p50_ms", 3.5, "ms", "whole picture"),))
    found = read_result(write(tmp_path, describe_bench(Bench(report, conditions, IDENTITY))))
    assert (found.label, found.report, found.bench, found.checks) == ("RTX 4090", report, conditions, ())


def test_a_bench_of_another_version_is_read(tmp_path: Path) -> None:
    conditions = Conditions("own", 10, 2, 1, None, 2, 2, False, "not applicable", "RTX 4090")
    value = describe_bench(Bench(Report("b", "onnx-int8", "a runtime", "a machine", 10, ()), conditions, IDENTITY))
    del value["bench"]["throttled"]
    value["bench"]["temperature"] = [60.0]
    assert read_result(write(tmp_path, value)).bench == conditions
    del value["bench"]["runs"]
    with pytest.raises(InputError, match="runs"):
        read_result(write(tmp_path, value))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("clock_mhz", [2520.0], "clock_mhz has 1 entries, expected 4 or none"),
        ("minutes", [{"minute": 0}], "an entry of minutes has no runs"),
        ("others", [{"label": "pytorch", "runtime": 5, "launches": "", "batch": 1}], "an entry of others has no runtime"),
    ],
)
def test_conditions_of_another_form_are_one_line(tmp_path: Path, field: str, value: Any, said: str) -> None:
    conditions = Conditions("own", 10, 2, 1, None, 2, 2, False, "not applicable", "RTX 4090")
    told = describe_bench(Bench(Report("b", "onnx-int8", "a runtime", "a machine", 10, ()), conditions, IDENTITY))
    told["bench"][field] = value
    with pytest.raises(InputError, match=said):
        read_result(write(tmp_path, told))


DAMAGE: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no identity": (lambda v: v.pop("identity"), "does not say which bundle"),
    "an identity that is none": (lambda v: v.update(identity="../../etc"), "identity is no sha256"),
    "another kind": (lambda v: v.update(kind="gossip"), "its kind is 'gossip'"),
    "another format": (lambda v: v.update(format=99), "its format is 99"),
    "no label": (lambda v: v.update(label=""), "its label has 0 letters"),
    "a long label": (lambda v: v.update(label="x" * 300), "its label has 300 letters"),
    "a long text": (lambda v: v.update(driver="x" * 5000), "a text in it has 5,000 letters"),
    "a long name": (lambda v: v["versions"].update({"x" * 5000: "1"}), "a text in it has 5,000 letters"),
    "a long list": (lambda v: v.update(blocks=[0] * 10_001), "a list in it has"),
    "nested": (lambda v: v.update(bench=json.loads("[" * 20 + "]" * 20)), "nested too deep"),
    "a row without a value": (lambda v: v["rows"][0].pop("value"), "value"),
    "a value that is text": (lambda v: v["rows"][0].update(value="9"), "found '9'"),
    "a check of another type": (lambda v: v.update(checks=[3]), "expected an object"),
    "one field more": (lambda v: v.update(more=1), "more"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_result_is_one_line(tmp_path: Path, case: str) -> None:
    change, said = DAMAGE[case]
    value = describe_result(make_result("lab"))
    change(value)
    with pytest.raises(InputError, match=said) as error:
        read_result(write(tmp_path, value))
    assert "validate BUNDLE --reference --out FILE" in str(error.value) and len(str(error.value)) < 700


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "nonsense", '{"identity": NaN}', "[" * 100_000, "\ud800".encode("utf-8", "surrogatepass")]
)
def test_what_is_no_result_is_one_line(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match="is no device's result"):
        read_result(path)


def test_a_file_longer_than_any_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "long.json"
    with path.open("wb") as file:
        file.truncate(LONGEST_FILE + 1)
    with pytest.raises(InputError, match="more than 4,194,304 bytes"):
        read_result(path)
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(InputError, match=r"pipe.json cannot be read: it is no regular file"):
        read_result(tmp_path / "pipe.json")
    with pytest.raises(InputError, match=r"nowhere.json cannot be read \(No such file or directory\)"):
        read_result(tmp_path / "nowhere.json")
