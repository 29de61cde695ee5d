"""Parts of a student beside its checkpoint: named, checked before any work, part of the bundle's key."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from sprint_export.errors import InputError, RefusedError
from sprint_export.nouns.order import Order
from sprint_export.nouns.parts import NO_PARTS, Lora, Parts, read_lora
from sprint_export.nouns.student import Student
from sprint_export.run_checks import check_order
from sprint_export.students import load_student
from sprint_export.students.family import load_family
from sprint_export.students.sana_sprint.family import SanaSprint
from sprint_export.students.source import HERE, check_source


@pytest.mark.parametrize(
    ("text", "file", "scale"),
    [
        ("a.safetensors", "a.safetensors", 1.0),
        ("a.safetensors:0.5", "a.safetensors", 0.5),
        ("C:/a.safetensors", "C:/a.safetensors", 1.0),
        ("C:/a.safetensors:-2", "C:/a.safetensors", -2.0),
        ("owner/name/style.safetensors@main:0.8", "owner/name/style.safetensors@main", 0.8),
    ],
)
def test_a_lora_is_a_file_and_how_much_of_it(text: str, file: str, scale: float) -> None:
    assert read_lora(text) == Lora(Path(file), scale)


@pytest.mark.parametrize("text", ["a.safetensors:nan", "a.safetensors:inf", ":1", ""])
def test_a_scale_is_a_finite_number(text: str) -> None:
    with pytest.raises(InputError, match=rf"--lora {text}: expected FILE or FILE:SCALE"):
        read_lora(text)


def test_an_order_gathers_its_parts() -> None:
    order = Order(lora=["a.safetensors:0.5"], decoder="owner/name")
    assert order.parts == Parts((Lora(Path("a.safetensors"), 0.5),), decoder="owner/name")
    assert Order().parts == NO_PARTS
    assert Parts(vae="x", text_encoder="y").folders == {"vae": "x", "text_encoder": "y"}


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (
            Parts((Lora(Path("none.safetensors")),)),
            "--lora none.safetensors: expected safetensors, a folder of them or a hub id owner/name[/file.safetensors]; there is",
        ),
        (
            Parts((Lora(HERE / "source.py"),)),
            "source.py: expected safetensors, a folder of them or a hub id owner/name[/file.safetensors]; pickles can hold code",
        ),
        (
            Parts((Lora(Path("styles/none.safetensors")),)),
            "--lora styles/none.safetensors: expected safetensors, a folder of them or",
        ),
        (Parts(decoder="./none"), "--decoder ./none: there is no such folder; expected one, or a hub id owner/name"),
        (Parts(text_encoder="none"), "--text-encoder none: there is no such folder"),
        (
            Parts(vae="sprint-tiny"),
            "--vae and --text-encoder complete a checkpoint file; sprint-tiny has its own",
        ),
    ],
)
def test_what_is_not_there_is_said_before_any_work(parts: Parts, said: str) -> None:
    with pytest.raises(InputError) as caught:
        check_source("sprint-tiny", parts)
    assert said in str(caught.value)


def test_a_loaded_student_has_its_parts_already(tiny_student: Student) -> None:
    with pytest.raises(InputError, match="give them to load_student as its parts"):
        check_order(Order(tiny_student, "onnx-fp32", "out", decoder="sprint-tiny"))


def test_a_family_without_another_decoder_says_so(tiny_student: Student, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="--decoder: students of twinflow_z have one decoder; leave --decoder out"):
        load_family("twinflow_z").replace_decoder(tiny_student, tmp_path)


def test_the_fingerprint_covers_the_files_of_a_part(made_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a bundle's key does. The part is remembered by its path; of a pipeline's folder the decoder alone is hashed."""
    monkeypatch.setattr(SanaSprint, "replace_decoder", lambda self, student, folder: student)
    plain, first, again, other = (
        load_student("sprint-tiny", parts=parts)
        for parts in (NO_PARTS, Parts(decoder=made_folder), Parts(decoder=made_folder / "vae"), Parts(decoder="sprint-tiny"))
    )
    assert len({plain.fingerprint, first.fingerprint, other.fingerprint}) == 3
    assert first.fingerprint == again.fingerprint
    assert first.parts.decoder == made_folder
    assert dataclasses.replace(first, fingerprint=plain.fingerprint, parts=NO_PARTS).source == plain.source
