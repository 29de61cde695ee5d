"""Edits change weights as the formula says, lazily, survive the disk, and are refused where they do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sprint_export.errors import BundleError
from sprint_export.nouns.student import Component
from sprint_export.quantize.mend.edits import EDITS_FILE, edit_component, pack_codes, read_edits, write_edits
from sprint_export.quantize.tensor_files import hash_tensors
from sprint_export.weights import LazyHandle, constant


def make_component() -> Component:
    random = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Conv2d(4, 2, 3))
    weights = {name: torch.randn(value.shape, generator=random) for name, value in module.state_dict().items()}
    return Component("vae_decoder", module, {name: constant(value) for name, value in weights.items()})


ROWS, COLUMNS, ADDED = torch.tensor([2.0, 0.5, 1.0, 4.0]), torch.tensor([1.0, 8.0, 0.25]), torch.tensor([0.1, -0.2])
CODES = {"1.weight/codes": pack_codes(torch.arange(-8, 64).remainder(15).sub(7).to(torch.int8).reshape(2, 36))}
CODES |= {"1.weight/scales": torch.tensor([[0.5, 2.0], [0.25, 1.0]])}  # a 3x3 kernel over 4 channels: 36 values, 18 a scale
EDITS = {"0.weight/rows": ROWS, "0.weight/columns": COLUMNS, "1.weight/columns": 1 / ROWS, "1.bias/added": ADDED}


def test_weights_are_what_the_formula_says() -> None:
    old = make_component()
    new = edit_component(old, EDITS)

    def load(name: str) -> torch.Tensor:
        return old.weights[name].load()

    assert torch.equal(new.weights["0.weight"].load(), ROWS[:, None] * load("0.weight") * COLUMNS)
    assert torch.equal(new.weights["1.weight"].load(), load("1.weight") / ROWS[None, :, None, None])
    assert torch.equal(new.weights["1.bias"].load(), load("1.bias") + ADDED)
    assert new.weights["0.bias"] is old.weights["0.bias"]
    assert not old.edits
    assert new.edits.keys() == EDITS.keys()


def test_edits_one_after_the_other_are_one_edit() -> None:
    """What is kept makes, from the first component, the weights that the steps made."""
    old = make_component()
    stepwise = edit_component(edit_component(old, EDITS), {"0.weight/rows": ROWS, "1.bias/added": ADDED})
    at_once = edit_component(old, stepwise.edits)
    for name in old.weights:
        torch.testing.assert_close(stepwise.weights[name].load(), at_once.weights[name].load())


def test_codes_stand_in_place_of_a_weight_whatever_was_done_to_it() -> None:
    old = make_component()
    first = edit_component(old, {"1.weight/columns": 1 / ROWS})
    new = edit_component(first, CODES)
    wanted = torch.arange(-8, 64).remainder(15).sub(7).float().reshape(2, 2, 18) * CODES["1.weight/scales"][:, :, None]
    assert torch.equal(new.weights["1.weight"].load(), wanted.reshape(2, 4, 3, 3))
    assert torch.equal(edit_component(old, new.edits).weights["1.weight"].load(), new.weights["1.weight"].load())


@pytest.mark.parametrize("change", ["short", "float", "scales"])
def test_codes_that_do_not_fit_are_refused(change: str) -> None:
    wrong = {
        "short": {"1.weight/codes": CODES["1.weight/codes"][:, 1:]},
        "float": {"1.weight/codes": CODES["1.weight/codes"].float()},
        "scales": {"1.weight/scales": torch.ones(2, 5)},
    }
    with pytest.raises(BundleError, match=r"vae_decoder: edit '1.weight/(codes|scales)' of shape .* does not fit"):
        edit_component(make_component(), CODES | wrong[change])


@pytest.mark.parametrize("kind", ["codes", "scales"])
def test_codes_and_scales_come_together(kind: str) -> None:
    with pytest.raises(BundleError, match=rf"vae_decoder: 1.weight has {kind} alone, expected codes and scales together"):
        edit_component(make_component(), {f"1.weight/{kind}": CODES[f"1.weight/{kind}"]})


def test_nothing_is_loaded_before_it_is_asked_for() -> None:
    def refuse() -> torch.Tensor:
        raise AssertionError("loaded")

    old = make_component()
    lazy = {name: LazyHandle(handle.shape, torch.bfloat16, refuse) for name, handle in old.weights.items()}
    new = edit_component(Component(old.role, old.module, lazy), EDITS)
    assert (new.weights["0.weight"].shape, new.weights["0.weight"].dtype) == ((4, 3), torch.float32)
    with pytest.raises(AssertionError, match="loaded"):
        new.weights["0.weight"].load()


@pytest.mark.parametrize(
    ("key", "size", "reason"),
    [
        ("2.weight/rows", 4, "no such weight"),
        ("0.weight/rows", 3, r"the weight has shape \(4, 3\)"),
        ("0.bias/columns", 4, r"the weight has shape \(4,\)"),
        ("0.weight/scale", 4, r"expected <weight>/rows\|columns\|heads\|added\|codes\|scales"),
        ("0.weight", 4, "no such weight"),
    ],
)
def test_an_edit_that_does_not_fit_is_refused(key: str, size: int, reason: str) -> None:
    with pytest.raises(BundleError, match=rf"vae_decoder: edit '{key}' of shape \({size},\) does not fit.*{reason}"):
        edit_component(make_component(), {key: torch.ones(size)})


def test_edits_survive_the_disk(tmp_path: Path) -> None:
    write_edits(EDITS, tmp_path)
    found = read_edits(tmp_path / EDITS_FILE)
    assert found.keys() == EDITS.keys()
    assert all(torch.equal(found[key], EDITS[key]) for key in EDITS)
    assert hash_tensors(found) == hash_tensors(EDITS)


def test_no_edits_make_no_file(tmp_path: Path) -> None:
    write_edits({}, tmp_path)
    assert not list(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == []
    assert read_edits(None) == {}


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    write_edits(EDITS, tmp_path)
    path = tmp_path / EDITS_FILE
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(BundleError, match=rf"{EDITS_FILE} is damaged .*; copy the bundle or export the student again"):
        read_edits(path)


def test_the_hash_knows_names_and_values() -> None:
    changed = [EDITS | {"1.bias/added": ADDED + 1e-6}, {k.replace("1.bias", "0.bias"): v for k, v in EDITS.items()}, {}]
    assert len({hash_tensors(edits) for edits in [EDITS, *changed]}) == 4


def test_edits_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    write_edits({"conv.weight/rows": torch.tensor([1.0, float("nan")])}, tmp_path)
    with pytest.raises(BundleError, match=r"holds NaN or infinity in 'conv\.weight/rows'"):
        read_edits(tmp_path / EDITS_FILE)
