"""Handles load when asked and not before; checkpoints that do not fit are refused by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from sprint_export import weights as weights_module
from sprint_export.errors import InputError
from sprint_export.weights import (
    FileHandle,
    Handle,
    LazyHandle,
    check_fit,
    constant,
    materialize,
    open_safetensors,
    random_handle,
)


class Spy:
    """Counts which tensors safe_open hands out, while doing its work."""

    def __init__(self, original: Any) -> None:
        self.original, self.pulled = original, list[str]()

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        spy, file = self, self.original(*arguments, **named)

        class Opened:
            def __enter__(self) -> Any:
                file.__enter__()
                return self

            def __exit__(self, *error: object) -> None:
                file.__exit__(*error)

            def __getattr__(self, name: str) -> Any:
                return getattr(file, name)

            def get_tensor(self, key: str) -> torch.Tensor:
                spy.pulled.append(key)
                value: torch.Tensor = file.get_tensor(key)
                return value

        return Opened()


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spy]:
    spy = Spy(safe_open)
    monkeypatch.setattr(weights_module, "safe_open", spy)
    yield spy


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    values = {"a.weight": torch.randn(4, 3), "a.bias": torch.randn(4).half(), "count": torch.arange(3)}
    save_file(values, tmp_path / "model.safetensors")
    return tmp_path


def test_opening_reads_no_tensor_and_loading_reads_one(folder: Path, spy: Spy) -> None:
    handles = open_safetensors(folder, "model")
    assert {name: (handle.shape, handle.dtype) for name, handle in handles.items()} == {
        "a.weight": ((4, 3), torch.float32),
        "a.bias": ((4,), torch.float16),
        "count": ((3,), torch.int64),
    }
    assert spy.pulled == []
    assert handles["a.bias"].load().dtype == torch.float16
    assert handles["count"].load().tolist() == [0, 1, 2]
    assert spy.pulled == ["a.bias", "count"]


def test_a_whole_student_opens_without_reading_a_tensor(made_folder: Path, spy: Spy) -> None:
    from sprint_export.specialize import specialize_student
    from sprint_export.students import load_student

    student = load_student(made_folder)
    assert spy.pulled == []
    specialize_student(student)
    assert spy.pulled, "the time path is computed at once"
    assert all("time_embed." in name or "scale_shift_table" in name for name in spy.pulled), "only the time path is"


def test_shards_are_joined_through_their_index(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "m-1.safetensors")
    save_file({"b": torch.zeros(3)}, tmp_path / "m-2.safetensors")
    index = tmp_path / "m.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}))
    handles = open_safetensors(tmp_path, "m")
    assert {name: handle.load().tolist() for name, handle in handles.items()} == {"a": [1, 1], "b": [0, 0, 0]}
    (tmp_path / "m-2.safetensors").unlink()
    with pytest.raises(InputError, match=r"m-2\.safetensors is missing although the index names it"):
        open_safetensors(tmp_path, "m")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"metadata": {}}',
        '{"weight_map": []}',
        '{"weight_map": {"a": 3}}',
        '{"metadata": {}, "weight_map": {"a": "../b"}}',
    ],
)
def test_a_damaged_index_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.safetensors.index.json").write_text(text)
    with pytest.raises(InputError, match=r"m\.safetensors\.index\.json"):
        open_safetensors(tmp_path, "m")


def test_no_weights_at_all(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"pickle")
    with pytest.raises(InputError, match=r"no model\.safetensors .* in .*model\.bin: pickles can hold code and are not read"):
        open_safetensors(tmp_path, "model")


@pytest.mark.parametrize("size", [0, 4, 40, -8])
def test_a_truncated_file_is_named(folder: Path, size: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=r"model\.safetensors is truncated or not a safetensors file .*download it again"):
        open_safetensors(folder, "model")


def test_a_dtype_no_student_has_is_named(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2).to(torch.float8_e5m2)}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"holds dtype 'F8_E5M2', expected one of \['BF16', 'BOOL', 'F16'"):
        open_safetensors(tmp_path, "model")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_no_number_is_found_when_loaded(tmp_path: Path, value: float) -> None:
    save_file({"good": torch.ones(2), "bad": torch.tensor([1.0, value])}, tmp_path / "model.safetensors")
    handles = open_safetensors(tmp_path, "model")
    assert handles["good"].load().tolist() == [1, 1]
    with pytest.raises(InputError, match=r"model\.safetensors: tensor 'bad' holds NaN or infinite values"):
        handles["bad"].load()


def test_a_file_that_changed_after_opening_is_named(folder: Path) -> None:
    handle = open_safetensors(folder, "model")["a.weight"]
    save_file({"else": torch.ones(1)}, folder / "model.safetensors")
    with pytest.raises(InputError, match=r"model\.safetensors: cannot read tensor 'a\.weight'"):
        handle.load()
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model\.safetensors: cannot read tensor 'a\.weight'"):
        handle.load()


def test_random_handles_are_the_same_at_every_load() -> None:
    handle = random_handle("blocks.0.weight", (64, 32), std=0.5, mean=2.0)
    value = handle.load()
    assert torch.equal(value, handle.load())
    assert torch.equal(value, random_handle("blocks.0.weight", (64, 32), 0.5, 2.0).load())
    assert (tuple(value.shape), value.dtype) == (handle.shape, handle.dtype)
    assert value.std().item() == pytest.approx(0.5, rel=0.1)
    assert value.mean().item() == pytest.approx(2.0, abs=0.1)


def test_random_handles_differ_by_name_and_seed() -> None:
    names = ("blocks.0.weight", "blocks.1.weight", "blocks.10.weight", "blocks.01.weight")
    values = [random_handle(name, (8,), 1.0, seed=seed).load() for name in names for seed in (0, 1)]
    assert len({tuple(value.tolist()) for value in values}) == len(values)


def linear() -> torch.nn.Module:
    with torch.device("meta"):
        return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))


def fitting() -> dict[str, Handle]:
    return {name: constant(torch.zeros(value.shape)) for name, value in linear().state_dict().items()}


def test_what_fits_passes() -> None:
    check_fit(linear(), fitting(), "here")
    check_fit(linear(), fitting() | {"rotary.freq": constant(torch.ones(1))}, "here", ignore=("rotary.",))


def test_a_wrong_shape_names_the_tensor_and_both_shapes() -> None:
    handles = fitting() | {"0.weight": constant(torch.zeros(4, 5)), "1.bias": constant(torch.zeros(7))}
    with pytest.raises(InputError) as caught:
        check_fit(linear(), handles, "made: vae")
    assert str(caught.value) == (
        "made: vae: the config does not fit its weights: 0.weight has shape (4, 5) where the config says (4, 3) (and 1 more). "
        "Check that config.json and the safetensors belong to the same model"
    )


def test_missing_and_unexpected_weights_are_counted_and_named() -> None:
    handles = fitting() | {f"extra.{i}": constant(torch.zeros(1)) for i in range(4)}
    del handles["1.bias"]
    with pytest.raises(InputError, match=r"1 missing: 1\.bias; 4 unexpected: extra\.0, extra\.1, extra\.2, \.\.\."):
        check_fit(linear(), handles, "here")


def test_materialize_fills_a_copy() -> None:
    module = linear()
    handles = {name: constant(torch.full(h.shape, 0.1, dtype=torch.float64)) for name, h in fitting().items()}
    real = materialize(module, handles)
    assert all(parameter.is_meta for parameter in module.parameters()), "the input is left alone"
    assert {p.dtype for p in real.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in real.parameters())
    assert not real.training
    assert torch.equal(real.get_parameter("0.weight"), torch.full((4, 3), 0.1))


def test_a_weight_without_a_handle_stays_unusable() -> None:
    handles = fitting()
    del handles["0.bias"]
    real = materialize(linear(), handles)
    assert real.get_parameter("0.bias").is_meta
    with pytest.raises(RuntimeError):
        real(torch.zeros(1, 3)).sum().item()


def test_buffers_are_filled_and_integers_keep_their_type() -> None:
    module = torch.nn.Module()
    module.register_buffer("table", torch.empty(3, device="meta"))
    module.register_buffer("ids", torch.empty(3, dtype=torch.int64, device="meta"))
    handles: dict[str, Handle] = {"table": constant(torch.arange(3.0)), "ids": constant(torch.arange(3))}
    real = materialize(module, handles, torch.float64)
    assert (real.get_buffer("table").dtype, real.get_buffer("ids").dtype) == (torch.float64, torch.int64)
    assert real.get_buffer("ids").tolist() == [0, 1, 2]


def test_a_lazy_handle_computes_at_every_load() -> None:
    calls: list[int] = []

    def compute() -> torch.Tensor:
        calls.append(1)
        return torch.ones(1)

    handle = LazyHandle((1,), torch.float32, compute)
    assert not calls
    handle.load()
    handle.load()
    assert len(calls) == 2


def test_handles_are_values() -> None:
    assert FileHandle(Path("a"), "k", (1,), torch.float32) == FileHandle(Path("a"), "k", (1,), torch.float32)
