"""One ranking of what other programs make of the embedded student and what this package makes: `sprint-export compare`.

    python benchmarks/compare_peers.py --count 64 --work WORK --out benchmarks/results/compare_peers.json

onnx-int8, openvino-int8, trt-fp8   bundles; TensorRT's graphs run as their float32 shadow, so their latency is not measured
nncf int8        nncf.quantize of the three networks of `openvino-fp16 --layout optimum`, opened by optimum-intel's own pipeline
modelopt fp8     modelopt.torch.quantization of the three networks, its own simulation in torch; a folder of pictures
sdnq int8        SDNQ of the stock pipeline, weights only, and weights and inputs (`int8 matmul`); diffusers opens them
torchao int8     weights of the transformer alone, as diffusers' TorchAoConfig makes them; diffusers opens it
blank            planted: pictures of one grey; it has to be flagged and to come last

NNCF and modelopt calibrate on our recipe's prompts and leave the layers float that ours leaves (quality_sprint_tiny.py); SDNQ and
torchao need no prompts. What is made is kept in WORK. Takes the extra `peers`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import quality_sprint_tiny as quality
import torch
from PIL import Image

from sprint_export.conversion import convert
from sprint_export.quantize.recipes import default_recipe
from sprint_export.registry import load_target
from sprint_export.students import load_student
from sprint_export.students.embedded import complete_folder
from sprint_export.students.source import HERE
from sprint_export.validate.comparing.compare import compare_entries
from sprint_export.validate.comparing.comparison import Comparison
from sprint_export.validate.comparing.entries.diffusers_folder import StockEntry
from sprint_export.validate.comparing.entries.optimum_folder import ENTRY as OPTIMUM
from sprint_export.validate.comparing.entry import Setting

STUDENT = "sprint-tiny"
OURS = ("onnx-int8", "openvino-int8", "trt-fp8")
ROLES = ("text_encoder", "transformer", "vae_decoder")  # of optimum's pipeline
PARTS = ("text_encoder", "transformer", "vae")  # of diffusers'
GREY = 128
KEPT = ("psnr_db", "psnr_worst_db", "ssim", "adherence_percent", "flips", "blank_pictures", "latency_p50_ms", "disk_mb")


def make_ours(name: str, folder: Path) -> None:
    """A bundle, not validated: the comparison does that."""
    convert(STUDENT, name, folder, validate=False)


def make_nncf(folder: Path, work: Path) -> None:
    """The three networks in optimum-intel's layout, quantized by NNCF on what the pipeline feeds them; no manifest is left."""
    import nncf
    import openvino

    plain = work / "openvino-fp16-optimum"
    if not plain.exists():
        convert(STUDENT, "openvino-fp16", plain, validate=False, options={"layout": "optimum"})
    foreign = shutil.copytree(plain, folder)
    for file in ("bundle.json", "README.md"):
        (foreign / file).unlink(missing_ok=True)
    feeds = record_feeds(foreign)
    doors = [f".*{name.replace('.', '[.]')}.*" for name in quality.DOORS]
    for role in ROLES:
        path = foreign / role / "openvino_model.xml"
        model = nncf.quantize(
            openvino.Core().read_model(path),
            nncf.Dataset(feeds[role]),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(feeds[role]),
            ignored_scope=nncf.IgnoredScope(patterns=doors, validate=False),
        )
        openvino.save_model(model, foreign / "new.xml", compress_to_fp16=False)
        for suffix in (".xml", ".bin"):
            (foreign / "new.xml").with_suffix(suffix).replace(path.with_suffix(suffix))


class Recorder:
    """A compiled network that notes what it is fed."""

    def __init__(self, network: Any) -> None:
        self.network, self.feeds = network, []

    def __call__(self, feeds: Any, **named: Any) -> Any:
        self.feeds.append({name: np.array(value) for name, value in feeds.items()})
        return self.network(feeds, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)


def record_feeds(folder: Path) -> dict[str, list[dict[str, np.ndarray]]]:
    """What optimum-intel's pipeline feeds the networks on the prompts and noise that our recipe calibrates with."""
    student = load_student(STUDENT)
    recipe = default_recipe("int8", quality.specialized(), load_target("onnx"))
    side = student.latent_shape[1] * 8
    entry = OPTIMUM.open(folder, Setting(student, recipe.prompts, 0, (1.0,), 4.5, (side, side)))
    assert isinstance(entry, StockEntry)
    entry.pipeline.compile()
    recorders = {}
    for role in ROLES:
        part = getattr(entry.pipeline, role)
        part.request = recorders[role] = Recorder(part.request)
    noise = quality.make_noise(recipe.seed, 1, len(recipe.prompts), student.latent_shape)
    for place, prompt in enumerate(recipe.prompts):
        entry.draw(place, prompt, noise[:, place : place + 1])
    return {role: recorder.feeds for role, recorder in recorders.items()}


def make_modelopt(folder: Path, count: int) -> None:
    """Pictures of modelopt's simulation."""
    drawn = quality.draw_modelopt("FP8_DEFAULT_CFG", False, quality.Draws(count))
    save_pictures(folder, drawn.pictures, "nvidia-modelopt FP8_DEFAULT_CFG, simulated in torch")


def make_sdnq(folder: Path, is_matmul: bool) -> None:
    """SDNQ's int8 of the stock pipeline; with `is_matmul` inputs are rounded too, and products are of integers."""
    from diffusers import SanaSprintPipeline
    from sdnq import save_sdnq_model, sdnq_post_load_quant

    pipeline = SanaSprintPipeline.from_pretrained(complete_folder(HERE / "sprint_tiny"), local_files_only=True)
    chosen = {"use_quantized_matmul": is_matmul, "use_quantized_matmul_conv": is_matmul}
    for part in PARTS:
        network = getattr(pipeline, part)
        setattr(
            pipeline,
            part,
            sdnq_post_load_quant(network, weights_dtype="int8", quant_conv=True, torch_dtype=torch.float32, **chosen),
        )
    save_sdnq_model(pipeline, str(folder), is_pipeline=True)


def make_torchao(folder: Path) -> None:
    """torchao's int8 weights of the transformer."""
    from diffusers import SanaSprintPipeline, SanaTransformer2DModel, TorchAoConfig
    from torchao.quantization import Int8WeightOnlyConfig

    source = complete_folder(HERE / "sprint_tiny")
    chosen = TorchAoConfig(Int8WeightOnlyConfig())
    network = SanaTransformer2DModel.from_pretrained(
        source / "transformer", quantization_config=chosen, torch_dtype=torch.float32
    )
    SanaSprintPipeline.from_pretrained(source, transformer=network, local_files_only=True).save_pretrained(folder)


def make_blank(folder: Path, count: int) -> None:
    """Grey pictures."""
    side = load_student(STUDENT).latent_shape[1] * 8
    save_pictures(folder, np.full((count, side, side, 3), GREY, np.uint8), "planted: every picture one grey")


def save_pictures(folder: Path, pictures: np.ndarray, title: str) -> None:
    """As `compare` reads a folder of pictures."""
    folder.mkdir()
    for place, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{place}.png")
    prompts = load_student(STUDENT).validation_prompts[: len(pictures)]
    rows = [{"prompt": prompt, "seed": place} for place, prompt in enumerate(prompts)]
    (folder / "prompts.json").write_text(json.dumps({"title": title, "pictures": rows}), "utf-8")


def list_entries(count: int, work: Path) -> dict[str, Callable[[Path], None]]:
    """What makes the folder of each entry."""
    return {
        **{f"ours {name}": lambda folder, name=name: make_ours(name, folder) for name in OURS},
        "nncf int8": lambda folder: make_nncf(folder, work),
        "modelopt fp8": lambda folder: make_modelopt(folder, count),
        "sdnq int8": lambda folder: make_sdnq(folder, is_matmul=False),
        "sdnq int8 matmul": lambda folder: make_sdnq(folder, is_matmul=True),
        "torchao int8": make_torchao,
        "blank": lambda folder: make_blank(folder, count),
    }


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which gets its name when it is whole."""
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    yield part
    part.rename(folder)


def describe(found: Comparison) -> list[dict[str, Any]]:
    """The ranked rows, best first."""
    rows = []
    for each in found.entries:
        values = {name: round(value, 4) for name in KEPT if (value := each.value(name)) is not None}
        pairs = {
            row.metric: [round(row.value, 4), row.interval and [round(end, 4) for end in row.interval]]
            for row in each.against_best
        }
        said = {"rank": each.rank, "entry": each.name, "kind": each.kind, "made_by": each.description, "verdict": each.verdict}
        rows.append({**said, "is_on_front": each.is_on_front, **values, "from_the_best": pairs})
    return rows


def main() -> None:
    """Make what is not there, compare, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/compare_peers.json"))
    asked = parser.parse_args()
    work = asked.work / f"{asked.count}"
    work.mkdir(parents=True, exist_ok=True)
    folders = {name: work / name.replace(" ", "-") for name in list_entries(asked.count, work)}
    for name, make in list_entries(asked.count, work).items():
        if not folders[name].exists():
            print(f"making {name}", flush=True)
            with whole_folder(folders[name]) as part:
                make(part)
    found = compare_entries(folders, work / "comparison", load_student(STUDENT), count=asked.count)
    command = f"python benchmarks/compare_peers.py --count {asked.count}"
    value = {"command": command, "machine": found.machine, "prompts": len(found.prompts), "entries": describe(found)}
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(value, indent=1) + "\n", "utf-8")
    for row in value["entries"]:
        print(row, flush=True)


if __name__ == "__main__":
    main()
