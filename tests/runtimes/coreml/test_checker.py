"""Runtime `coreml-checker`: it agrees with Apple's own CPU runtime, says what overflowed, and meets damaged packages."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("coremltools")
from coremltools.converters.mil import Builder as mb  # noqa: N813  # as Apple's documentation writes it

from sprint_export.errors import BundleError, MachineError
from sprint_export.export.to_coreml.writer import EXPORTER, MODEL
from sprint_export.nouns.report import Finding
from sprint_export.nouns.student import Component, Student, TensorSpec
from sprint_export.registry import load_target
from sprint_export.runtimes.coreai_asset.runtime import RUNTIME as COREAI
from sprint_export.runtimes.coreai_asset.target import TARGET as COREAI_TARGET
from sprint_export.runtimes.coreml.checker import RUNTIME, CheckerSession
from sprint_export.session import JoinedSession
from sprint_export.specialize import specialize_student
from tests.export.to_onnx.graphs import make_feeds
from tests.made_student import Array, relative_error
from tests.runtimes.coreml.mil.mil_programs import save_program
from tests.tree import ROLES

TARGET = load_target("coreml")
MAX_ERROR = 1e-5  # largest deviation over the largest value: float32 sums in another order
X, Y = TensorSpec("x", "float32", (1, 8), "in"), TensorSpec("y", "float32", (1, 4), "out")


@pytest.fixture(scope="module")
def special(tiny_student: Student) -> Student:
    return specialize_student(tiny_student)


@pytest.fixture(scope="module")
def feeds(special: Student) -> dict[str, dict[str, Array]]:
    return make_feeds(special)


def run_checker(component: Component, feeds: dict[str, Array], folder: Path) -> Array:
    folder.mkdir()
    record = EXPORTER.write_component(component, TARGET, "fp32", {"deployment_target": "iOS18", "compute_unit": "all"}, folder)
    (part,) = record.parts
    session = RUNTIME.open_session(folder / part.graph, part.inputs, part.outputs)
    assert session.description == "numeric checker for Core ML (PyTorch CPU, declared types)"
    return session.run(feeds)[component.outputs[0].name]


def run_core_ai(component: Component, feeds: dict[str, Array], folder: Path) -> Array:
    from sprint_export.export.to_coreai import writer as to_coreai

    folder.mkdir()
    record = to_coreai.EXPORTER.write_component(
        component, COREAI_TARGET, "fp32", {"deployment_target": "iOS27", "compute_unit": "gpu"}, folder
    )
    session = COREAI.open_session(folder / record.parts[0].graph, record.inputs, record.outputs)
    return session.run(feeds)[component.outputs[0].name]


@pytest.mark.parametrize("role", ROLES)
def test_two_formats_two_converters_and_two_evaluators_agree(
    role: str, special: Student, feeds: dict[str, dict[str, Array]], tmp_path: Path
) -> None:
    """Core AI's runtime is Apple's: behind torch.export the two share no line."""
    pytest.importorskip("coreai_torch", reason="needs the extra 'coreai'")
    component = special.components[role]
    ours = run_checker(component, feeds[role], tmp_path / "coreml")
    theirs = run_core_ai(component, feeds[role], tmp_path / "coreai")
    assert ours.dtype == theirs.dtype == np.float32
    deviation = relative_error(ours, theirs)
    assert deviation <= MAX_ERROR, f"{role}: {deviation:.1e} of the range, tolerance {MAX_ERROR:.0e}"


def save_linear(folder: Path) -> Path:
    """y = x W^T with W of ones, in half precision: sums of eight."""

    def build(x: object) -> object:
        half = mb.linear(x=mb.cast(x=x, dtype="fp16", name="half"), weight=np.ones((4, 8), np.float16), name="dense")
        return mb.cast(x=half, dtype="fp32", name="y")

    return save_program(folder / "model.mlpackage", [((1, 8), "fp32")], build) / MODEL


def rows_of(session: object) -> dict[str, Finding]:
    assert isinstance(session, CheckerSession | JoinedSession)
    return {row.metric: row for row in session.findings()}


def test_an_overflow_is_counted_and_its_operation_named(tmp_path: Path) -> None:
    session = RUNTIME.open_session(save_linear(tmp_path), (X,), (Y,))
    found = session.run({"x": np.full((1, 8), 1e4, np.float32)})["y"]
    assert np.isinf(found).all(), "80,000 is beyond half precision"
    rows = rows_of(session)
    assert {metric: row.value for metric, row in rows.items()} == {"infinities": 8, "nans": 0, "largest_magnitude": 1e4}
    assert rows["infinities"].note == "first at op 'dense' (linear)"


def test_what_half_precision_holds_is_found_sound_over_all_runs(tmp_path: Path) -> None:
    session = RUNTIME.open_session(save_linear(tmp_path), (X,), (Y,))
    for value in (8000.0, 10.0):
        assert session.run({"x": np.full((1, 8), value, np.float32)})["y"].tolist() == [[8 * value] * 4]
    assert list(rows_of(session).values()) == [
        Finding("infinities", 0, "", note="over all operations"),
        Finding("nans", 0, "", note="over all operations"),
        Finding("largest_magnitude", 64000.0, "", "half precision ends at 65504", is_largest=True),
    ]


def test_a_chain_of_parts_tells_of_the_part_that_overflowed(tmp_path: Path) -> None:
    """Counts add up, magnitudes do not, and the note is the faulty part's."""
    z = TensorSpec("z", "float32", (1, 8), "in between")
    first = save_program(tmp_path / "first.mlpackage", [((1, 8), "fp32")], lambda x: mb.relu(x=x, name="z")) / MODEL

    def build(z: object) -> object:
        grown = mb.exp(x=mb.cast(x=z, dtype="fp16", name="half"), name="grown")
        return mb.cast(x=grown, dtype="fp32", name="y")

    second = save_program(tmp_path / "second.mlpackage", [((1, 8), "fp32")], build) / MODEL
    chain = JoinedSession([RUNTIME.open_session(first, (X,), (z,)), RUNTIME.open_session(second, (z,), (Y,))])
    chain.run({"x": np.full((1, 8), 20.0, np.float32)})
    rows = rows_of(chain)
    assert (rows["infinities"].value, rows["infinities"].note) == (16, "first at op 'grown' (exp)")
    assert rows["largest_magnitude"].value == 20.0


def test_inputs_and_outputs_are_cast_to_the_specs_types(tmp_path: Path) -> None:
    package = save_program(
        tmp_path / "model.mlpackage",
        [((1, 3), "int32"), ((1, 3), "fp32")],
        lambda ids, x: mb.add(x=mb.cast(x=ids, dtype="fp32"), y=x, name="y"),
    )
    ids, x = TensorSpec("ids", "int32", (1, 3), "in"), TensorSpec("x", "float32", (1, 3), "in")
    session = RUNTIME.open_session(package / MODEL, (ids, x), (TensorSpec("y", "float16", (1, 3), "out"),))
    found = session.run(
        {"ids": np.array([[1, 2, 3]], np.int64), "x": np.array([[0.5, 0.5, 0.5]], np.float64), "more": np.ones(1)}
    )
    assert found["y"].dtype == np.float16
    assert found["y"].tolist() == [[1.5, 2.5, 3.5]]


def test_a_package_that_cannot_be_read_says_what_to_do(tmp_path: Path) -> None:
    graph = save_linear(tmp_path)
    whole = graph.read_bytes()
    graph.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        BundleError, match=rf"model\.mlmodel is damaged \({len(whole) // 2} bytes: .*\); export the student again$"
    ):
        RUNTIME.open_session(graph, (X,), (Y,))
    graph.write_bytes(whole)
    weights = graph.parent / "weights" / "weight.bin"
    weights.write_bytes(weights.read_bytes()[:64])
    with pytest.raises(BundleError, match=r"weight\.bin is truncated at 64 bytes: .* lies beyond; export the student again$"):
        RUNTIME.open_session(graph, (X,), (Y,))


def test_what_is_missing_is_named_with_the_way_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert RUNTIME.can_run() is None
    monkeypatch.setitem(sys.modules, "coremltools", None)
    with pytest.raises(MachineError, match=r"^coremltools is not installed; run: pip install 'sprint-export\[coreml\]'$"):
        RUNTIME.open_session(tmp_path / "model.mlpackage" / MODEL, (X,), (Y,))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "coremltools" else object())
    assert RUNTIME.can_run() == "coremltools is not installed; run: pip install 'sprint-export[coreml,export]'"
