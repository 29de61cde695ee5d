"""The prompt encoder beside stock Gemma-2: the rows it keeps, the window, and the soft cap that decides the attention form."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from transformers import Gemma2Config, Gemma2Model
from transformers.models.gemma2.modeling_gemma2 import Gemma2RotaryEmbedding

from sprint_export.nouns.student import Student
from sprint_export.prompt_reader import PromptReader
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.students.networks.gemma2 import (
    HIDDEN,
    PromptAttention,
    bias_handles,
    make_gemma2,
    rotation_handles,
)
from sprint_export.students.sana_sprint.reference import make_reference
from sprint_export.weights import materialize
from tests.made_student import PREFIX

PROMPTS = ("a red circle above a blue square", "", "a small green square on the left of the large red circle " * 40)


@pytest.fixture(scope="module", params=["made", "tiny", "sprint-tiny"])
def student(request: pytest.FixtureRequest, made: Student, tiny_student: Student) -> Student:
    if request.param == "sprint-tiny":
        return load_student("sprint-tiny")
    return made if request.param == "made" else tiny_student


@pytest.mark.parametrize("prefix_cache", [True, False])
def test_kept_rows_are_encode_prompts(student: Student, prefix_cache: bool) -> None:
    """Rows of padding may differ: the transformer's mask hides them."""
    specialized = specialize_student(student, prefix_cache=prefix_cache)
    encoder = specialized.components["text_encoder"]
    real = materialize(encoder.module, encoder.weights)
    stock: Any = make_reference(student)
    reader = PromptReader(specialized.prompt, student.tokenizer / "tokenizer.json")
    for prompt in PROMPTS:
        ids, mask = reader.read([prompt])
        with torch.no_grad():
            found = real(torch.from_numpy(ids))
            wanted, wanted_mask = stock.encode_prompt(prompt, complex_human_instruction=PREFIX.split("\n"))
        assert found.shape == wanted.shape == (1, student.prompt.keep, encoder.outputs[0].shape[2])
        valid = torch.from_numpy(mask[0]).bool()
        assert torch.equal(valid, wanted_mask[0].bool())
        deviation = ((found - wanted)[0, valid].abs().max() / wanted[0, valid].abs().max()).item()
        assert valid.any()
        assert deviation <= 1e-5, f"{prompt[:20]!r}: rows deviate by {deviation:.2e} of their range, tolerance 1e-5"


def real_gemma(student: Student, attention: str, **changes: Any) -> Gemma2Model:
    component = student.components["text_encoder"]
    module = make_gemma2({**student.configs["text_encoder"], **changes})
    real: Any = materialize(module, component.weights)
    real.set_attn_implementation(attention)
    return real


@pytest.mark.skipif(not Gemma2Model._supports_sdpa, reason="transformers 5 has Gemma-2 in the eager form only")
@pytest.mark.parametrize(("cap", "differs"), [(0.5, True), (1e6, False)])
def test_sdpa_drops_the_soft_cap_and_eager_applies_it(made: Student, cap: float, differs: bool) -> None:
    """With a cap far above every logit the two agree, so it is the cap that they disagree about."""
    ids = torch.from_numpy(PromptReader(made.prompt, made.tokenizer / "tokenizer.json").read(PROMPTS[:1])[0])[:, :60]
    with torch.no_grad():
        rows = [real_gemma(made, form, attn_logit_softcapping=cap)(ids).last_hidden_state for form in ("eager", "sdpa")]
    difference = ((rows[0] - rows[1]).abs().max() / rows[0].abs().max()).item()
    assert (difference > 1e-2) if differs else (difference < 1e-5), f"forms differ by {difference:.2e} with cap {cap}"


def test_the_exported_encoder_applies_the_soft_cap(made: Student) -> None:
    """The same weights with another cap give other rows."""
    ids = torch.from_numpy(PromptReader(made.prompt, made.tokenizer / "tokenizer.json").read(PROMPTS[:1])[0])
    rows = []
    for cap in (0.5, 50.0):  # all positions computed: the cached prefix would depend on the cap too
        config = {**made.configs["text_encoder"], "attn_logit_softcapping": cap}
        component = dataclasses.replace(made.components["text_encoder"], module=make_gemma2(config))
        capped = dataclasses.replace(
            made,
            components={**made.components, "text_encoder": component},
            configs={**made.configs, "text_encoder": config},
        )
        encoder = specialize_student(capped, prefix_cache=False).components["text_encoder"]
        with torch.no_grad():
            rows.append(materialize(encoder.module, encoder.weights)(ids))
    assert (rows[0] - rows[1]).abs().max() > 1e-2


def test_the_attention_form_is_recorded(made: Student) -> None:
    encoder = specialize_student(made).components["text_encoder"]
    assert "attention: eager (applies the soft cap)" in encoder.notes
    found = [module.cap for module in encoder.module.modules() if isinstance(module, PromptAttention)]
    assert found == [made.components["text_encoder"].module.config.attn_logit_softcapping] * 2  # type: ignore[union-attr]


def test_biases_hide_the_future_and_what_left_the_window() -> None:
    biases = {name: handle.load()[0, 0] for name, handle in bias_handles(3, 6).items()}
    assert set(biases) == {"full_bias", "sliding_bias"}
    for i in range(6):
        for j in range(6):
            assert biases["full_bias"][i, j] == (0 if j <= i else HIDDEN)
            assert biases["sliding_bias"][i, j] == (0 if i - 3 < j <= i else HIDDEN)
    assert torch.tensor(HIDDEN).half().isfinite()


def test_later_rows_of_biases_and_rotations_are_those_of_the_whole() -> None:
    """From a start on, with keys before them that nobody sees."""
    for name, handle in bias_handles(3, 6, start=4, unused=2).items():
        whole = bias_handles(3, 6)[name].load()
        assert handle.shape == (1, 1, 2, 8)
        assert torch.equal(handle.load()[..., 2:], whole[:, :, 4:])
        assert (handle.load()[..., :2] == HIDDEN).all()
    assert set(bias_handles(6, 6)) == {"full_bias"}, "no position leaves that window"
    rotary = Gemma2RotaryEmbedding(Gemma2Config(head_dim=8))
    for name, handle in rotation_handles(rotary, 6, start=4).items():
        assert torch.equal(handle.load(), rotation_handles(rotary, 6)[name].load()[:, 4:])


@pytest.mark.parametrize("named", [{}, {"rope_theta": 500000.0}, {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}])
def test_rotations_are_transformers_own(made: Student, named: dict[str, Any]) -> None:
    config = {key: value for key, value in made.configs["text_encoder"].items() if not key.startswith("rope_")}
    module = make_gemma2({**config, **named})
    stock = Gemma2Model(module.config).rotary_emb
    assert not module.rotary_emb.inv_freq.is_meta
    tables = rotation_handles(module.rotary_emb, 50)
    for found, wanted in zip(("cos", "sin"), stock(torch.zeros(1, 50, 1), torch.arange(50)[None]), strict=True):
        assert torch.equal(tables[f"rotary_emb.{found}"].load(), wanted)
    usual = rotation_handles(make_gemma2(config).rotary_emb, 50)["rotary_emb.cos"].load()
    assert torch.equal(usual, tables["rotary_emb.cos"].load()) == (not named)
