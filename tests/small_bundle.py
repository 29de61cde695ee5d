"""A bundle of a few bytes whose manifest makes sense; its networks and its tokenizer are none, so it cannot be opened."""

from __future__ import annotations

from pathlib import Path

from sprint_export.export.bundle import make_artifact, write_bundle
from sprint_export.nouns.bundle import Bundle, ComponentRecord, Part
from sprint_export.nouns.recipe import QuantizedLayer, Recipe, Rule
from sprint_export.nouns.student import PromptPlan, StepPlan, TensorSpec
from sprint_export.students.sana_sprint.family import FAMILY

LATENTS = TensorSpec("latents", "float32", (1, 4, 16, 16), "noise")
EMBEDS = TensorSpec("prompt_embeds", "float32", (1, 300, 8), "rows")
INTERFACES = {
    "transformer": (
        (LATENTS, EMBEDS, TensorSpec("prompt_mask", "int64", (1, 300), ""), TensorSpec("step", "int64", (1,), "")),
        (TensorSpec("denoised", "float32", (1, 4, 16, 16), "x0"),),
    ),
    "text_encoder": ((TensorSpec("input_ids", "int64", (1, 490), "ids"),), (EMBEDS,)),
    "vae_decoder": ((LATENTS,), (TensorSpec("image", "float32", (1, 3, 32, 32), "picture"),)),
}
LAYER = QuantizedLayer("fp8", 1 / 3, None, "bf16")
RECIPE = Recipe("mine", (Rule("transformer.*", "float", "why"), Rule("*", "fp8")), ("ein grüner Kreis",), 3)


def make_record(role: str) -> ComponentRecord:
    """One network in one part."""
    inputs, outputs = INTERFACES[role]
    parts = (Part("model.onnx", inputs, outputs),)
    return ComponentRecord(role, inputs, outputs, parts, {"FLOAT8E4M3FN": 12}, {"blocks.0": LAYER}, ("a note",))


def make_small_bundle(folder: Path) -> Bundle:
    """Write it into a new folder."""
    files: list[tuple[str, str, str, bytes]] = []
    for role in INTERFACES:
        files += [(role, "graph", f"{role}/model.onnx", b"graph"), (role, "weights", f"{role}/model.onnx.data", b"weights" * 100)]
    files.append(("tokenizer", "tokenizer", "tokenizer/tokenizer.json", b"{}"))
    for _, _, path, content in files:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    made = Bundle(
        folder=folder,
        family="sana_sprint",
        source="made",
        revision=None,
        licence="none",
        target="trt",
        precision="fp8",
        device="rtx-4090",
        options={"builder": "tensorrt-rtx"},
        layout="channels-first",
        chain=FAMILY.chain.keep(FAMILY.chain.list_missing(())),
        plan=StepPlan((1.0000036732185957, 1 / 3), 4.5),
        prompt=PromptPlan("prefix\n", True, 490, 300, 0, vocabulary=64),
        latent_shape=(4, 16, 16),
        components=tuple(make_record(role) for role in INTERFACES),
        artifacts=tuple(make_artifact(folder, folder / path, role, kind, "onnx") for role, kind, path, _ in files),
        recipe=RECIPE,
        fingerprint="f",
        key="k",
        tools={"torch": "2.13.0"},
        runtimes={"onnxruntime": "1.21.0"},
    )
    write_bundle(made)
    return made
