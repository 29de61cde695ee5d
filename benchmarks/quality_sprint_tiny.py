"""How good the embedded student's 8-bit pictures are: this package's recipes, PyTorch bf16, NNCF and modelopt, on equal terms.

    python benchmarks/quality_sprint_tiny.py --count 256 --out benchmarks/results
    python benchmarks/quality_sprint_tiny.py --noises 4 --rows exported    # 1024 pictures a row: how often pictures flip

All start from one student, calibrate on the same prompts, leave the same layers float and draw the same held-out captions from
the same noise; all are compared with PyTorch float32. A flip is a picture in which the detector sees another scene: PyTorch's own
bf16 pipeline says how many are natural. Rows `<target>-<precision>` are exported graphs, run by ONNX Runtime (fp32-compute
shadows for trt-*); NNCF's models run in OpenVINO, modelopt's are its own simulation in torch. Rows `recipe:` compare recipes by
their rounding in torch, which the graphs repeat; rows `planted:` start from the student with outliers (tests/planted.py),
which computes the same function. Seconds and peak memory are those of quantizing, each in a process of its own: ours calibrate in
it, the peers' inputs are drawn before the clock starts.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import functools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sprint_export.noise import make_noise
from sprint_export.nouns.order import Deployment
from sprint_export.nouns.student import Student
from sprint_export.prompt_reader import PromptReader
from sprint_export.quantize.recipes import default_recipe, read_preset
from sprint_export.session import open_student
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.students.sana_sprint.family import FAMILY
from sprint_export.students.sana_sprint.reference import make_reference
from sprint_export.validate.machine import describe_machine

ROLES = FAMILY.chain.list_missing(())  # without which there is no picture

STUDENT = "sprint-tiny"
BATCH = 32
SEEDS = 1000  # between the noises of a caption
NAIVE: dict[str, Any] = {"observer": "max", "smooth": 0.0, "correct_bias": False}
EXPORTED: dict[str, tuple[str, dict[str, Any]]] = {  # label -> preset and changes
    "max": ("balanced", NAIVE),
    "smooth 0.5": ("balanced", {}),
    "faithful": ("faithful", {}),
}
RECIPES = {
    "max": NAIVE,
    "percentile": NAIVE | {"observer": "percentile"},
    "mse": NAIVE | {"observer": "mse"},
    "max, biases": NAIVE | {"correct_bias": True},
    "smooth 0.5": NAIVE | {"smooth": 0.5},
    "smooth 0.5, mse": NAIVE | {"smooth": 0.5, "observer": "mse"},
}
DOORS = ("patch_embed", "caption_projection", "proj_out", "decoder.conv_in", "decoder.conv_out")  # float in our default recipe


@dataclasses.dataclass(frozen=True)
class Draws:
    """Which pictures: so many held-out captions, each from so many noises."""

    count: int
    noises: int = 1

    def captions(self, student: Student) -> list[str]:
        """All captions, then all again."""
        return list(student.validation_prompts[: self.count]) * self.noises

    def noise(self, student: Student) -> np.ndarray:
        """float32 [1, count noises, C, h, w]; caption i has the seeds i, i + SEEDS, ..."""
        parts = [make_noise(k * SEEDS, 1, self.count, student.latent_shape) for k in range(self.noises)]
        return np.concatenate(parts, axis=1)


@dataclasses.dataclass
class Drawn:
    """Pictures uint8 [B, H, W, 3]; seconds and peak gigabytes of quantizing."""

    pictures: np.ndarray
    seconds: float = 0.0
    peak_gb: float = 0.0


def specialized(is_planted: bool = False) -> Student:
    """The student that all quantizers start from."""
    student = specialize_student(load_student(STUDENT))
    if not is_planted:
        return student
    sys.path.insert(0, str(Path(__file__).parent.parent))  # tests are no package of the wheel
    from tests.planted import plant_outliers

    return plant_outliers(student)


def draw(
    run: Mapping[str, Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]], student: Student, draws: Draws
) -> np.ndarray:
    """Pictures by functions that stand for the networks."""
    pipeline = open_student(student, {role: _Session(call) for role, call in run.items()})
    return pipeline(draws.captions(student), noise=draws.noise(student))


@dataclasses.dataclass
class _Session:
    run: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]
    description: str = ""


def measured(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Its result, seconds, and the process's peak gigabytes after it."""
    start = time.monotonic()
    result = work()
    return result, time.monotonic() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def draw_stock(dtype: torch.dtype, draws: Draws) -> Drawn:
    """The stock diffusers pipeline."""
    student = load_student(STUDENT)
    pipeline = make_reference(student).to(dtype)
    pipeline.set_progress_bar_config(disable=True)
    side = student.latent_shape[1] * pipeline.vae_scale_factor
    fixed = {"num_inference_steps": 1, "intermediate_timesteps": None, "use_resolution_binning": False, "output_type": "np"}
    pictures, noise = [], torch.from_numpy(draws.noise(student)[0]).to(dtype)
    for prompt, latents in zip(draws.captions(student), noise, strict=True):
        with torch.no_grad():
            image = pipeline(prompt, height=side, width=side, latents=latents[None], **fixed).images
        pictures.append(np.rint(image * 255).astype(np.uint8))
    return Drawn(np.concatenate(pictures))


def draw_ours(target_name: str, precision: str, preset: str, changes: Mapping[str, Any], draws: Draws) -> Drawn:
    """Quantize, export, and draw with the exported graphs."""
    from sprint_export.devices import find_device
    from sprint_export.export import export_student
    from sprint_export.quantize import quantize_student
    from sprint_export.registry import load_target
    from sprint_export.runtimes import open_bundle

    student, target = specialized(), load_target(target_name)
    recipe = dataclasses.replace(read_preset(preset, precision, student, target), **changes)
    quantized, seconds, peak = measured(lambda: quantize_student(student, precision, target, recipe))
    with tempfile.TemporaryDirectory() as folder:
        deployment = Deployment(target, precision, find_device(target.default_device))
        bundle = export_student(quantized, deployment, Path(folder) / "bundle")
        pipeline = open_bundle(bundle.folder, None, verify=False)
        pictures = pipeline(draws.captions(student), noise=draws.noise(student))
    return Drawn(pictures, seconds, peak)


def draw_recipe(precision: str, changes: Mapping[str, Any], is_planted: bool, draws: Draws) -> Drawn:
    """Quantize for ONNX, and draw in torch with the same rounding, many pictures at once; calibration is shared, not timed."""
    from sprint_export.quantize import quantize_student
    from sprint_export.quantize.torch_session import TorchSession
    from sprint_export.registry import load_target
    from sprint_export.session import to_uint8

    student, target = specialized(is_planted), load_target("onnx")
    recipe = dataclasses.replace(default_recipe(precision, student, target), **changes)
    quantized = quantize_student(student, precision, target, recipe)
    text, denoiser, decoder = (TorchSession(quantized.components[role], fake=True) for role in ROLES)
    reader = PromptReader(student.prompt, student.tokenizer / "tokenizer.json")
    ids, mask = reader.read(draws.captions(student))
    noise, pictures = draws.noise(student)[0], []
    for rows in (slice(start, start + BATCH) for start in range(0, len(noise), BATCH)):
        embeds = text.run({"input_ids": ids[rows]})["prompt_embeds"]
        feeds = {"latents": noise[rows], "prompt_embeds": embeds, "prompt_mask": mask[rows]}
        pictures.append(to_uint8(decoder.run({"latents": denoiser.run(feeds)["denoised"]})["image"]))
    return Drawn(np.concatenate(pictures))


def calibration_feeds(student: Student) -> dict[str, list[dict[str, np.ndarray]]]:
    """What the three float networks read on the recipe's prompts and noise: NNCF and modelopt calibrate on it."""
    from sprint_export.quantize.torch_session import TorchSession
    from sprint_export.registry import load_target

    recipe = default_recipe("int8", student, load_target("onnx"))
    feeds: dict[str, list[dict[str, np.ndarray]]] = {role: [] for role in ROLES}
    networks = {role: TorchSession(student.components[role]) for role in ROLES}

    def note(role: str) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
        def run(given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            feeds[role].append(dict(given))
            return networks[role].run(given)

        return run

    pipeline = open_student(student, {role: _Session(note(role)) for role in ROLES})
    pipeline(recipe.prompts, seed=recipe.seed)
    return feeds


def draw_nncf(preset: str, is_planted: bool, draws: Draws) -> Drawn:
    """nncf.quantize of the three networks as OpenVINO models, SmoothQuant as it does by default for transformers."""
    import nncf
    import openvino as ov

    student = specialized(is_planted)
    feeds = calibration_feeds(student)
    core = ov.Core()

    def quantize(role: str) -> Any:
        component = student.components[role]
        example = tuple(torch.from_numpy(feeds[role][0][spec.name]) for spec in component.inputs)
        shapes = [tuple(value.shape) for value in example]
        model = ov.convert_model(_materialized(student, role), example_input=example, input=shapes)
        rows = [[feed[spec.name] for spec in component.inputs] for feed in feeds[role]]
        doors = [f".*{name.replace('.', '[.]')}.*" for name in DOORS]
        return nncf.quantize(
            model,
            nncf.Dataset(rows),
            preset=nncf.QuantizationPreset(preset),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(rows),
            ignored_scope=nncf.IgnoredScope(patterns=doors, validate=False),
        )

    models, seconds, peak = measured(lambda: {role: quantize(role) for role in ROLES})
    compiled = {role: core.compile_model(model, "CPU") for role, model in models.items()}

    def run(role: str) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
        component = student.components[role]
        return lambda given: {component.outputs[0].name: compiled[role]([given[spec.name] for spec in component.inputs])[0]}

    return Drawn(draw({role: run(role) for role in ROLES}, student, draws), seconds, peak)


def draw_modelopt(config: str, is_planted: bool, draws: Draws) -> Drawn:
    """modelopt.torch.quantization.quantize of the three networks."""
    import modelopt.torch.quantization as mtq

    student = specialized(is_planted)
    feeds = calibration_feeds(student)
    chosen = copy.deepcopy(getattr(mtq, config))
    chosen["quant_cfg"] += [{"quantizer_name": f"*{name}*", "enable": False} for name in DOORS]

    def call(module: torch.nn.Module, role: str, feed: Mapping[str, np.ndarray]) -> torch.Tensor:
        with torch.no_grad():
            output: torch.Tensor = module(*(torch.from_numpy(feed[spec.name]) for spec in student.components[role].inputs))
        return output

    def quantize(role: str) -> torch.nn.Module:
        def forward(module: torch.nn.Module) -> None:
            for feed in feeds[role]:
                call(module, role, feed)

        found: torch.nn.Module = mtq.quantize(_materialized(student, role), copy.deepcopy(chosen), forward)
        return found

    modules, seconds, peak = measured(lambda: {role: quantize(role) for role in ROLES})

    def run(role: str) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
        name = student.components[role].outputs[0].name
        return lambda given: {name: call(modules[role], role, given).numpy()}

    return Drawn(draw({role: run(role) for role in ROLES}, student, draws), seconds, peak)


def _materialized(student: Student, role: str) -> torch.nn.Module:
    from sprint_export.weights import materialize

    return materialize(student.components[role].module, student.components[role].weights)


Rows = dict[str, Callable[[Draws], Drawn]]


def list_groups() -> list[Rows]:
    """Row name -> what draws it; rows of a group share a process."""
    alone: Rows = {
        "pytorch-fp32": functools.partial(draw_stock, torch.float32),
        "pytorch-bf16": functools.partial(draw_stock, torch.bfloat16),
    }
    for target, precision in (("onnx", "int8"), ("trt", "int8"), ("onnx", "fp8"), ("trt", "fp8")):
        for label, (preset, changes) in EXPORTED.items():
            alone[f"{target}-{precision} {label}"] = functools.partial(draw_ours, target, precision, preset, changes)
    for preset in ("performance", "mixed"):
        alone[f"nncf int8 {preset}"] = functools.partial(draw_nncf, preset, False)
    alone["planted: nncf int8 performance"] = functools.partial(draw_nncf, "performance", True)
    alone["modelopt int8 smoothquant"] = functools.partial(draw_modelopt, "INT8_SMOOTHQUANT_CFG", False)
    alone["modelopt fp8"] = functools.partial(draw_modelopt, "FP8_DEFAULT_CFG", False)
    alone["planted: modelopt int8 smoothquant"] = functools.partial(draw_modelopt, "INT8_SMOOTHQUANT_CFG", True)
    recipes: Rows = {}
    for where, is_planted in (("recipe", False), ("planted", True)):
        for precision in ("int8", "fp8"):
            for label, changes in RECIPES.items():
                recipes[f"{where}: {precision} {label}"] = functools.partial(draw_recipe, precision, changes, is_planted)
    return [*({name: row} for name, row in alone.items()), recipes]


def run_group(names: Sequence[str], draws: Draws, folder: Path) -> None:
    """These rows in this process; pictures and costs go to files."""
    rows = {name: row for group in list_groups() for name, row in group.items()}
    for i, name in enumerate(names):
        drawn = rows[name](draws)
        np.savez(folder / f"{i}.npz", pictures=drawn.pictures, costs=[drawn.seconds, drawn.peak_gb])


def start_group(names: Sequence[str], draws: Draws) -> Iterator[tuple[str, Drawn]]:
    """These rows in a process of their own, with a calibration of their own."""
    with tempfile.TemporaryDirectory(prefix="sprint-export-") as folder:
        script = f"import quality_sprint_tiny as q, pathlib; q.run_group({list(names)!r}, q.{draws!r}, pathlib.Path({folder!r}))"
        environment = os.environ | {"SPRINT_EXPORT_CACHE": str(Path(folder) / "cache")}
        here = Path(__file__).parent
        done = subprocess.run([sys.executable, "-c", script], cwd=here, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{names[0]} failed:\n{done.stderr[-3000:]}")
        for i, name in enumerate(names):
            with np.load(Path(folder) / f"{i}.npz") as file:
                yield name, Drawn(file["pictures"], *(float(cost) for cost in file["costs"]))


def compare(pictures: np.ndarray, reference: np.ndarray, captions: Sequence[str]) -> dict[str, float]:
    """Picture error, and what is shown."""
    from sprint_export.psnr import psnr_images
    from sprint_export.students.sprint_tiny.adherence import count_flips, measure_adherence
    from sprint_export.validate.images import ssim_images

    psnr = psnr_images(pictures, reference)
    found = {
        "psnr_db": float(psnr.mean()),
        "psnr_worst_db": float(psnr.min()),
        "ssim": float(ssim_images(pictures, reference).mean()),
        "adherence_percent": 100 * measure_adherence(captions, list(pictures)).everything,
        "flips": count_flips(list(pictures), list(reference)),
    }
    return {key: round(value, 4) for key, value in found.items()}


def main() -> None:
    """Run the rows one after the other and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--noises", type=int, default=1, help="pictures a caption")
    parser.add_argument("--rows", default="", help="only rows whose name contains this; `exported`: no row that torch rounds")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    draws = Draws(options.count, options.noises)
    found: dict[str, Any] = {
        "command": " ".join(["python benchmarks/quality_sprint_tiny.py", *sys.argv[1:]]),
        "machine": describe_machine(),
    }
    captions = draws.captions(load_student(STUDENT))
    reference: np.ndarray | None = None
    for group in list_groups():
        names = [name for name in group if name == "pytorch-fp32" or _is_wanted(name, options.rows)]
        for name, drawn in start_group(names, draws) if names else ():
            reference = drawn.pictures if reference is None else reference
            found[name] = compare(drawn.pictures, reference, captions)
            if drawn.seconds:
                found[name] |= {"quantize_s": round(drawn.seconds, 1), "quantize_peak_gb": round(drawn.peak_gb, 2)}
            print(f"{name}: {found[name]}", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    name = "quality_sprint_tiny.json" if draws.noises == 1 else f"quality_sprint_tiny_{draws.noises}_noises.json"
    (options.out / name).write_text(json.dumps(found, indent=1) + "\n")


def _is_wanted(name: str, rows: str) -> bool:
    if rows == "exported":
        return not name.startswith(("recipe:", "planted:"))
    return rows in name


if __name__ == "__main__":
    main()
