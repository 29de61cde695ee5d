"""Target `coreai`: what it refuses, what it fills in, and how an asset that is not whole is met."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import importlib.util
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from sprint_export.errors import BundleError, InputError, MachineError, RefusedError
from sprint_export.nouns.bundle import ComponentRecord
from sprint_export.nouns.target import Device
from sprint_export.options import complete_options
from sprint_export.runtimes.coreai_asset.runtime import RUNTIME
from sprint_export.runtimes.coreai_asset.target import TARGET
from tests.export.to_onnx.graphs import small_component, small_feeds

PHONE = Device("phone", "a phone", None, apple_chip=("A", 15), compute_unit="neural-engine", part_megabytes=1000)
MAC = Device("mac", "a Mac", None, apple_chip=("M", 4), compute_unit="gpu", part_megabytes=2000)
PC = Device("pc", "a PC", None)


@pytest.fixture(scope="module")
def asset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ComponentRecord]:
    """A small graph in half precision."""
    pytest.importorskip("coreai_torch", reason="needs the extra 'coreai'")
    from sprint_export.export.to_coreai.writer import EXPORTER

    folder = tmp_path_factory.mktemp("asset")
    return folder, EXPORTER.write_component(
        small_component(), TARGET, "fp16", {"deployment_target": "iOS27", "compute_unit": "neural-engine"}, folder
    )


def open_copy(asset: tuple[Path, ComponentRecord], folder: Path, **changes: object) -> object:
    record = dataclasses.replace(asset[1], **changes)  # type: ignore[arg-type]  # fields by name
    return RUNTIME.open_session(folder / record.parts[0].graph, record.inputs, record.outputs)


@pytest.fixture
def copied(asset: tuple[Path, ComponentRecord], tmp_path: Path) -> Path:
    return Path(shutil.copytree(asset[0], tmp_path / "copy"))


def test_pairs_that_cannot_work_say_what_can() -> None:
    for device in (PHONE, MAC):
        assert [TARGET.refuses(precision, device) for precision in ("fp32", "fp16", "int8", "fp8")] == [None] * 4
    assert TARGET.refuses("w8a8", MAC) is None
    assert TARGET.refuses("w8a8", PHONE) == (
        "8-bit arithmetic begins with A17 Pro and M4, phone has A15 and would run it slower than 16-bit; "
        "use coreai-int8, which stores weights in 8 bits"
    )
    assert TARGET.refuses("w4", MAC) == "coreai has no precision 'w4'; choose from: fp32, fp16, int8, w8a8, fp8"
    refused = TARGET.refuses("fp8", PC)
    assert refused is not None
    assert refused.startswith("Core AI runs on Apple devices and pc is none; choose from: ipad-m4, iphone-")
    assert refused.endswith("; elsewhere use onnx-int8")


def test_options_are_filled_in() -> None:
    assert complete_options(TARGET, "fp16", PHONE, {}) == {"deployment_target": "iOS27", "compute_unit": "all"}
    given = {"deployment_target": "macOS27", "compute_unit": "neural-engine"}
    assert complete_options(TARGET, "fp16", MAC, given) == given


@pytest.mark.parametrize(("precision", "nearest"), [("fp8", "coreml-int8"), ("int8", "coreml-int8"), ("fp16", "coreml-fp16")])
def test_an_older_system_is_refused_with_what_runs_there(precision: str, nearest: str) -> None:
    with pytest.raises(
        RefusedError,
        match=f"^--deployment-target iOS18: Core AI begins with iOS27 and macOS27; for older systems the nearest is {nearest}$",
    ):
        complete_options(TARGET, precision, PHONE, {"deployment_target": "iOS18"})


def test_unknown_and_foreign_options() -> None:
    with pytest.raises(InputError, match=r"^unknown compute unit 'ane'; choose from: all, cpu, gpu, neural-engine$"):
        complete_options(TARGET, "fp16", PHONE, {"compute_unit": "ane"})
    with pytest.raises(
        RefusedError, match=r"^coreai-fp16 --part-mb 500: a coreai component is one file; use a coreml target for several$"
    ):
        complete_options(TARGET, "fp16", PHONE, {"part_megabytes": 500})


def test_a_session_says_what_computes_and_can_run_beside_another_loop(asset: tuple[Path, ComponentRecord]) -> None:
    folder, record = asset
    session = RUNTIME.open_session(folder / record.parts[0].graph, record.inputs, record.outputs)
    assert session.description.startswith("Core AI 1.")
    assert session.description.endswith(" CPU, fp32-compute copy")
    alone = session.run(small_feeds())

    async def inside() -> dict[str, np.ndarray]:
        return session.run({"latents": small_feeds()["latents"].astype(np.float64)})

    found = asyncio.run(inside())
    assert found["image"].dtype == np.float32
    assert found["image"].shape == (1, 64, 48)
    np.testing.assert_array_equal(found["image"], alone["image"])


def test_a_session_ends_with_its_last_reference(asset: tuple[Path, ComponentRecord]) -> None:
    def workers() -> int:
        gc.collect()
        return sum(thread.name == "core-ai" for thread in threading.enumerate())

    before = workers()
    session = open_copy(asset, asset[0])
    assert workers() == before + 1
    del session
    assert workers() == before


@pytest.mark.parametrize("damage", ["truncated", "altered", "empty"])
def test_a_damaged_program_is_an_error_and_not_the_end_of_the_process(
    asset: tuple[Path, ComponentRecord], copied: Path, damage: str
) -> None:
    file = copied / "model.aimodel" / "main.mlirb"
    content = bytearray(file.read_bytes())
    content[300] ^= 255
    file.write_bytes({"truncated": file.read_bytes()[:-1], "altered": bytes(content), "empty": b""}[damage])
    with pytest.raises(
        BundleError,
        match=r"model.aimodel/main.mlirb has SHA-256 [0-9a-f]{16}..., main.hash says [0-9a-f]{16}...: the file is truncated or "
        "altered; export the student again$",
    ):
        open_copy(asset, copied)


@pytest.mark.parametrize("name", ["main.mlirb", "main.hash", "metadata.json"])
def test_a_missing_file_is_named(asset: tuple[Path, ComponentRecord], copied: Path, name: str) -> None:
    (copied / "model.aimodel" / name).unlink()
    with pytest.raises(BundleError, match=rf"is not a whole Core AI asset \(FileNotFoundError.*{name}"):
        open_copy(asset, copied)


def test_metadata_of_another_tool_is_refused(asset: tuple[Path, ComponentRecord], copied: Path) -> None:
    (copied / "model.aimodel" / "metadata.json").write_text("{}")
    with pytest.raises(BundleError, match=r"is not a whole Core AI asset \(KeyError: 'creatorDefinedMetadata'\)"):
        open_copy(asset, copied)


def test_another_interface_than_the_manifests_is_refused(asset: tuple[Path, ComponentRecord]) -> None:
    outputs = (dataclasses.replace(asset[1].outputs[0], name="picture"),)
    with pytest.raises(BundleError, match=r"has outputs \['image'\], the manifest says \['picture'\]; export the student again"):
        open_copy(asset, asset[0], outputs=outputs)


def test_a_missing_library_is_named(copied: Path, asset: tuple[Path, ComponentRecord], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "coreai"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "coreai", None)
    with pytest.raises(MachineError, match=r"not installed; run: pip install 'sprint-export\[coreai\]'"):
        open_copy(asset, copied)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert RUNTIME.can_run() == (
        "coreai-core is not installed; run: pip install 'sprint-export[coreai]' (x86-64 Linux, Apple silicon)"
    )
