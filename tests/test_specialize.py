"""The fold of a fixed step, in float64 against diffusers' SanaTransformer2DModel, and each of its rules alone."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
import torch
from diffusers.models import normalization

from sprint_export.errors import InputError
from sprint_export.nouns.student import Student
from sprint_export.registry import list_members
from sprint_export.specialize import specialize_student
from sprint_export.students.family import load_family
from sprint_export.students.folding import fold_gate, fold_scale_shift, tabulate
from sprint_export.students.sana_sprint.family import FAMILY, SanaSprint
from sprint_export.students.sana_sprint.presets import tiny
from sprint_export.weights import Handle, LazyHandle, check_fit, constant, materialize
from tests.tree import ROLES

EXACT = 1e-12  # float64 rounding over two blocks; a wrong term is of order 1e-2

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "positions": {"interpolation_scale": 1},
    "patches": {"patch_size": 2},
    "no qk norm": {"qk_norm": None},
    "affine norm": {"norm_elementwise_affine": True},
    "attention bias": {"attention_bias": True},
    "second time": {"guidance_embeds": False, "timestep_scale": 1000.0},
    "all at once": {
        "interpolation_scale": 1,
        "patch_size": 2,
        "qk_norm": None,
        "norm_elementwise_affine": True,
        "attention_bias": True,
        "num_layers": 3,
        "timestep_scale": 1000.0,
    },
}


@pytest.fixture
def _double(monkeypatch: pytest.MonkeyPatch) -> None:
    """Diffusers casts linear attention and RMSNorm to float32; here nothing may be narrower than float64."""

    def forward(self: Any, hidden: torch.Tensor) -> torch.Tensor:
        hidden = hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.eps)
        return hidden if self.weight is None else hidden * self.weight

    monkeypatch.setattr(normalization.RMSNorm, "forward", forward)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def in_double(student: Student) -> Student:
    """The same weights as float64 handles."""

    def widen(handle: Handle) -> Handle:
        return (
            LazyHandle(handle.shape, torch.float64, lambda: handle.load().double()) if handle.dtype.is_floating_point else handle
        )

    components = {
        role: dataclasses.replace(component, weights={name: widen(handle) for name, handle in component.weights.items()})
        for role, component in student.components.items()
    }
    return dataclasses.replace(student, components=components)


def compare_with_diffusers(student: Student, steps: int, guidance: float) -> tuple[float, float]:
    """(largest deviation of x0 over all steps, largest magnitude)."""
    specialized = specialize_student(student, steps, guidance)
    assert specialized.plan is not None
    ours, theirs = specialized.components["transformer"], student.components["transformer"]
    check_fit(ours.module, ours.weights, "specialized")
    ours_real = materialize(ours.module, ours.weights, torch.float64)
    theirs_real = materialize(theirs.module, theirs.weights, torch.float64)
    random = torch.Generator().manual_seed(0)
    embeds = torch.randn(ours.inputs[1].shape, dtype=torch.float64, generator=random)  # type: ignore[arg-type]
    mask = torch.ones(embeds.shape[:2], dtype=torch.int64)
    mask[:, 100:] = 0
    deviation = magnitude = 0.0
    for step, s in enumerate(specialized.plan.times):
        x = torch.randn(1, *student.latent_shape, dtype=torch.float64, generator=random)
        with torch.no_grad():
            found = ours_real(x, embeds, mask, *([torch.tensor([step])] if steps > 1 else []))
            v = theirs_real(
                x,
                embeds,
                timestep=torch.tensor([s], dtype=torch.float32),
                guidance=torch.tensor([guidance * 0.1], dtype=torch.float64),
                encoder_attention_mask=mask,
            ).sample
        assert found.dtype == v.dtype == torch.float64
        deviation = max(deviation, (found - (x - s * v)).abs().max().item())
        magnitude = max(magnitude, v.abs().max().item())
    return deviation, magnitude


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_one_step_is_diffusers_transformer(config: dict[str, Any]) -> None:
    deviation, magnitude = compare_with_diffusers(in_double(tiny(**config)), 1, FAMILY.guidance)
    assert magnitude > 0.1, "an output near zero proves nothing"
    assert deviation <= EXACT, f"deviation {deviation:.2e}, tolerance {EXACT}"


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("steps", [2, 3, 4])
def test_more_steps_gather_the_same_modulation(steps: int) -> None:
    deviation, _ = compare_with_diffusers(in_double(tiny(interpolation_scale=1)), steps, FAMILY.guidance)
    assert deviation <= EXACT, f"deviation {deviation:.2e}, tolerance {EXACT}"


@pytest.mark.usefixtures("_double")
def test_guidance_is_folded_too() -> None:
    student = in_double(tiny())
    deviation, _ = compare_with_diffusers(student, 1, 1.5)
    assert deviation <= EXACT, f"deviation {deviation:.2e}, tolerance {EXACT}"
    weights = [specialize_student(student, 1, g).components["transformer"].weights["proj_out.bias"].load() for g in (1.5, 4.5)]
    assert not torch.equal(*weights)


def test_the_time_path_is_gone() -> None:
    student = tiny()
    before = student.components["transformer"]
    after = specialize_student(student).components["transformer"]
    assert any(name.startswith("time_embed.") for name in before.weights)
    names = set(after.module.state_dict())
    assert names == set(after.weights)
    assert not [name for name in names if "time_embed" in name or "scale_shift_table" in name or "modulation" in name]
    assert after.notes == (
        "time path: 14 modulation vectors folded into 13 layers",
        "range: keys of 2 linear attentions scaled by 1 / N",
    )


def test_more_steps_keep_one_table_a_step() -> None:
    after = specialize_student(tiny(), 3).components["transformer"]
    assert after.weights["modulation"].shape == (3, 6 * 2 + 2, 64)
    assert [spec.name for spec in after.inputs] == ["latents", "prompt_embeds", "prompt_mask", "step"]
    assert after.weights["times"].load().tolist() == pytest.approx([1.0, 0.634, 0.366], abs=1e-3)


@pytest.mark.parametrize("tail", [(), (1, 1)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_scale_and_shift_fold_into_the_next_layer(tail: tuple[int, ...], has_bias: bool) -> None:
    random = torch.Generator().manual_seed(0)
    weight = torch.randn(5, 7, *tail, dtype=torch.float64, generator=random)
    bias, scale, shift, x = (torch.randn(n, dtype=torch.float64, generator=random) for n in (5, 7, 7, 7))
    weights: dict[str, Handle] = {"l.weight": constant(weight), "other.weight": constant(weight)}
    if has_bias:
        weights["l.bias"] = constant(bias)
    folded = fold_scale_shift(weights, "l", scale, shift)
    assert {name: handle.shape for name, handle in folded.items()} == {"l.weight": tuple(weight.shape), "l.bias": (5,)}
    wanted = weight.flatten(1) @ (x * (1 + scale) + shift) + (bias if has_bias else 0)
    found = folded["l.weight"].load().flatten(1) @ x + folded["l.bias"].load()
    torch.testing.assert_close(found, wanted, rtol=0, atol=EXACT)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1, 1), (5, 7, 3, 3)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_a_gate_folds_into_the_layer_before(shape: tuple[int, ...], has_bias: bool) -> None:
    random = torch.Generator().manual_seed(0)
    weight = torch.randn(shape, dtype=torch.float64, generator=random)
    bias, gate = (torch.randn(5, dtype=torch.float64, generator=random) for _ in range(2))
    weights: dict[str, Handle] = {"l.weight": constant(weight)}
    if has_bias:
        weights["l.bias"] = constant(bias)
    folded = fold_gate(weights, "l", gate)
    assert set(folded) == set(weights), "without a bias there is no second term"
    x = torch.randn(weight[0].numel(), dtype=torch.float64, generator=random)
    wanted = gate * (weight.flatten(1) @ x + (bias if has_bias else 0))
    found = folded["l.weight"].load().flatten(1) @ x + (folded["l.bias"].load() if has_bias else 0)
    torch.testing.assert_close(found, wanted, rtol=0, atol=EXACT)


def test_a_shift_does_not_fold_through_a_border() -> None:
    weights: dict[str, Handle] = {"conv.weight": constant(torch.ones(4, 4, 3, 3))}
    with pytest.raises(InputError, match=r"conv: cannot fold a shift into a \(3, 3\) kernel; expected a Linear or 1x1"):
        fold_scale_shift(weights, "conv", torch.zeros(4), torch.zeros(4))


def test_folding_16_bit_weights_computes_in_float32() -> None:
    weights: dict[str, Handle] = {"l.weight": constant(torch.full((2, 2), 1.0, dtype=torch.bfloat16))}
    folded = fold_scale_shift(weights, "l", torch.full((2,), 1e-3), torch.zeros(2))
    assert folded["l.weight"].dtype == folded["l.weight"].load().dtype == torch.float32
    assert folded["l.weight"].load()[0, 0].item() == pytest.approx(1.001, abs=1e-6)  # bfloat16 would have given 1.0


def test_rules_pull_no_weight_until_asked() -> None:
    def refuse() -> torch.Tensor:
        raise AssertionError("pulled")

    weights: dict[str, Handle] = {
        f"l.{name}": LazyHandle((4, 4)[:rank], torch.float32, refuse) for name, rank in (("weight", 2), ("bias", 1))
    }
    folded = fold_scale_shift(weights, "l", torch.zeros(4), torch.zeros(4)) | fold_gate(weights, "l", torch.zeros(4))
    with pytest.raises(AssertionError, match="pulled"):
        folded["l.weight"].load()


def test_tables_are_stacked_by_step() -> None:
    rows = [torch.full((14, 8), float(i)) for i in range(3)]
    assert torch.equal(tabulate(rows).load(), torch.stack(rows))


def test_the_input_student_is_unchanged() -> None:
    student = tiny()
    before = {role: (c.module, dict(c.weights), c.inputs) for role, c in student.components.items()}
    names = {role: sorted(c.module.state_dict()) for role, c in student.components.items()}
    values = student.components["transformer"].weights["proj_out.weight"].load()
    specialized = specialize_student(student)
    assert student.plan is None
    assert specialized.plan is not None
    for role in ROLES:
        component = student.components[role]
        assert (component.module, dict(component.weights), component.inputs) == before[role]
        assert sorted(component.module.state_dict()) == names[role]
        assert specialized.components[role].module is not component.module
    assert torch.equal(student.components["transformer"].weights["proj_out.weight"].load(), values)
    again = specialize_student(student)
    assert torch.equal(
        again.components["transformer"].weights["proj_out.weight"].load(),
        specialized.components["transformer"].weights["proj_out.weight"].load(),
    )


def test_a_specialized_student_is_refused() -> None:
    with pytest.raises(InputError, match=r"student 'tiny' is specialized already \(to 2 steps\); load it again"):
        specialize_student(specialize_student(tiny(), 2), 1)


@pytest.mark.parametrize("steps", [0, 5])
def test_an_impossible_number_of_steps_is_refused(steps: int) -> None:
    with pytest.raises(InputError, match=re.escape(f"steps={steps}")):
        specialize_student(tiny(), steps)


@pytest.mark.parametrize("family", list_members("student"))
def test_interfaces_have_specs_with_shapes(family: str) -> None:
    """Every family's specialized components say what goes in and comes out; here through tiny()'s."""
    student = specialize_student(load_family(family).tiny())
    assert student.family == family
    chain = [(c.role, [s.name for s in c.inputs], [s.name for s in c.outputs]) for c in student.components.values()]
    assert not isinstance(load_family(family), SanaSprint) or chain == [
        ("text_encoder", ["input_ids"], ["prompt_embeds"]),
        ("transformer", ["latents", "prompt_embeds", "prompt_mask"], ["denoised"]),
        ("vae_decoder", ["latents"], ["image"]),
    ]
    for component in student.components.values():
        for spec in (*component.inputs, *component.outputs):
            assert spec.meaning
            assert spec.dtype in ("float32", "int64")
            assert all(isinstance(size, str) or size > 0 for size in spec.shape)
