"""Folders of other programs: a diffusers folder draws the reference's picture, an optimum-intel one the bundle's.

What is hostile or unknown is refused before a library sees it.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from sprint_export.errors import InputError, MachineError
from sprint_export.libraries import is_installed
from sprint_export.noise import make_noise
from sprint_export.nouns.student import Student
from sprint_export.psnr import psnr_images
from sprint_export.runtimes import open_bundle
from sprint_export.students import load_student
from sprint_export.students.family import load_family
from sprint_export.validate.comparing.drawing import round_picture
from sprint_export.validate.comparing.entries import diffusers_folder, optimum_folder
from sprint_export.validate.comparing.entry import Setting, find_kind
from sprint_export.validate.comparing.torchao_files import pass_root_tensors
from tests.bundles import copy_bundle, edit_manifest, shared_bundle
from tests.export.to_openvino.stock_pipeline import open_stock
from tests.made_student import PROMPTS
from tests.validate.comparing.doubles import draw_right

OPTIMUM = {"layout": "optimum"}
LEAST_DB = 45.0  # of one picture by two pipelines over the same 8-bit networks, whose shapes are free in one


def make_setting(student: Student, steps: int = 1) -> Setting:
    family = load_family(student.family)
    return Setting(student, PROMPTS, 3, family.plan_times(steps), family.guidance, (64, 64))


@pytest.fixture
def folder(made_folder: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(made_folder, tmp_path / "theirs"))


@pytest.mark.parametrize("steps", [1, 2])
def test_a_diffusers_folder_draws_what_stock_diffusers_draws(made: Student, folder: Path, steps: int) -> None:
    assert find_kind(folder).name == "diffusers"
    entry = diffusers_folder.ENTRY.open(folder, make_setting(made, steps))
    noise = make_noise(3, steps, 1, made.latent_shape)
    drawn = entry.draw(0, PROMPTS[0], noise)
    wanted = draw_right(folder, [PROMPTS[0]], noise)
    assert np.abs(round_picture(drawn.picture).astype(int) - wanted[0]).max() <= 1
    assert drawn.seconds is not None
    assert entry.bytes == sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text("utf-8"))
    change(value)
    path.write_text(json.dumps(value), "utf-8")


def _other_pipeline(folder: Path) -> None:
    edit_json(folder / "model_index.json", lambda index: index.update(_class_name="FluxPipeline"))


def _own_code(folder: Path) -> None:
    edit_json(folder / "model_index.json", lambda index: index.update(transformer=["evil_module", "Network"]))


def _argument(folder: Path) -> None:
    edit_json(folder / "model_index.json", lambda index: index.update(trust_remote_code=True))


def _unknown_component(folder: Path) -> None:
    edit_json(folder / "model_index.json", lambda index: index.update(safety_checker=["transformers", "CLIPModel"]))


def _unknown_method(folder: Path) -> None:
    edit_json(folder / "transformer" / "config.json", lambda config: config.update(quantization_config={"quant_method": "quark"}))


def _pickles(folder: Path) -> None:
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").rename(
        folder / "transformer" / "diffusion_pytorch_model.bin"
    )


def _link_out(folder: Path) -> None:
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.rename(folder.parent / "elsewhere.safetensors")
    weights.symlink_to(folder.parent / "elsewhere.safetensors")


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "vae" / "notes.txt")


def _tokenizer_code(folder: Path) -> None:
    edit_json(folder / "tokenizer" / "tokenizer_config.json", lambda config: config.update(auto_map={"AutoTokenizer": "own.Own"}))


def _shards_elsewhere(folder: Path) -> None:
    index = {"weight_map": {"proj_out.weight": "../../elsewhere.safetensors"}}
    (folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))


def _adapter(folder: Path) -> None:
    (folder / "text_encoder" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/elsewhere"}))


def _damaged_scheduler(folder: Path) -> None:
    (folder / "scheduler" / "scheduler_config.json").write_text('{"prediction_type": Infinity')


HOSTILE: dict[Callable[[Path], None], tuple[str, ...]] = {
    _other_pipeline: ("FluxPipeline", "SanaSprintPipeline"),
    _own_code: ("evil_module", "not imported", "diffusers or transformers"),
    _argument: ("trust_remote_code", "no component"),
    _unknown_component: ("safety_checker", "no component", "transformer"),
    _unknown_method: ("quark", "sdnq", "torchao", "folder of the pictures"),
    _pickles: ("SanaTransformer2DModel", "safetensors"),
    _link_out: ("link out of", "elsewhere.safetensors"),
    _pipe: ("no regular file",),
    _shards_elsewhere: ("../../elsewhere.safetensors", "files beside it"),
    _adapter: ("adapter_config.json", "merge the adapter"),
    _tokenizer_code: ("auto_map", "never run"),
    _damaged_scheduler: ("scheduler cannot be read", "not a valid JSON file"),
}


@pytest.mark.parametrize("damage", HOSTILE, ids=lambda damage: damage.__name__.strip("_"))
def test_what_would_run_or_leave_the_folder_is_refused(damage: Callable[[Path], None], made: Student, folder: Path) -> None:
    damage(folder)
    before = set(sys.modules)
    with pytest.raises(InputError) as refused:
        diffusers_folder.ENTRY.open(folder, make_setting(made))
    assert all(part in str(refused.value) for part in HOSTILE[damage]), refused.value
    assert "evil_module" not in set(sys.modules) - before


def test_what_a_stock_pipeline_raises_while_it_draws_is_noted_and_ends_nothing(made: Student, folder: Path) -> None:
    edit_json(folder / "scheduler" / "scheduler_config.json", lambda config: config.update(sigma_data="half"))
    entry = diffusers_folder.ENTRY.open(folder, make_setting(made))
    with pytest.raises(InputError, match=rf"its pipeline cannot draw '{PROMPTS[0]}'"):
        entry.draw(0, PROMPTS[0], make_noise(3, 1, 1, made.latent_shape))


def test_a_quantizer_that_is_not_installed_is_named(made: Student, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit_json(folder / "transformer" / "config.json", lambda config: config.update(quantization_config={"quant_method": "sdnq"}))
    monkeypatch.setattr(diffusers_folder, "is_installed", lambda name: False)
    with pytest.raises(MachineError, match="pip install sdnq"):
        diffusers_folder.ENTRY.open(folder, make_setting(made))


@pytest.mark.skipif(not is_installed("sdnq"), reason="sdnq is not installed")
def test_sdnq_quantizes_and_is_drawn(made: Student, folder: Path) -> None:
    from diffusers import SanaSprintPipeline
    from sdnq import save_sdnq_model, sdnq_post_load_quant

    noise = make_noise(3, 1, 1, made.latent_shape)
    right = draw_right(folder, [PROMPTS[0]], noise)
    pipeline = SanaSprintPipeline.from_pretrained(folder)
    pipeline.transformer = sdnq_post_load_quant(pipeline.transformer, weights_dtype="int8", minimum_allowed_numel=16)
    shutil.rmtree(folder)
    save_sdnq_model(pipeline, str(folder), is_pipeline=True)
    entry = diffusers_folder.ENTRY.open(folder, make_setting(made))
    apart = np.abs(round_picture(entry.draw(0, PROMPTS[0], noise).picture).astype(int) - right[0])
    assert apart.max() > 0
    assert apart.mean() < 8
    assert "sdnq" in entry.description


def test_torchao_files_with_a_tensor_of_no_module_are_read() -> None:
    """The reader behind it splits names at a dot, as torchao's does."""
    asked: list[str] = []

    def stock(state: dict[str, Any], metadata: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        names = json.loads(metadata["tensor_names"])
        asked.extend(name.rsplit(".", 1)[1] for name in names)
        return {name: state[name] for name in names if name in state}, {"a._weight_scale": state["a._weight_scale"]}

    state = {"table": 1, "a.bias": 2, "a._weight_scale": 3}
    found, left = pass_root_tensors(stock)(state, {"tensor_names": json.dumps(["table", "a.bias"])})
    assert (found, left) == ({"table": 1, "a.bias": 2}, {"a._weight_scale": 3})
    assert asked == ["bias"]


@pytest.mark.skipif(not is_installed("torchao"), reason="torchao is not installed")
def test_torchao_quantizes_and_is_drawn(made: Student, folder: Path) -> None:
    import torch
    from diffusers import SanaTransformer2DModel, TorchAoConfig
    from torchao.quantization import Int8WeightOnlyConfig

    noise = make_noise(3, 1, 1, made.latent_shape)
    right = draw_right(folder, [PROMPTS[0]], noise)
    network = SanaTransformer2DModel.from_pretrained(
        folder / "transformer", quantization_config=TorchAoConfig(Int8WeightOnlyConfig()), torch_dtype=torch.float32
    )
    shutil.rmtree(folder / "transformer")
    network.save_pretrained(folder / "transformer")
    entry = diffusers_folder.ENTRY.open(folder, make_setting(made))
    apart = np.abs(round_picture(entry.draw(0, PROMPTS[0], noise).picture).astype(int) - right[0])
    assert apart.mean() < 8
    assert "torchao" in entry.description


@pytest.fixture(scope="module")
def optimum_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("openvino")
    return shared_bundle(tmp_path_factory.getbasetemp(), "openvino-int8", validate=False, options=OPTIMUM, prompts=PROMPTS)


@pytest.fixture
def optimum_copy(optimum_bundle: Path, tmp_path: Path) -> Path:
    """As another program leaves it: without a manifest."""
    folder = copy_bundle(optimum_bundle, tmp_path / "theirs")
    (folder / "bundle.json").unlink()
    return folder


def test_an_optimum_folder_draws_what_the_bundle_draws(
    optimum_bundle: Path, optimum_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By diffusers' pipeline over the same IR, where optimum-intel is not installed."""
    if not is_installed("optimum.intel"):
        double = ModuleType(optimum_folder.MODULE)
        vars(double)["OVSanaSprintPipeline"] = type(
            "OVSanaSprintPipeline", (), {"from_pretrained": staticmethod(lambda folder, **_: open_stock(folder))}
        )
        monkeypatch.setattr(optimum_folder, "import_library", lambda name: double)
        monkeypatch.setattr(importlib.metadata, "version", lambda name: "0")
    assert find_kind(optimum_bundle).name == "bundle"
    assert find_kind(optimum_copy).name == "optimum"
    student = load_student()
    entry = optimum_folder.ENTRY.open(optimum_copy, make_setting(student))
    noise = make_noise(3, 1, 1, student.latent_shape)
    drawn = round_picture(entry.draw(0, PROMPTS[0], noise).picture)
    assert psnr_images(drawn[None], open_bundle(optimum_bundle)([PROMPTS[0]], noise=noise))[0] >= LEAST_DB
    assert entry.bytes is not None
    assert entry.bytes > 1e6


def test_optimum_intel_that_is_not_installed_is_named_and_its_index_is_checked_first(
    optimum_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diffusers_folder, "is_installed", lambda name: False)
    setting = make_setting(load_student())
    with pytest.raises(MachineError, match="pip install optimum-intel"):
        optimum_folder.ENTRY.open(optimum_copy, setting)
    edit_json(optimum_copy / "model_index.json", lambda index: index.update(scheduler=["os", "system"]))
    with pytest.raises(InputError, match="'os', which is not imported"):
        optimum_folder.ENTRY.open(optimum_copy, setting)


def test_a_bundle_of_another_student_or_guidance_is_refused(optimum_bundle: Path, made: Student, tmp_path: Path) -> None:
    kind = find_kind(optimum_bundle)
    with pytest.raises(InputError, match="compare bundles of one student"):
        kind.open(optimum_bundle, make_setting(made))
    folder = copy_bundle(optimum_bundle, tmp_path / "other")
    edit_manifest(folder, lambda value: value["plan"].update(guidance=1.0))
    with pytest.raises(InputError, match="with guidance 1, the others"):
        kind.open(folder, make_setting(load_student()))
