"""The Neural Engine's form of the transformer: the function of OneStepSana, right in half precision, of shapes that fit."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from diffusers.models import normalization

from sprint_export.errors import InputError
from sprint_export.nouns.student import Component, Student
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.students.sana_sprint.channels_first import SMALLEST, Block, ChannelNorm, ChannelsFirstSana, to_channels_first
from sprint_export.students.sana_sprint.presets import tiny
from sprint_export.students.sana_sprint.published import PRESETS
from sprint_export.weights import LazyHandle, check_fit, materialize

EXACT = 1e-12  # relative, float64 rounding; a wrong term is of order 1e-2
SINGLE = 2e-6  # relative, float32 rounding over two blocks; measured 2e-7 to 7e-7
HALF = 2e-3  # relative: four roundings of 2^-11
MAX_RANK, MAX_AXIS = 4, 16384  # the engine takes 5 and, up to the A15, 16384

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "positions": {"interpolation_scale": 1},
    "patches": {"patch_size": 2},
    "no qk norm": {"qk_norm": None},
    "odd and all at once": {
        "interpolation_scale": 1,
        "patch_size": 2,
        "qk_norm": None,
        "norm_elementwise_affine": True,
        "attention_bias": True,
        "num_layers": 3,
        "num_attention_heads": 3,
        "attention_head_dim": 20,
        "num_cross_attention_heads": 5,
        "cross_attention_head_dim": 12,
        "cross_attention_dim": 60,
        "sample_size": 14,
    },
}
STUDENTS = [*VARIANTS, "made", "sprint-tiny"]


@pytest.fixture(scope="module", params=STUDENTS)
def student(request: pytest.FixtureRequest, made: Student) -> Student:
    if request.param in VARIANTS:
        return tiny(**VARIANTS[request.param])
    return made if request.param == "made" else load_student("sprint-tiny")


def arrange(student: Student, steps: int) -> tuple[Component, Component]:
    """The specialized transformer, and the same channels first."""
    before = specialize_student(student, steps).components["transformer"]
    return before, to_channels_first(before, student.configs["transformer"])


def make_inputs(component: Component, dtype: torch.dtype, step: int = 0) -> tuple[torch.Tensor, ...]:
    """Random latents and text of which the last rows are padding."""
    random = torch.Generator().manual_seed(step)
    latents, embeds = (
        torch.randn(spec.shape, generator=random, dtype=torch.float64).to(dtype)  # type: ignore[arg-type]  # all are ints
        for spec in component.inputs[:2]
    )
    mask = torch.ones(embeds.shape[:2], dtype=torch.int64)
    mask[:, 100:] = 0
    return (latents, embeds, mask, torch.tensor([step]))[: len(component.inputs)]


def largest_deviation(student: Student, steps: int, dtype: torch.dtype) -> float:
    """Of x0 over all steps, relative to the largest magnitude."""
    before, after = arrange(student, steps)
    last, first = (materialize(component.module, component.weights, dtype) for component in (before, after))
    deviation = 0.0
    for step in range(steps):
        inputs = make_inputs(before, dtype, step)
        with torch.no_grad():
            wanted, found = last(*inputs), first(*inputs)
        assert found.dtype == dtype
        assert found.shape == wanted.shape
        assert (wanted - inputs[0]).abs().max() > 0.1, "an output near zero proves nothing"
        deviation = max(deviation, ((found - wanted).abs().max() / wanted.abs().max()).item())
    return deviation


@pytest.mark.parametrize("steps", [1, 2])
def test_it_is_the_same_function_in_double(student: Student, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(self: Any, hidden: torch.Tensor) -> torch.Tensor:  # diffusers' casts to float32
        hidden = hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.eps)
        return hidden if self.weight is None else hidden * self.weight

    monkeypatch.setattr(normalization.RMSNorm, "forward", forward)
    deviation = largest_deviation(student, steps, torch.float64)
    assert deviation <= EXACT, f"deviation {deviation:.2e}, tolerance {EXACT}"


@pytest.mark.parametrize("steps", [1, 2])
def test_it_is_the_same_function_in_single(student: Student, steps: int) -> None:
    deviation = largest_deviation(student, steps, torch.float32)
    assert deviation <= SINGLE, f"deviation {deviation:.2e}, tolerance {SINGLE}"


@pytest.mark.parametrize("steps", [1, 2])
def test_names_stay_and_matrices_become_convolutions(student: Student, steps: int) -> None:
    before, after = arrange(student, steps)
    check_fit(after.module, after.weights, "channels first")
    assert set(after.weights) == set(before.weights)
    assert (after.inputs, after.outputs, after.notes[:-1]) == (before.inputs, before.outputs, before.notes)
    assert after.notes[-1].startswith("layout: channels first, every Linear a 1x1 convolution")
    for name, module in before.module.named_modules():
        twin = after.module.get_submodule(name)
        assert not isinstance(twin, torch.nn.Linear), name
        if isinstance(module, torch.nn.Linear):
            assert isinstance(twin, torch.nn.Conv2d), name
            assert after.weights[f"{name}.weight"].shape == (module.out_features, module.in_features, 1, 1)


def test_rows_follow_the_pixel_shuffle() -> None:
    before, after = arrange(tiny(patch_size=2), 1)
    assert after.notes[-1].endswith("; proj_out rows in the order of a pixel shuffle by 2")
    old, new = (component.weights["proj_out.bias"].load() for component in (before, after))
    assert torch.equal(new.reshape(8, 2, 2), old.reshape(2, 2, 8).permute(2, 0, 1))


def test_no_weight_is_pulled_until_asked() -> None:
    def refuse() -> torch.Tensor:
        raise AssertionError("pulled")

    student = tiny(**VARIANTS["odd and all at once"])
    before = specialize_student(student, 2).components["transformer"]
    handles = {name: LazyHandle(handle.shape, handle.dtype, refuse) for name, handle in before.weights.items()}
    after = to_channels_first(dataclasses.replace(before, weights=handles), student.configs["transformer"])
    with pytest.raises(AssertionError, match="pulled"):
        after.weights["proj_out.weight"].load()


def test_only_the_specialized_transformer_is_arranged() -> None:
    student = tiny()
    config = student.configs["transformer"]
    with pytest.raises(InputError, match=r"component 'transformer' is a SanaTransformer2DModel, expected .* \(OneStepSana\)"):
        to_channels_first(student.components["transformer"], config)
    _, after = arrange(student, 1)
    with pytest.raises(InputError, match=r"is a ChannelsFirstSana, .*; specialize the student first, and arrange .* once"):
        to_channels_first(after, config)


def test_a_config_of_another_student_is_refused() -> None:
    before, _ = arrange(tiny(), 1)
    other = tiny(num_layers=3).configs["transformer"]
    with pytest.raises(InputError, match=r"transformer channels first: the config does not fit its weights: \d+ missing"):
        to_channels_first(before, other)


@pytest.mark.parametrize("centre", [True, False], ids=["LayerNorm", "RMSNorm"])
@pytest.mark.parametrize("magnitude", [1e-2, 1.0, 300.0, 10_000.0, 30_000.0])
def test_norms_hold_in_half_precision(centre: bool, magnitude: float) -> None:
    """Squares overflow above 256 and vanish below 2^-12, and both ends are right."""
    eps, random = 1e-6, torch.Generator().manual_seed(0)
    x = (magnitude * (2 * torch.rand(2, 1152, 4, 8, generator=random) - 1)).half()
    x[1] /= 30
    x[1, 7] = magnitude  # one channel that stands out, as trained students have
    exact = x.double() - x.double().mean(1, keepdim=True) if centre else x.double()
    wanted = exact * torch.rsqrt(exact.square().mean(1, keepdim=True) + eps)
    found = ChannelNorm(1152, eps, centre, weight=False)(x)
    assert found.dtype == torch.float16
    deviation = ((found - wanted).abs() / wanted.abs().clamp_min(1)).max().item()
    assert deviation <= HALF, f"deviation {deviation:.2e}, tolerance {HALF}"
    naive = x[1] * torch.rsqrt(x[1].square().mean(0) + eps)
    assert bool(naive.any()) == (magnitude <= 256), "the plain form divides by infinity"


def test_norms_of_zeros_are_zeros() -> None:
    for eps in (1e-5, 1e-6):
        assert not ChannelNorm(8, eps, centre=True, weight=False)(torch.zeros(1, 8, 2, 2).half()).any()


def test_a_head_without_a_query_attends_to_nothing_in_half_precision() -> None:
    """Its denominator is 0, and 1e-15 would be 0 too; 2^-14 is the smallest number that no engine flushes."""
    assert torch.finfo(torch.float16).tiny == SMALLEST
    block = Block(tiny().configs["transformer"], 64, fold=True).half()
    state, random = block.state_dict(), torch.Generator().manual_seed(0)
    for value in state.values():
        value.normal_(std=0.1, generator=random)
    state["attn1.norm_q.weight"].fill_(1.0)
    state["attn1.to_q.bias"].fill_(-100.0)
    with torch.no_grad():
        found = block.attend_linear(torch.randn(1, 64, 4, 4, generator=random).half())
    assert torch.equal(found, state["attn1.to_out.0.bias"][:, None, None].expand_as(found))


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_linear_attention_does_not_depend_on_the_length_of_queries(factor: float) -> None:
    torch.manual_seed(0)
    block = Block(tiny().configs["transformer"], 64, fold=True).double()
    x, state = torch.randn(1, 64, 4, 4, dtype=torch.float64), block.state_dict()
    with torch.no_grad():
        wanted = block.attend_linear(x)
        for name in ("weight", "bias"):
            state[f"attn1.to_q.{name}"].mul_(factor)
        found = block.attend_linear(x)
    torch.testing.assert_close(found, wanted, rtol=0, atol=EXACT)


@pytest.mark.parametrize("preset", PRESETS)
def test_published_shapes_fit_the_engine(preset: str) -> None:
    """At 1024 pixels, by shape inference alone: two layers of the published width."""
    config = dict(PRESETS[preset].transformer) | {"num_layers": 2}
    with torch.device("meta"):
        module = ChannelsFirstSana(config, 2).eval()
        size, rows, hidden = config["sample_size"], 300, config["caption_channels"]
        latents, embeds = torch.empty(1, config["in_channels"], size, size), torch.empty(1, rows, hidden)
        mask, step = torch.empty(1, rows, dtype=torch.int64), torch.empty(1, dtype=torch.int64)
    program = torch.export.export(module, (latents, embeds, mask, step), strict=False).run_decompositions({})
    values = [node.meta["val"] for node in program.graph.nodes if node.op == "call_function" and "val" in node.meta]
    shapes = [tuple(v.shape) for value in values for v in (value if isinstance(value, list | tuple) else (value,))]
    assert len(shapes) > 100
    assert max(map(len, shapes)) <= MAX_RANK
    assert max(max(shape, default=0) for shape in shapes) <= MAX_AXIS


@pytest.mark.parametrize(
    ("steps", "variant", "system"), [(1, "plain", "iOS17"), (1, "odd and all at once", "iOS18"), (2, "patches", "iOS18")]
)
def test_the_core_ml_program_has_one_transpose(steps: int, variant: str, system: str) -> None:
    ct = pytest.importorskip("coremltools")
    _, after = arrange(tiny(**VARIANTS[variant]), steps)
    module = materialize(after.module, after.weights)
    program = torch.export.export(module, make_inputs(after, torch.float32), strict=False).run_decompositions({})
    target, precision = getattr(ct.target, system), ct.precision.FLOAT16
    model = ct.convert(program, minimum_deployment_target=target, compute_precision=precision, skip_model_load=True)
    operations = [op for op in model._mil_program.functions["main"].operations if op.op_type != "const"]
    kinds = [op.op_type for op in operations]
    assert kinds.count("transpose") == 1, "prompt_embeds alone"
    assert not {"linear", "pad", "slice_by_index", "scaled_dot_product_attention", "inverse"} & set(kinds)
    convolutions = [op for op in operations if op.op_type == "conv"]
    assert len(convolutions) == sum(isinstance(m, torch.nn.Conv2d) for m in module.modules())
    unnamed = [op.weight.name for op in convolutions if not op.weight.name.startswith("p_")]
    assert not unnamed, "a pass has rewritten these weights; compression would not find them"
    outputs = [output for op in operations for output in op.outputs]
    assert max(output.rank for output in outputs) <= MAX_RANK
    assert max(int(size) for output in outputs for size in output.shape) <= MAX_AXIS
    flat = {output.op.op_type for output in outputs if output.rank < MAX_RANK}
    assert flat <= {"cast", "transpose", "expand_dims", "mul", "sub", "gather", "add", "greater_equal", "select"}, "inputs alone"
