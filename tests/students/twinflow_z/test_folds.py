"""TwinFlow-Z's networks beside diffusers' in float64: every fold at once, at every time, for captions around multiples of 32."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any
from unittest import mock

import pytest
import torch
from diffusers.models import normalization

from sprint_export.nouns.student import Student
from sprint_export.specialize import specialize_student
from sprint_export.students.networks.qwen3 import RESIDUAL
from sprint_export.students.twinflow_z.presets import tiny
from sprint_export.students.twinflow_z.reference import TwinTime
from sprint_export.weights import check_fit, materialize
from tests.students.doubles import make_double

EXACT = 1e-12  # float64 rounding over a few blocks; a wrong term is of order 1e-2
LENGTHS = (6, 31, 32, 33, 64, 65, 80)  # tokens of captions with their template


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    """Diffusers casts rotations, norms and times to float32; here nothing may be narrower than float64."""

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight
        return found

    with (
        mock.patch.object(normalization.RMSNorm, "forward", forward),
        mock.patch.object(torch.Tensor, "float", torch.Tensor.double),
    ):
        yield


def compare(student: Student, steps: int, lengths: tuple[int, ...], **choice: Any) -> float:
    """The largest deviation of x0 from stock diffusers with TwinFlow's time, over all steps and lengths of captions."""
    specialized = specialize_student(student, steps, **choice)
    assert specialized.plan is not None
    text, ours = (specialized.components[role] for role in ("text_encoder", "transformer"))
    for network in (text, ours):
        check_fit(network.module, network.weights, network.role)
    refine: Any = materialize(text.module.get_submodule("refiner"), cut(text.weights, "refiner."), torch.float64)
    real: Any = materialize(ours.module, ours.weights, torch.float64)
    theirs = student.components["transformer"]
    stock: Any = materialize(theirs.module, theirs.weights, torch.float64)
    stock.t_embedder = TwinTime(stock.t_embedder, getattr(stock, "t_embedder_2", None))
    draw = partial(torch.randn, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    prompt, worst = specialized.prompt, 0.0
    for length in lengths:
        rows = draw(1, prompt.tokens, student.configs["text_encoder"]["hidden_size"])
        mask = (torch.arange(prompt.tokens) < length)[None, prompt.before :].long()
        for step, s in enumerate(specialized.plan.times):
            x = draw(1, *student.latent_shape)
            with torch.no_grad():
                embeds = refine(rows / RESIDUAL, mask)
                found = real(x, embeds, mask, *([torch.tensor([step])] if steps > 1 else []))
                (out,) = stock([x[0, :, None]], torch.tensor([1 - s], dtype=torch.float64), [rows[0, :length]]).sample
            v = -out[None, :, 0]
            assert found.dtype == v.dtype == torch.float64
            assert v.std() > 0.1, "an output near zero proves nothing"
            worst = max(worst, (found - (x - s * v)).abs().max().item())
    return worst


def cut(weights: Any, prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_every_caption_at_every_time(steps: int) -> None:
    deviation = compare(make_double(tiny()), steps, LENGTHS)
    assert deviation <= EXACT, f"deviation {deviation:.2e}, tolerance {EXACT}"


@pytest.mark.parametrize("config", [{"qk_norm": False}, {"n_layers": 1, "n_refiner_layers": 2}, {"n_refiner_layers": 0}], ids=str)
def test_folds_hold_for_odd_configs(config: dict[str, Any]) -> None:
    deviation = compare(make_double(tiny(**config)), 2, (33,))
    assert deviation <= EXACT, f"deviation {deviation:.2e}, tolerance {EXACT}"


def test_fewer_rows_are_the_same_function() -> None:
    """A graph of 40 tokens draws what one of 80 does."""
    deviation = compare(make_double(tiny()), 1, (6, 32, 33, 40), prompt_tokens=40 - 3)
    assert deviation <= EXACT, f"deviation {deviation:.2e}, tolerance {EXACT}"
