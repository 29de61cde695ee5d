"""Campaign: what is given beside a checkpoint, or to `compare`, comes from elsewhere: it is altered, and drawn with.

    --lora, --decoder, --controlnet           files and folders of other people's
    a .pth checkpoint, --vae, --text-encoder  a pickle, of which tensors alone are read
    compare FOLDER                            a diffusers folder of another program
Right: drawn, or one line; no code of theirs runs, and nothing outside is read.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pickle
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderDC
from safetensors.torch import save_file

from sprint_export.libraries import hush
from sprint_export.noise import make_noise
from sprint_export.nouns.parts import Lora, Parts
from sprint_export.nouns.student import Student
from sprint_export.quantize.torch_session import open_torch
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.students.family import load_family
from sprint_export.validate.comparing.entry import Setting, find_kind
from tests.attack import file_mutations, mutate_students
from tests.attack.forks import run_forked, was_read, watch_reads
from tests.attack.outcomes import OUTSIDE, Tally, judge
from tests.made_student import PROMPTS, VAE, make_pipeline
from tests.students.sana_sprint.test_controlnet import make_controlnet
from tests.students.sana_sprint.test_native import SAID, to_native, trained
from tests.students.sana_sprint.test_other_decoder import LIGHT
from tests.students.test_lora import FORMS, make_factors, spell

NAME = "altered parts"
SECONDS, GIGABYTES = 60.0, 4.0
METHODS: tuple[Any, ...] = (
    "bitsandbytes_4bit",
    "gptq",
    "quanto",
    "gguf",
    "modelopt",
    "sdnq",
    "torchao",
    "evil",
    "",
    None,
    5,
    [],
    {},
)
FOLDER_KINDS = ("code", "link", "type", "damage", "missing", "value", "weights", "layout")
Choice = random.Random


class Evil:
    """What a pickle may hold: a call when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> Any:
        """The call."""
        return exec, (f"import pathlib; pathlib.Path({self.mark!r}).touch()",)


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is altered, and how it is used: `folder` below the base holds it."""

    name: str
    folder: str
    act: Callable[[Path], str]
    weight: int = 1


def draw(student: Student) -> str:
    """One picture in torch; numbers are looked at, for a NaN is no picture."""
    pictures = open_torch(specialize_student(student))(PROMPTS[:1], noise=make_noise(1, 1, 1, student.latent_shape))
    return "" if pictures.dtype == np.uint8 else "no picture"


def make_base(base: Path) -> None:
    """The made student, and beside it what it may be given."""
    with hush():
        make_pipeline().save_pretrained(base / "student")
        make_controlnet().save_pretrained(base / "control")
        torch.manual_seed(1)
        AutoencoderDC.from_config(VAE | LIGHT).save_pretrained(base / "decoder")
    made = load_student(base / "student")
    factors = make_factors(made)
    (base / "lora").mkdir()
    save_file(spell(factors, FORMS["PEFT"]), base / "lora" / "adapter_model.safetensors")
    (base / "lora" / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 4, "peft_type": "LORA"}))
    (base / "native").mkdir()
    weights = {name: handle.load().clone() for name, handle in made.components["transformer"].weights.items()}
    torch.save(trained(to_native(weights)), base / "native" / "epoch_1.pth")
    (base / "native" / "epoch_1.json").write_text(json.dumps(SAID))
    shutil.copytree(base / "student", base / "theirs")


def list_subjects(base: Path) -> tuple[Subject, ...]:
    """All of them; acts take the altered copy of their folder."""
    plain, whole = base / "student", Parts(vae=base / "student", text_encoder=base / "student")

    def load(folder: Path, **parts: Any) -> str:
        return draw(load_student(folder, parts=Parts(**parts)))

    return (
        Subject("--lora", "lora", lambda f: load(plain, lora=(Lora(f),)), 3),
        Subject("--lora FILE", "lora", lambda f: load(plain, lora=(Lora(f / "adapter_model.safetensors", 0.5),)), 2),
        Subject("--decoder", "decoder", lambda f: load(plain, decoder=f), 2),
        Subject("--controlnet", "control", lambda f: load(plain, controlnet=f), 2),
        Subject("a .pth", "native", lambda f: draw(load_student(f / "epoch_1.pth", parts=whole)), 3),
        Subject("--vae of a .pth", "theirs", lambda f: _complete(base, vae=f), 1),
        Subject("--text-encoder of a .pth", "theirs", lambda f: _complete(base, text_encoder=f), 1),
        Subject("compare FOLDER", "theirs", lambda f: compare(f, load_student(plain)), 4),
    )


def _complete(base: Path, **parts: Path) -> str:
    named: dict[str, Any] = {"vae": base / "student", "text_encoder": base / "student", **parts}
    return draw(load_student(base / "native" / "epoch_1.pth", parts=Parts(**named)))


def compare(folder: Path, student: Student) -> str:
    """As `compare` opens and draws it."""
    family = load_family(student.family)
    setting = Setting(student, PROMPTS[:1], 1, family.plan_times(1), family.guidance, (64, 64))
    drawn = find_kind(folder).open(folder, setting).draw(0, PROMPTS[0], make_noise(1, 1, 1, student.latent_shape))
    return "" if drawn.picture.shape == (64, 64, 3) else f"a picture of {drawn.picture.shape}"


def alter(subject: Subject, folder: Path, choose: Choice) -> tuple[str, str]:
    """(the kind of the mutation, what it did)."""
    how = choose.random()
    if subject.folder == "native" and how < 0.4:
        return "pickle", plant_pickle(folder, choose)
    if subject.name == "compare FOLDER" and how < 0.35:
        return "method", name_method(folder, choose)
    if subject.folder == "theirs" and how < 0.8:
        kind = choose.choice(FOLDER_KINDS)
        return kind, mutate_students.MUTATIONS[kind](folder, choose)
    path = choose.choice(mutate_students.list_regular(folder))
    if path.suffix == ".safetensors" and how < 0.9:
        return "weights", mutate_students.change_weights(folder, choose)
    outside = folder.parent / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "secret").write_text('{"secret": 1}')
    kind, what = file_mutations.alter_file(path, choose, outside)
    watch_reads(outside)
    return kind, what


def plant_pickle(folder: Path, choose: Choice) -> str:
    """A pickle with a call in it, in the place of the checkpoint or of something in it."""
    path, mark = folder / "epoch_1.pth", folder.parent / "ran"
    held = torch.load(path, weights_only=False)  # our own
    how = choose.choice(["plain", "whole", "beside", "within", "old format", "tensors", "tar", "wide"])
    if how == "plain":
        path.write_bytes(pickle.dumps(Evil(mark)))
    elif how == "whole":
        torch.save(Evil(mark), path)
    elif how == "beside":
        torch.save(held | {"args": Evil(mark)}, path)
    elif how == "within":
        held["state_dict"][choose.choice(sorted(held["state_dict"]))] = Evil(mark)
        torch.save(held, path)
    elif how == "old format":
        torch.save(held | {"args": Evil(mark)}, path, _use_new_zipfile_serialization=False)
    elif how == "tensors":
        name = choose.choice(sorted(held["state_dict"]))
        odd: tuple[Any, ...] = (
            torch.zeros(1).expand(10**12),
            torch.zeros(3).to_sparse(),
            torch.zeros(2, device="meta"),
            "text",
            None,
            5,
            {},
        )
        odd += (torch.zeros(3, dtype=torch.complex64), torch.quantize_per_tensor(torch.zeros(3), 1, 0, torch.qint8))
        held["state_dict"][name] = choose.choice(odd)
        torch.save(held, path)
    elif how == "tar":
        packed = shutil.make_archive(str(folder.parent / "packed"), "zip", folder)
        shutil.move(packed, path)
    else:
        torch.save({"state_dict": {f"x{i}": torch.zeros(1) for i in range(5000)}}, path)
    return f"pickle: {how}"


def name_method(folder: Path, choose: Choice) -> str:
    """A quantization that a network's config names, a pickle or an adapter that a library would open, graphs of OpenVINO."""
    part = folder / choose.choice(["transformer", "text_encoder", "vae"])
    how = choose.choice(["method", "method", "pickle", "adapter", "graph", "pipeline", "model_index"])
    if how == "method":
        config = json.loads((part / "config.json").read_text())
        method = choose.choice(METHODS)
        named = choose.choice(
            [{"quant_method": method}, {"quant_method": method, "modules_to_not_convert": ["x"], "quant_type": "evil"}, method]
        )
        (part / "config.json").write_text(json.dumps(config | {"quantization_config": named}))
        return f"{part.name}: quantization_config {named}"
    if how == "pickle":
        for path in part.glob("*.safetensors"):
            path.with_suffix(".bin").write_bytes(pickle.dumps(Evil(folder.parent / "ran")))
            path.unlink()
    elif how == "adapter":
        (part / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/etc", "peft_type": "LORA"}))
    elif how == "graph":
        (part / "openvino_model.xml").write_text(
            '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><net>&e;</net>'
        )
    elif how == "pipeline":
        (folder / "pipeline.py").write_text(mutate_students.CODE.format(mark=str(folder.parent / "ran")))
        index = json.loads((folder / "model_index.json").read_text())
        (folder / "model_index.json").write_text(
            json.dumps(index | {"_class_name": choose.choice([["pipeline", "Evil"], "pipeline", "Evil", 5])})
        )
    else:
        index = json.loads((folder / "model_index.json").read_text())
        (folder / "model_index.json").write_text(
            json.dumps(
                index
                | {
                    choose.choice(["vae", "x", "_x", "feature_extractor"]): choose.choice(
                        [["evil", "Evil"], [None, None], "x", ["os", "system"]]
                    )
                }
            )
        )
    return f"{part.name}: {how}"


def run(count: int, seed: int, tally: Tally) -> None:
    """Alter `count` parts."""
    with tempfile.TemporaryDirectory(prefix="parts-") as place:
        base = Path(place) / "base"
        make_base(base)
        subjects = list_subjects(base)
        for subject in subjects:
            ended = run_forked(functools.partial(subject.act, base / subject.folder), 200, 8)
            assert (ended.kind, ended.text) == ("returned", ""), f"{subject.name}: {ended}"
        for i in range(count):
            choose, work = Choice(f"{seed} {i}"), Path(place) / str(i)
            subject = choose.choices(subjects, [each.weight for each in subjects])[0]
            folder = Path(shutil.copytree(base / subject.folder, work / "student"))
            kind, what = alter(subject, folder, choose)
            ended = run_forked(functools.partial(subject.act, folder), SECONDS, GIGABYTES)
            outcome = OUTSIDE if (work / "ran").exists() or was_read(work / "outside") else judge(ended.kind, ended.text)
            tally.add(
                f"{subject.name}, {kind}", outcome, f"{seed} {i}: {what}: {ended.kind} {ended.text[:300]} ({ended.seconds:.1f} s)"
            )
            shutil.rmtree(work, ignore_errors=True)
