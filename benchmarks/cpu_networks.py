"""What cpu_engines.py runs: SANA-Sprint 0.6B's networks with random weights, stock in PyTorch, and ours.

Every network is fed the same seeded inputs, and every engine answers with the same thing: prompt embeddings, denoised latents
(for a stock transformer: latents - v), a picture.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

NAME = "sana-sprint-0.6b"
GUIDANCE = 0.45  # 4.5 times the student's guidance_embeds_scale
OURS = {  # engine -> target and precision
    "onnx-fp32": ("onnx", "fp32"),
    "onnx-int8": ("onnx", "int8"),
    "openvino-fp16": ("openvino", "fp16"),
    "openvino-int8": ("openvino", "int8"),
}


def make_student(pixels: int) -> Any:
    """The preset at another picture size."""
    from sprint_export.students.sana_sprint.presets import build_preset
    from sprint_export.students.sana_sprint.published import PRESETS

    preset = PRESETS[NAME]
    preset = dataclasses.replace(preset, transformer={**preset.transformer, "sample_size": pixels // 32})
    return build_preset(preset, f"random:{NAME}-{pixels}", 0)


def make_feeds(role: str, pixels: int, holds_prefix: bool = False) -> dict[str, np.ndarray[Any, Any]]:
    """Seeded inputs by the names of our graphs; a text encoder that holds the prefix reads the prompt's own ids."""
    from sprint_export.prompt_reader import PromptReader
    from sprint_export.specialize import specialize_student

    student, rng = make_student(pixels), np.random.default_rng(0)
    student = specialize_student(student) if holds_prefix else student
    latents = rng.standard_normal((1, *student.latent_shape), np.float32)
    if role == "vae_decoder":
        return {"latents": latents}
    ids, mask = PromptReader(student.prompt, student.tokenizer / "tokenizer.json").read(student.calibration_prompts[:1])
    if role == "text_encoder":
        return {"input_ids": ids}
    embeds = rng.standard_normal((1, student.prompt.keep, student.configs["text_encoder"]["hidden_size"]), np.float32)
    return {"latents": latents, "prompt_embeds": embeds, "prompt_mask": mask}


def quantized(role: str, pixels: int, engine: str, prompts: int) -> Any:
    """One specialized network, quantized where its precision asks for it; ranges come from the cache when they are there."""
    from sprint_export.conversion import keep_components
    from sprint_export.quantize import quantize_student
    from sprint_export.quantize.recipes import default_recipe
    from sprint_export.registry import load_target
    from sprint_export.specialize import specialize_student

    name, precision = OURS[engine]
    student = keep_components(specialize_student(make_student(pixels)), [role])
    recipe = default_recipe(precision, student, target := load_target(name))
    recipe = dataclasses.replace(recipe, prompts=recipe.prompts[:prompts])
    return quantize_student(student, precision, target, recipe).components[role]


def export(role: str, pixels: int, engine: str, prompts: int, folder: Path) -> None:
    """Write one network for one of our targets."""
    from sprint_export.export.exporter import load_exporter
    from sprint_export.registry import load_target

    name, precision = OURS[engine]
    target = load_target(name)
    exporter = load_exporter(target)
    exporter.write_component(quantized(role, pixels, engine, prompts), target, precision, {}, folder)


def open_ours(role: str, pixels: int, engine: str, folder: Path) -> Callable[[], np.ndarray[Any, Any]]:
    """The exported network on its runtime."""
    from sprint_export.conversion import keep_components
    from sprint_export.runtimes.runtime import load_runtime
    from sprint_export.specialize import specialize_student

    component = keep_components(specialize_student(make_student(pixels)), [role]).components[role]
    graph = next(path for path in (folder / "openvino_model.xml", folder / "model.onnx") if path.exists())
    session = load_runtime(OURS[engine][0]).open_session(graph, component.inputs, component.outputs)
    feeds = make_feeds(role, pixels, holds_prefix=True)
    return lambda: next(iter(session.run(feeds).values()))


def open_torch(role: str, pixels: int, dtype: str) -> Callable[[], np.ndarray[Any, Any]]:
    """The stock module in "float32" or "bfloat16"."""
    import torch

    call = _stock(role, pixels, getattr(torch, dtype))

    def run() -> np.ndarray[Any, Any]:
        with torch.no_grad():
            return np.asarray(call().float())

    return run


def _stock(role: str, pixels: int, dtype: Any) -> Callable[[], Any]:
    import torch

    from sprint_export.weights import materialize

    component = make_student(pixels).components[role]
    feeds = {name: torch.from_numpy(value) for name, value in make_feeds(role, pixels).items()}
    if role == "vae_decoder":
        handles = {k.removeprefix("decoder."): h for k, h in component.weights.items() if k.startswith("decoder.")}
        decoder = materialize(component.module.decoder, handles, dtype)
        factor = 1.0 / float(component.module.config.scaling_factor)
        return lambda: decoder((feeds["latents"] * factor).to(dtype))
    module = materialize(component.module, component.weights, dtype)
    if role == "text_encoder":
        keep = make_student(pixels).prompt.keep
        mask = torch.ones_like(feeds["input_ids"])

        def encode() -> Any:
            hidden = module(input_ids=feeds["input_ids"], attention_mask=mask).last_hidden_state
            return torch.cat([hidden[:, :1], hidden[:, 1 - keep :]], 1)

        return encode
    inputs = stock_inputs(pixels, dtype)
    return lambda: feeds["latents"] - module(**inputs, return_dict=False)[0].float()


def stock_inputs(pixels: int, dtype: Any) -> dict[str, Any]:
    """What the stock transformer takes at its one step."""
    import torch

    feeds = {name: torch.from_numpy(value) for name, value in make_feeds("transformer", pixels).items()}
    return {
        "hidden_states": feeds["latents"].to(dtype),
        "encoder_hidden_states": feeds["prompt_embeds"].to(dtype),
        "timestep": torch.ones(1),
        "guidance": torch.full((1,), GUIDANCE, dtype=dtype),
        "encoder_attention_mask": feeds["prompt_mask"],
    }
