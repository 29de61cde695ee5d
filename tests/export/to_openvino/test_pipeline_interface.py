"""`--layout optimum`: optimum-intel's pipeline draws our picture, and never one for which the networks are not made."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sprint_export.conversion import convert
from sprint_export.errors import BundleError, RefusedError
from sprint_export.export.bundle import read_bundle
from sprint_export.export.to_openvino.pipeline_interface import read_interface
from sprint_export.libraries import is_installed
from sprint_export.noise import make_noise
from sprint_export.nouns.student import Student
from sprint_export.packing import pack_bundle
from sprint_export.psnr import psnr_images
from sprint_export.runtimes import open_bundle
from sprint_export.runtimes.openvino_ir.runtime import RUNTIME, open_core
from sprint_export.specialize import specialize_student
from tests.bundles import shared_bundle
from tests.export.to_openvino.stock_pipeline import open_stock
from tests.made_student import PROMPTS, draw_stock

pytest.importorskip("openvino")
LEAST_DB = 45.0  # the pipeline takes a velocity apart that ours never puts together, and 8 bits round some values elsewhere
OPTIMUM = {"layout": "optimum"}
NAMES = {
    "text_encoder": (["input_ids"], ["last_hidden_state"]),
    "transformer": (
        ["hidden_states", "encoder_hidden_states", "encoder_attention_mask", "timestep", "guidance"],
        ["out_sample"],
    ),
    "vae_decoder": (["latent_sample"], ["sample"]),
}


@pytest.fixture(scope="module")
def tiny_int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_bundle(tmp_path_factory.getbasetemp(), "openvino-int8", validate=False, options=OPTIMUM, prompts=PROMPTS)


@pytest.fixture(scope="module")
def made_steps(made: Student, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student with a long instruction before its prompts, for one and for two steps."""
    folder = tmp_path_factory.mktemp("made") / "bundle"
    convert(made, "openvino-fp16", folder, steps=[1, 2], validate=False, options=OPTIMUM)
    return folder


def open_optimum(folder: Path) -> Any:
    """optimum-intel itself, where it is installed."""
    if not is_installed("optimum.intel"):
        pytest.skip("optimum-intel is not installed; diffusers over the same files is tested beside this")
    from optimum.intel.openvino import OVDiffusionPipeline

    pipeline = OVDiffusionPipeline.from_pretrained(folder)
    assert type(pipeline).__name__ == "OVSanaSprintPipeline"
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def compare(pipeline: Any, folder: Path, steps: int, most: int | None = None) -> None:
    ours = open_bundle(folder)
    ours.steps = steps
    noise = make_noise(3, steps, 1, ours.latent_shape)
    picture = ours(PROMPTS[:1], noise=noise)
    _, found = draw_stock(pipeline, PROMPTS[0], noise, picture.shape[1])
    assert picture.std() > 5, "a flat picture proves nothing"
    (psnr,) = psnr_images(found, picture)
    assert psnr >= LEAST_DB, f"{psnr:.1f} dB apart, at least {LEAST_DB}"
    levels = np.abs(found.astype(int) - picture).max()
    assert most is None or levels <= most, f"{levels} levels of 255 apart, at most {most}"


@pytest.mark.parametrize("opened", [open_stock, open_optimum])
def test_the_pipeline_draws_our_picture_of_an_int8_bundle(tiny_int8: Path, opened: Any) -> None:
    compare(opened(tiny_int8), tiny_int8, 1)


@pytest.mark.parametrize("opened", [open_stock, open_optimum])
def test_the_pipeline_draws_our_picture_in_each_number_of_steps(made_steps: Path, opened: Any) -> None:
    pipeline = opened(made_steps)
    for steps in (1, 2):
        compare(pipeline, made_steps, steps, most=2)  # floats: no 8-bit rounding is tipped


def test_names_and_files_are_those_that_optimum_intel_opens(made_steps: Path) -> None:
    for role, (inputs, outputs) in NAMES.items():
        model = open_core().read_model(made_steps / role / "openvino_model.xml")
        assert [value.any_name for value in model.inputs] == inputs
        assert [value.any_name for value in model.outputs] == outputs
    index = json.loads((made_steps / "model_index.json").read_text("utf-8"))
    assert index["_class_name"] == "OVSanaSprintPipeline"
    assert index["tokenizer"] == ["transformers", "PreTrainedTokenizerFast"]
    named = {artifact.path for artifact in read_bundle(made_steps).artifacts}
    assert {"model_index.json", "scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json"} <= named
    assert "app.json" not in named, "an app would be told of inputs that the files do not have"


def test_it_is_not_packed_for_apps(made_steps: Path, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="its files have the inputs and outputs of optimum-intel's pipeline"):
        pack_bundle(made_steps, "windows", tmp_path / "packed")


@pytest.mark.parametrize("asked", [{"num_inference_steps": 2}, {"num_inference_steps": 1, "guidance_scale": 6.0}])
def test_what_the_networks_are_not_made_for_is_nan_and_no_picture(tiny_int8: Path, asked: dict[str, Any]) -> None:
    named = {"height": 64, "width": 64, "use_resolution_binning": False, "output_type": "np"}
    if asked["num_inference_steps"] == 1:
        named["intermediate_timesteps"] = None
    found = open_stock(tiny_int8)(PROMPTS[0], **named, **asked).images
    assert np.isnan(found).all()


def test_another_instruction_is_nan(made_steps: Path) -> None:
    model = open_core().compile_model(made_steps / "text_encoder" / "openvino_model.xml", "CPU")
    prompt = read_bundle(made_steps).prompt
    ids = np.full((1, prompt.tokens), prompt.pad_id, np.int64)
    ids[0, : len(prompt.prefix_ids)] = prompt.prefix_ids
    assert np.isfinite(model({"input_ids": ids})[0]).all()
    ids[0, 5] += 1
    assert np.isnan(model({"input_ids": ids})[0]).all()


def test_other_families_are_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as caught:
        convert("random:twinflow-qwen-image", "openvino-fp16", tmp_path / "out", options=OPTIMUM)
    assert "--layout optimum: optimum-intel's pipeline is for students of SanaSprintPipeline, this one is of" in str(caught.value)


def test_networks_that_the_pipeline_does_not_open_are_refused(made: Student) -> None:
    student = specialize_student(made)
    transformer = student.components["transformer"]
    more = {**student.components, "controlnet": transformer}
    with pytest.raises(RefusedError, match=r"opens text_encoder, transformer, vae_decoder and .* has controlnet too; leave"):
        read_interface(dataclasses.replace(student, components=more))


def test_a_layout_without_our_values_inside_is_said(made_steps: Path, tmp_path: Path) -> None:
    record = next(record for record in read_bundle(made_steps).components if record.role == "vae_decoder")
    path = tmp_path / "openvino_model.xml"
    text = (made_steps / "vae_decoder" / "openvino_model.xml").read_text("utf-8")
    path.write_text(text.replace('name="sprint_export/image"', 'name="elsewhere"'), "utf-8")
    path.with_suffix(".bin").write_bytes((made_steps / "vae_decoder" / "openvino_model.bin").read_bytes())
    with pytest.raises(BundleError, match="has no operator 'sprint_export/image', which its layout promises; export the student"):
        RUNTIME.open_session(path, record.inputs, record.outputs)
