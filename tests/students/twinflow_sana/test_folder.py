"""A folder of TwinFlow on SANA: told by the tensors of its second time embedder, and refused where they do not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from sprint_export.errors import InputError
from sprint_export.students import load_student
from sprint_export.students.sana_sprint.two_times import SECOND

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    folder = load_student("twinflow-tiny").folder
    assert folder is not None
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_its_tensors_alone_tell_it(copied: Path) -> None:
    assert load_student(copied).family == "twinflow_sana"
    weights = load_file(copied / WEIGHTS)
    save_file({name: value for name, value in weights.items() if not name.startswith(SECOND)}, copied / WEIGHTS, {"format": "pt"})
    with pytest.raises(InputError, match=r"guidance_embeds=False; expected true: this is a multi-step SANA"):
        load_student(copied)


def test_half_a_second_embedder_is_an_error(copied: Path) -> None:
    weights = load_file(copied / WEIGHTS)
    del weights[f"{SECOND}linear.weight"]
    save_file(weights, copied / WEIGHTS, {"format": "pt"})
    with pytest.raises(InputError, match=r"linear\.weight"):
        load_student(copied)


def test_guidance_and_a_second_time_exclude_each_other(copied: Path) -> None:
    file = copied / "transformer" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"guidance_embeds": True}))
    with pytest.raises(InputError, match=r"guidance_embeds=true is not covered; expected false"):
        load_student(copied)
