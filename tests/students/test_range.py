"""What half precision overflows on, and that the exact rewrites cure it: on weights amplified as published ones are said to be.

Half precision is simulated as a graph in fp16 without float32 islands computes: every operation's result is rounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from sprint_export.nouns.student import Component, Student
from sprint_export.specialize import specialize_student
from sprint_export.students.sana_sprint.presets import tiny
from sprint_export.weights import Handle, LazyHandle, materialize


class HalfEverywhere(TorchDispatchMode):
    """Every floating result takes a trip through float16; counts what became infinite on the way."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.infinities = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        return tree_map(self._round, function(*arguments, **(named or {})))

    def _round(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            return value
        rounded = value.half().to(value.dtype)
        self.infinities += int(rounded.isinf().sum())
        return rounded


def amplify(weights: Mapping[str, Handle], factors: Mapping[str, float]) -> dict[str, Handle]:
    """Weights whose name ends in a key of `factors`, times that."""

    def scaled(handle: Handle, factor: float) -> Handle:
        return LazyHandle(handle.shape, handle.dtype, lambda: handle.load() * factor)

    return {
        name: next((scaled(handle, factor) for end, factor in factors.items() if name.endswith(end)), handle)
        for name, handle in weights.items()
    }


def amplified(student: Student, role: str, factors: Mapping[str, float]) -> Student:
    component = student.components[role]
    louder = Component(role, component.module, amplify(component.weights, factors))
    return Student(**{**vars(student), "components": {**student.components, role: louder}})


def feeds(component: Component) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    made = []
    for spec in component.inputs:
        shape = [int(size) for size in spec.shape]
        if spec.dtype == "int64":
            made.append(torch.ones(shape, dtype=torch.int64) * (5 if spec.name == "input_ids" else 1))
        else:
            made.append(torch.randn(shape, generator=generator))
    return made


def run_both(component: Component) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Float64 output, the output with half-precision operations, and how many infinities there were."""
    exact = materialize(component.module, component.weights, torch.float64)
    rounded = materialize(component.module, component.weights)
    inputs = feeds(component)
    with torch.no_grad():
        wanted = exact(*(x.double() if x.is_floating_point() else x for x in inputs))
        with HalfEverywhere() as half:
            found = rounded(*inputs)
    return wanted, found, half.infinities


def psnr(found: torch.Tensor, wanted: torch.Tensor) -> float:
    error = (found.double() - wanted.double()).square().mean().sqrt()
    return float(20 * torch.log10(wanted.double().abs().max() / error))


LOUD: dict[str, dict[str, float]] = {
    "text_encoder": {"embed_tokens.weight": 400.0, "post_attention_layernorm.weight": 0.0},
    "transformer": {"attn1.norm_q.weight": 6.0, "attn1.norm_k.weight": 6.0},
    "vae_decoder": {"to_q.weight": 6.0, "to_k.weight": 6.0},
}
UNDONE: dict[str, tuple[str, dict[str, Any]]] = {  # what switches a rewrite off, to see that it is what cures
    "text_encoder": ("sprint_export.students.networks.gemma2", {"RESIDUAL": 1.0, "PROJECTED": 1.0}),
    "transformer": ("sprint_export.students.sana_sprint.folds", {"fold_key_range": lambda *_: {}}),
    "vae_decoder": ("sprint_export.students.networks.dc_ae", {"fold_range": lambda *_: {}}),
}


@pytest.fixture(scope="module")
def large() -> Student:
    """As many positions as a picture of 1024 pixels has latents: 32 x 32."""
    return tiny(sample_size=32)


@pytest.mark.parametrize("role", LOUD)
def test_a_rewrite_cures_what_overflows(role: str, large: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    loud = amplified(large, role, LOUD[role])
    wanted, found, infinities = run_both(specialize_student(loud).components[role])
    assert infinities == 0
    assert psnr(found, wanted) > 50, f"{psnr(found, wanted):.1f} dB"
    module, changes = UNDONE[role]
    for name, value in changes.items():
        monkeypatch.setattr(f"{module}.{name}", value)
    undone, broken, count = run_both(specialize_student(loud).components[role])
    assert count > 0 or not broken.isfinite().all(), "the case does not overflow, so it shows nothing"
    torch.testing.assert_close(undone, wanted, rtol=1e-9, atol=1e-9)  # the same function
