"""What keeps a Neural Engine from a package: rows of the embedded student in both layouts, and of a package made by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("coremltools")
from coremltools.converters.mil import Builder as mb  # noqa: N813  # as Apple's documentation writes it

from sprint_export.export.bundle import make_artifact, read_bundle
from sprint_export.nouns.bundle import Bundle, ComponentRecord, Part
from sprint_export.nouns.report import Measurement
from sprint_export.runtimes.coreml.neural_engine import MAX_AXIS, MAX_RANK, check_packages
from tests.bundles import MAC, shared_bundle
from tests.runtimes.coreml.mil.mil_programs import Spec, save_program

CLEAN = {"ne_rank_above_4": 0.0, "ne_long_axis": 0.0, "ne_float32": 0.0, "ne_on_cpu": 0.0}
MANY = 40  # transposes of four blocks whose tokens stand last


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bundle]:
    """The embedded student's transformer for a device."""
    base = tmp_path_factory.getbasetemp()

    def make(device: str) -> Bundle:
        bundle = read_bundle(shared_bundle(base, "coreml-fp16", **(MAC if device == MAC["device"] else {})))
        assert bundle.device == device
        components = tuple(record for record in bundle.components if record.role == "transformer")
        return dataclasses.replace(bundle, components=components)

    return make


def by_metric(rows: list[Measurement]) -> dict[str, Measurement]:
    found = {row.metric: row for row in rows}
    assert len(found) == len(rows)
    return found


def test_a_phone_gets_a_transformer_that_an_engine_can_take(made: Callable[[str], Bundle]) -> None:
    bundle = made("iphone-15-pro")
    rows = by_metric(check_packages(bundle))
    assert {metric: row.value for metric, row in rows.items() if metric != "largest_weight_file_mb"} == CLEAN | {"transposes": 1}
    assert {row.component for row in rows.values()} == {"transformer"}
    assert rows["ne_rank_above_4"].note == "values of rank above 4"
    (weights,) = [a for a in bundle.artifacts if (a.role, a.kind) == ("transformer", "weights")]
    largest = rows["largest_weight_file_mb"]
    assert (largest.value, largest.unit, largest.note) == (weights.bytes / 1e6, "MB", "1 package(s)")


def test_a_mac_gets_its_tokens_last_and_pays_in_transposes(made: Callable[[str], Bundle]) -> None:
    rows = by_metric(check_packages(made("mac-m4")))
    assert rows["transposes"].value >= MANY
    assert rows["transposes"].note == "each moves its tensor through memory", "no first one: they are everywhere"
    assert {metric: rows[metric].value for metric in CLEAN} == CLEAN


def make_bundle(like: Bundle, packages: list[Path]) -> Bundle:
    """A bundle of one component whose parts are these packages."""
    folder = packages[0].parent
    parts = tuple(Part(f"{package.name}/Data/com.apple.CoreML/model.mlmodel", (), ()) for package in packages)
    record = ComponentRecord(folder.name, (), (), parts, {}, {})
    files = [path for package in packages for path in sorted(package.rglob("*")) if path.is_file()]
    artifacts = tuple(make_artifact(folder.parent, path, folder.name, "package", "coreml") for path in files)
    return dataclasses.replace(like, folder=folder.parent, components=(record,), artifacts=artifacts)


def test_a_package_made_by_hand_is_counted_and_the_first_of_each_named(made: Callable[[str], Bundle], tmp_path: Path) -> None:
    """Two values of rank 5, one axis too long, float32 in three operations, a gather, a cast that does not count."""

    def build(x: object, row: object) -> object:
        half = mb.cast(x=x, dtype="fp16", name="half")
        deep = mb.reshape(x=half, shape=[1, 2, 2, 2, MAX_AXIS // 8], name="deep")
        turned = mb.transpose(x=deep, perm=[0, 2, 1, 3, 4], name="turned")
        flat = mb.reshape(x=turned, shape=[1, MAX_AXIS], name="flat")
        long = mb.concat(values=[flat, flat], axis=1, name="long")
        wide = mb.cast(x=mb.reduce_max(x=long, axes=[1], keep_dims=True, name="peak"), dtype="fp32", name="wide")
        doubled = mb.add(x=wide, y=wide, name="doubled")
        table = np.arange(100, dtype=np.float32)
        return mb.mul(x=doubled, y=mb.gather(x=table, indices=row, axis=0, name="looked_up"), name="y")

    specs: list[Spec] = [((1, MAX_AXIS), "fp32"), ((1,), "int32")]
    (tmp_path / "transformer").mkdir()
    package = save_program(tmp_path / "transformer" / "hand.mlpackage", specs, build)
    rows = by_metric(check_packages(make_bundle(made("iphone-15-pro"), [package])))
    assert {metric: (row.value, row.note) for metric, row in rows.items() if metric != "largest_weight_file_mb"} == {
        "ne_rank_above_4": (2.0, f"values of rank above {MAX_RANK}; first: reshape deep"),
        "ne_long_axis": (1.0, f"an axis beyond {MAX_AXIS}; first: concat long"),
        "ne_float32": (3.0, "float32 arithmetic; first: add doubled"),
        "ne_on_cpu": (1.0, "operations known to run on the CPU; first: gather looked_up"),
        "transposes": (1.0, "each moves its tensor through memory"),
    }


def test_parts_are_counted_together_and_one_may_have_no_weights(made: Callable[[str], Bundle], tmp_path: Path) -> None:
    (tmp_path / "transformer").mkdir()
    names = ("model_1.mlpackage", "model_2.mlpackage")
    packages = [
        save_program(tmp_path / "transformer" / name, [((1, 4), "fp32")], lambda x: mb.relu(x=x, name="y")) for name in names
    ]
    rows = by_metric(check_packages(make_bundle(made("iphone-15-pro"), packages)))
    assert (rows["ne_float32"].value, rows["ne_float32"].note) == (2.0, "float32 arithmetic; first: relu y")
    assert (rows["largest_weight_file_mb"].value, rows["largest_weight_file_mb"].note) == (0.0, "2 package(s)")
