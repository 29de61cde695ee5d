"""The contract of every precision file: its numbers are those of its storage type."""

from __future__ import annotations

import inspect

import ml_dtypes
import numpy as np
import pytest
import torch

from sprint_export.nouns.recipe import FLOAT_DTYPES, Precision
from sprint_export.registry import list_members, load_member

NAMES = list(list_members("precision"))


def test_there_are_precisions() -> None:
    assert {"fp32", "fp16", "bf16", "int8", "fp8"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_precision_agrees_with_its_storage_type(name: str) -> None:
    module = load_member("precision", name)
    precision: Precision = module.PRECISION
    dtype = getattr(torch, precision.storage)
    info = torch.finfo(dtype) if dtype.is_floating_point else torch.iinfo(dtype)
    assert precision.name == name
    assert precision.is_float == dtype.is_floating_point
    if precision.bits in (4, 6):  # torch has no such type: they are held in the next larger one
        assert precision.qmax - precision.qmin == 2**precision.bits - 1
    else:
        assert precision.bits == dtype.itemsize * 8
        assert (precision.qmin, precision.qmax) == (info.min, info.max)
    assert precision.meaning
    assert inspect.getdoc(module)


@pytest.mark.parametrize("name", NAMES)
def test_numpy_knows_the_storage_type_too(name: str) -> None:
    storage = load_member("precision", name).PRECISION.storage
    dtype = np.dtype(getattr(ml_dtypes, storage, None) or storage)
    assert dtype.itemsize == getattr(torch, storage).itemsize


@pytest.mark.parametrize("name", NAMES)
def test_what_is_quantized_is_not_what_a_graph_computes_in(name: str) -> None:
    precision: Precision = load_member("precision", name).PRECISION
    assert precision.is_quantized == (precision.name not in FLOAT_DTYPES)
    assert precision.is_quantized == (precision.bits <= 8)
