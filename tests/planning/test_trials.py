"""A network of few blocks with made-up weights, built, costs what the whole one does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sprint_export.cache import cache_folder
from sprint_export.conversion import keep_components
from sprint_export.nouns.order import Deployment, Order
from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.nouns.student import Student
from sprint_export.nouns.work import Work
from sprint_export.planning import building, trials
from sprint_export.planning.building import round_plainly
from sprint_export.planning.cutting import ROWS, cut_network
from sprint_export.planning.layer_kernels import LayerWork
from sprint_export.planning.prices import list_peaks, price_work
from sprint_export.planning.trials import Table, Trials
from sprint_export.run_checks import check_order
from sprint_export.specialize import specialize_student
from sprint_export.students.sana_sprint.presets import tiny

LAYERS = 8

pytestmark = pytest.mark.usefixtures("own_cache")  # made-up tables are no other test's


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return check_order(Order(target="trt-fp8", out=tmp_path / "bundle")).deployment


def test_four_blocks_of_eight_are_priced_as_eight(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    student = specialize_student(tiny(num_layers=LAYERS))
    rounded = round_plainly(keep_components(student, ("transformer",)), deployment)
    prices = list_peaks(deployment.device, "gpu")
    assert prices is not None
    short = Trials(rounded, "transformer", deployment, prices)
    expected = short.price(frozenset())
    blocks = {name.split(".")[1] for name in short._cut.component.layers}
    assert blocks == {"0", "1", "2", "3"}
    whole, _ = building.build_network(rounded, "transformer", deployment)
    assert whole is not None
    real = price_work([each.work for each in whole], prices).milliseconds
    assert expected == pytest.approx(real, rel=0.01)
    kernels = short._build(frozenset()).kernels
    assert len(kernels) < 0.7 * len(whole)

    monkeypatch.setattr(trials, "build_network", lambda *_: pytest.fail("it is kept"))
    again = Trials(rounded, "transformer", deployment, prices)
    assert again.price(frozenset()) == expected
    assert again.join(frozenset()) == short.join(frozenset())
    file = again._find_file(cache_folder() / trials.KIND, frozenset())
    text = file.read_text("utf-8")
    digit = text.rindex("1")
    monkeypatch.setattr(trials, "build_network", lambda *_: (kernels, 1))
    for damage in ("{", text[:digit] + "2" + text[digit + 1 :], text[:-20]):
        file.write_text(damage, "utf-8")
        damaged = Trials(rounded, "transformer", deployment, prices)
        assert damaged._build(frozenset()) == Table(kernels), "what is not as it was written is built again"
        assert file.read_text("utf-8") == text


def test_a_run_that_was_killed_goes_on_with_what_it_built(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    rounded = round_plainly(keep_components(specialize_student(tiny()), ("text_encoder",)), deployment)
    prices = list_peaks(deployment.device, "gpu")
    assert prices is not None
    kernels, left = (LayerWork(Work("product", 1e9, "fp8", 1.0)),), frozenset(rounded.components["text_encoder"].layers)
    built: list[int] = []

    def build(student: Student, role: str, _: Deployment) -> tuple[tuple[LayerWork, ...], int]:
        built.append(len(student.components[role].layers))
        if len(built) == 2:
            raise KeyboardInterrupt
        return kernels, 1

    monkeypatch.setattr(trials, "build_network", build)
    killed = Trials(rounded, "text_encoder", deployment, prices)
    price = killed.price(frozenset())
    with pytest.raises(KeyboardInterrupt):
        killed.price(left)
    again = Trials(rounded, "text_encoder", deployment, prices)
    assert (again.price(frozenset()), again.price(left)) == (price, price)
    assert built == [len(left), 0, 0], "the first is not built twice"
    other = replace(deployment, precision="int8")
    Trials(round_plainly(rounded, other), "text_encoder", other, prices).price(frozenset())
    assert built == [len(left), 0, 0, len(left)], "another precision is another engine"


def test_the_last_block_stands_for_the_last_and_blocks_that_are_rounded_in_different_ways_all_stay() -> None:
    component = specialize_student(tiny(num_layers=LAYERS)).components["transformer"]
    names = [f"transformer_blocks.{i}.{name}" for i in range(LAYERS) for name in ("attn1.to_q", "ff.conv_point")]
    layer, other = (QuantizedLayer(scheme, 1.0, None, "bf16") for scheme in ("fp8", "w8a8"))
    last = f"transformer_blocks.{LAYERS - 1}.attn1.to_q"
    cut = cut_network(replace(component, layers={**dict.fromkeys(names[:-1], layer), last: other}))
    assert [each.left_out for each in cut.repeats] == [LAYERS - 4]
    assert cut.component.layers["transformer_blocks.3.attn1.to_q"] == other
    assert cut.names["transformer_blocks.3.attn1.to_q"] == last
    assert "transformer_blocks.3.ff.conv_point" not in cut.component.layers, "the last block's is in float"
    assert cut.component.layers["transformer_blocks.2.attn1.to_q"] == layer
    uneven = cut_network(replace(component, layers={**dict.fromkeys(names, layer), names[4]: other}))
    assert uneven.repeats == ()
    assert set(uneven.component.layers) == set(names)
    assert uneven.component.layers[names[4]] == other


def test_a_table_of_words_keeps_few_rows_and_weights_are_made_up() -> None:
    """The random student's own table is small; a larger one stands in its place."""
    component = specialize_student(tiny()).components["text_encoder"]
    path, table = next((path, part) for path, part in component.module.named_modules() if isinstance(part, torch.nn.Embedding))
    parent, _, name = path.rpartition(".")
    setattr(component.module.get_submodule(parent), name, torch.nn.Embedding(2 * ROWS, table.embedding_dim, device="meta"))
    cut = cut_network(component).component
    assert cut.weights[f"{path}.weight"].shape == (ROWS, table.embedding_dim)
    assert component.module.get_submodule(path).num_embeddings == 2 * ROWS, "the student's own is not changed"
    for each, handle in cut.weights.items():
        value = handle.load()
        assert (tuple(value.shape), value.dtype) == (handle.shape, handle.dtype), each
