"""Records hold the true maxima and means, are measured once and in pieces, and are refused where they are no numbers."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from sprint_export.cache import cache_folder
from sprint_export.errors import InputError
from sprint_export.noise import make_calibration_noise
from sprint_export.nouns.student import Student
from sprint_export.progress import Step
from sprint_export.quantize.measure import walk
from sprint_export.quantize.measure.calibrate import calibrate
from sprint_export.quantize.measure.records import Record
from sprint_export.quantize.measure.streaming import OUTPUT, StreamedNetwork
from sprint_export.specialize import specialize_student
from sprint_export.weights import LazyHandle
from tests.attack.forks import run_forked
from tests.made_student import PROMPTS, open_torch
from tests.tree import ROLES

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def student(made: Student) -> Student:
    return specialize_student(made)


def ranges(records: Mapping[str, Record]) -> dict[str, list[float]]:
    """All that a record says, as plain values."""
    return {
        layer: [*r.amax.tolist(), *r.total.tolist(), *r.counts.flatten().tolist(), r.top, r.rows] for layer, r in records.items()
    }


def refuse(*_: object, **__: object) -> Any:
    raise AssertionError("the model ran")


@pytest.mark.parametrize("steps", [1, 2])
def test_ranges_are_the_maxima_over_all_prompts_and_steps(made: Student, steps: int) -> None:
    student = specialize_student(made, steps)
    pipe = open_torch(student)
    masks: dict[str, torch.Tensor] = {}  # of the prompt that is drawn

    def largest(layer: str, x: torch.Tensor) -> float:
        is_text = any(part in layer for part in ("caption_projection", "attn2.to_k", "attn2.to_v"))
        rows = masks["text"] if layer.startswith("text_encoder") else masks["kept"] if is_text else ...
        return x[rows].abs().max().item()

    seen: dict[str, list[float]] = {}
    for role, session in pipe.sessions.items():
        for name, module in session.module.named_modules():  # type: ignore[attr-defined]
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
                module.register_forward_pre_hook(
                    lambda _, x, layer=f"{role}.{name}": seen.setdefault(layer, []).append(largest(layer, x[0]))
                )
            if isinstance(module, torch.nn.Conv2d) and module.groups == 1 and module.kernel_size != (1, 1):
                module.register_forward_hook(
                    lambda _, __, y, layer=f"{role}.{name}{OUTPUT}": seen.setdefault(layer, []).append(y.abs().max().item())
                )
    for i, prompt in enumerate(PROMPTS):
        ids, kept = pipe.reader.read([prompt])
        masks.update(text=torch.from_numpy(ids != student.prompt.pad_id), kept=torch.from_numpy(kept).bool())
        assert not masks["kept"].all(), "padding must be there to be left out"
        pipe([prompt], noise=make_calibration_noise(3 + i, steps, 1, student.latent_shape))
    found = {layer: record.amax.max().item() for layer, record in calibrate(student, PROMPTS, seed=3).items()}
    wanted = {layer: max(values) for layer, values in seen.items()}
    assert found.keys() == wanted.keys()
    deviation = max(abs(found[layer] / wanted[layer] - 1) for layer in wanted)
    print(f"largest deviation {deviation:.1e}, at most 1e-4: prompts run together, and sums have another order")
    assert deviation <= 1e-4
    assert {len(values) for layer, values in seen.items() if layer.startswith("transformer")} == {2 * steps}
    assert len({round(value, 6) for value in found.values()}) > 20, "ranges that are all alike prove nothing"


def test_a_second_call_runs_nothing(student: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    first = calibrate(student, PROMPTS[:1], 1)
    monkeypatch.setattr(walk, "StreamedNetwork", refuse)
    assert ranges(calibrate(student, PROMPTS[:1], 1)) == ranges(first)
    assert len(list((cache_folder() / "calibration").iterdir())) == 1, "one file, nothing half-written beside it"


@pytest.mark.parametrize("finished", [0, 1, 3, 5])
def test_a_killed_run_goes_on_after_its_last_chunk(student: Student, monkeypatch: pytest.MonkeyPatch, finished: int) -> None:
    """One prompt a chunk: six of them; the kill comes at the start of one."""
    monkeypatch.setattr(walk, "count_rows_at_once", lambda _: 1)
    wanted = ranges(calibrate(student, PROMPTS, 2))
    shutil.rmtree(cache_folder())

    def kill(_: Step, done: int, __: int) -> None:
        if done == finished:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(student, PROMPTS, 2, kill)
    runs: list[str] = []

    class Counted(StreamedNetwork):
        def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
            runs.append(self.component.role)
            return super().run(feeds)

    monkeypatch.setattr(walk, "StreamedNetwork", Counted)
    assert ranges(calibrate(student, PROMPTS, 2)) == wanted
    roles = [role for role in ROLES for _ in PROMPTS]
    assert runs == roles[finished:], f"{finished} chunks were there already"
    assert [p.suffix for p in (cache_folder() / "calibration").iterdir()] == [".safetensors"], "the chunks are gone"


def test_two_runs_at_once_are_both_right(student: Student, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "count_rows_at_once", lambda _: 1)
    wanted = ranges(calibrate(student, PROMPTS, 2))
    for _ in range(3):
        shutil.rmtree(cache_folder())
        with ThreadPoolExecutor(2) as threads:
            ended = list(threads.map(lambda _: run_forked(lambda: json.dumps(ranges(calibrate(student, PROMPTS, 2))), 120), "ab"))
        assert [json.loads(one.text) if one.kind == "returned" else one for one in ended] == [wanted, wanted]
        assert [p.suffix for p in (cache_folder() / "calibration").iterdir()] == [".safetensors"], "no litter"


def test_chunks_of_a_run_that_was_killed_at_its_very_end_are_removed(student: Student) -> None:
    calibrate(student, PROMPTS[:1], 1)
    (path,) = (cache_folder() / "calibration").iterdir()
    path.with_suffix(".chunks").mkdir()
    (path.with_suffix(".chunks") / "text_encoder.1.0.safetensors").write_bytes(path.read_bytes())
    calibrate(student, PROMPTS[:1], 1)
    assert list((cache_folder() / "calibration").iterdir()) == [path]


def test_a_chunk_that_was_damaged_is_measured_again(student: Student) -> None:
    def kill(_: Step, done: int, __: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(student, PROMPTS, 2, kill)
    (chunk,) = cache_folder().rglob("*.chunks/*.safetensors")
    chunk.write_bytes(chunk.read_bytes()[:99])
    found = ranges(calibrate(student, PROMPTS, 2))
    shutil.rmtree(cache_folder())
    assert ranges(calibrate(student, PROMPTS, 2)) == found


@pytest.mark.parametrize("what", ["seed", "prompts", "weights", "plan", "components"])
def test_another_question_is_measured_anew(student: Student, made: Student, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    calibrate(student, PROMPTS[:1], 1)
    monkeypatch.setattr(walk, "StreamedNetwork", refuse)
    part = {"vae_decoder": student.components["vae_decoder"]}
    changed = {
        "weights": dataclasses.replace(student, fingerprint="other"),
        "plan": specialize_student(made, 1, 2.0),
        "components": dataclasses.replace(student, components=part),
    }.get(what, student)
    with pytest.raises(AssertionError, match="the model ran"):
        calibrate(changed, PROMPTS[1:] if what == "prompts" else PROMPTS[:1], 2 if what == "seed" else 1)


def test_a_damaged_cache_is_replaced(student: Student) -> None:
    first = calibrate(student, PROMPTS[:1], 1)
    (path,) = (cache_folder() / "calibration").iterdir()
    whole = path.read_bytes()
    for damage in (whole[:100], b"", whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]):
        path.write_bytes(damage)
        assert ranges(calibrate(student, PROMPTS[:1], 1)) == ranges(first)
        assert path.stat().st_size == len(whole)


def test_calibration_without_prompts_is_refused() -> None:
    with pytest.raises(InputError, match=r"calibration needs prompts and got none; give --prompts FILE"):
        calibrate(None, [], 1)  # type: ignore[arg-type]  # refused before the student is looked at


@pytest.mark.parametrize("value", [float("nan"), 3e38])
def test_an_activation_that_is_no_number_names_its_layer(student: Student, value: float) -> None:
    component = student.components["transformer"]
    name = "transformer_blocks.0.attn1.to_v.weight"
    shape = component.weights[name].shape
    broken = LazyHandle(shape, torch.float32, lambda: torch.full(shape, value))
    component = dataclasses.replace(component, weights={**component.weights, name: broken})
    student = dataclasses.replace(
        student, fingerprint=f"broken {value}", components={**student.components, "transformer": component}
    )
    with pytest.raises(
        InputError, match=r"transformer\.transformer_blocks\.0\.attn1\.to_out\.0: its input is (nan|inf|-inf) on the"
    ):
        calibrate(student, PROMPTS[:1], 1)
    assert not list(cache_folder().glob("calibration/*.safetensors")), "a failed measurement is not kept"


def test_a_part_of_a_student_is_measured_with_unit_noise(student: Student) -> None:
    part = dataclasses.replace(student, components={"vae_decoder": student.components["vae_decoder"]})
    found = calibrate(part, PROMPTS, 1)
    assert {layer.split(".")[0] for layer in found} == {"vae_decoder"}
    noise = np.abs(make_calibration_noise(1, 1, 2, student.latent_shape)).max()
    factor = student.configs["vae_decoder"]["scaling_factor"]
    assert found["vae_decoder.decoder.conv_in"].amax.max().item() == pytest.approx(
        noise / factor, rel=1e-5
    )  # the first x is s_0 noise


def test_progress_is_told_for_each_component(student: Student) -> None:
    told: list[tuple[Step, int, int]] = []
    calibrate(student, PROMPTS, 9, lambda *event: told.append(event))
    assert {step for step, _, _ in told} == {Step("calibrating")}
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert told[-1] == (Step("calibrating"), 6, 6), "three components, two prompts"
