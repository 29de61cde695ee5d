"""Versions are compared by their numbers, and a message names both and what to install."""

from __future__ import annotations

import pytest

from sprint_export.libraries import require
from sprint_export.registry import load_target
from sprint_export.runtimes.coreml.runtime import RUNTIME as COREML
from sprint_export.runtimes.coreml.target import SYSTEMS, TARGET
from sprint_export.runtimes.openvino_ir.runtime import RUNTIME as OPENVINO
from sprint_export.runtimes.openvino_ir.target import OLDEST
from sprint_export.versions import is_older, refuse_older, refuse_other


@pytest.mark.parametrize(
    ("version", "other", "answer"),
    [
        ("1.9.0", "1.21.0", True),
        ("1.21.0", "1.9.0", False),
        ("1.21", "1.21.0", False),
        ("1.21.0", "1.21", False),
        ("1.21.0", "1.21.1", True),
        ("2026.4.1-22051-4c0f47d-releases/2026/4", "2026.4.1", False),
        ("2024.6.0-17404-4c0f47d", "2025.0.0", True),
        ("1.33.0.dev20261101", "1.32.0", False),
        ("", "1.21.0", True),
        ("1.21.0", "", False),
        ("1.21.0", "no version", False),
        ("1.21.0", "9" * 5000, True),
    ],
)
def test_numbers_decide_what_is_older(version: str, other: str, answer: bool) -> None:
    assert is_older(version, other) is answer


def test_a_message_names_both_versions_and_the_command() -> None:
    assert refuse_older("openvino", "2024.6.0", "2024.6.0") is None
    assert refuse_older("openvino", "2024.5.0-1234-abc", "2024.6.0") == (
        "openvino 2024.5.0 is installed and 2024.6.0 is the oldest that opens this bundle; run: pip install 'openvino>=2024.6.0'"
    )
    assert refuse_other("tensorrt-rtx", "1.7.1.116", "1.7.1.116") is None
    assert refuse_other("tensorrt-rtx", "1.8.0", "1.7.1.116") == (
        "tensorrt-rtx 1.8.0 is installed and an engine opens in the version that built it, 1.7.1.116; "
        "run: pip install 'tensorrt-rtx==1.7.1.116', or build it again: sprint-export build"
    )


def test_openvino_and_macos_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    openvino = require("openvino", "openvino")
    assert OPENVINO.refuse_version({"openvino": OLDEST}) is None
    monkeypatch.setattr(openvino, "__version__", "2023.3.0-1-x")
    assert "openvino 2023.3.0 is installed and 2024.6.0 is the oldest" in str(OPENVINO.refuse_version({"openvino": OLDEST}))
    monkeypatch.setattr("platform.mac_ver", lambda: ("14.2", ("", "", ""), ""))
    assert COREML.refuse_version({"iOS": "17", "macOS": "14"}) is None
    assert COREML.refuse_version({"iOS": "18", "macOS": "15"}) == (
        "macOS 14.2 runs here and 15 is the oldest that opens this bundle; export it with --deployment-target"
    )


@pytest.mark.parametrize(
    ("target", "system", "oldest"),
    [
        ("onnx", None, {"onnxruntime": "1.21.0"}),
        ("trt", None, {"onnxruntime": "1.21.0"}),
        ("openvino", None, {"openvino": "2024.6.0"}),
        ("coreml", "iOS17", {"iOS": "17", "macOS": "14"}),
        ("coreml", "macOS15", {"iOS": "18", "macOS": "15"}),
        ("coreml", "iOS26", {"iOS": "26", "macOS": "26"}),
        ("coreai", "macOS27", {"iOS": "27", "macOS": "27"}),
    ],
)
def test_every_target_names_what_opens_its_files(target: str, system: str | None, oldest: dict[str, str]) -> None:
    assert load_target(target).oldest({"deployment_target": system or ""}) == oldest


def test_every_system_of_core_ml_has_its_pair() -> None:
    for system in SYSTEMS:
        assert len(TARGET.oldest({"deployment_target": system})) == 2
