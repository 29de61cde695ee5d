"""What the export tests share: exported graphs, made once, and ways to look into them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from sprint_export.export.to_onnx.shadow import write_shadow
from sprint_export.export.to_onnx.writer import make_graph, write_graph
from sprint_export.noise import make_noise
from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.nouns.student import Component, Student, TensorSpec
from sprint_export.prompt_reader import PromptReader
from sprint_export.quantize import quantize_student
from sprint_export.quantize.measure.streaming import OUTPUT, StreamedNetwork
from sprint_export.quantize.recipes import read_preset
from sprint_export.quantize.schemes.scheme import load_scheme
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.registry import load_target
from sprint_export.runtimes.onnx_cpu.runtime import make_options
from sprint_export.weights import random_handle
from tests.made_student import PROMPTS, Array


@dataclass(frozen=True)
class Exported:
    """One component on disk, beside what it was made from."""

    component: Component
    dtype: str
    path: Path
    shadow: Path | None

    @property
    def model(self) -> onnx.ModelProto:
        """The graph with its weights."""
        return onnx.load(str(self.path))


def export_component(component: Component, dtype: str, folder: Path, rewrites: Sequence[str] = ()) -> Exported:
    """As export_student does for each component."""
    path = folder / "model.onnx"
    write_graph(make_graph(component, dtype, rewrites), path)
    return Exported(component, dtype, path, write_shadow(path))


def quantize(student: Student, target: str, precision: str, recipe: str = "balanced") -> Student:
    """With the two prompts of the tests."""
    student, goal = dataclasses.replace(student, calibration_prompts=tuple(PROMPTS)), load_target(target)
    return quantize_student(student, precision, goal, read_preset(recipe, precision, student, goal))


class Small(torch.nn.Module):
    """Every kind of layer in a graph that is captured in a second: dense, depthwise and 1x1 Conv, Linears that share an input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(16, 32, 3, padding=1)
        self.depth = torch.nn.Conv2d(32, 32, 3, padding=1, groups=32)
        self.point = torch.nn.Conv2d(32, 48, 1)
        self.left, self.right = (torch.nn.Linear(48, 64) for _ in range(2))
        self.out = torch.nn.Linear(64, 48)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """[1, 16, 8, 8] -> [1, 64, 48]."""
        dtype = self.conv.weight.dtype
        x = self.point(self.depth(torch.relu(self.conv(latents.to(dtype))))).flatten(2).transpose(1, 2)
        result: torch.Tensor = self.out(torch.tanh(self.left(x)) * self.right(x))
        return result.float()


def small_component() -> Component:
    """That module on `meta`, with seeded weights."""
    with torch.device("meta"):
        module = Small().eval()
    weights = {n: random_handle(n, tuple(v.shape), 1 / max(v[0].numel(), 4) ** 0.5) for n, v in module.state_dict().items()}
    return Component(
        "vae_decoder",
        module,
        weights,
        (TensorSpec("latents", "float32", (1, 16, 8, 8), "in"),),
        (TensorSpec("image", "float32", (1, 64, 48), "out"),),
    )


def quantize_small(
    precision: str, scale_dtype: str, conv_axis: int | None, rounded: Sequence[str] = (), target: str = "onnx"
) -> Component:
    """All its layers but the depthwise one, as a target means a precision; the output of those in `rounded` too."""
    component = small_component()
    amaxes: dict[str, float] = {}

    def listen(name: str, _: torch.nn.Module, x: torch.Tensor) -> None:
        amaxes[name.removeprefix(f"{component.role}.")] = x.abs().max().item()

    StreamedNetwork(component, listen).run(small_feeds())
    scheme = load_target(target).find_offer(precision).scheme
    layers = {
        name: QuantizedLayer(
            scheme,
            None if load_scheme(scheme).inputs is None else amaxes[name],
            conv_axis if name in ("conv", "point") else 0,
            scale_dtype,
            output_amax=amaxes[name + OUTPUT] if name in rounded else None,
        )
        for name in ("conv", "point", "left", "right", "out")
    }
    return dataclasses.replace(component, layers=layers)


def small_feeds() -> dict[str, Array]:
    """Seeded noise."""
    return {"latents": np.random.default_rng(0).standard_normal((1, 16, 8, 8)).astype(np.float32)}


def make_feeds(student: Student, seed: int = 0) -> dict[str, dict[str, Array]]:
    """Real inputs of every component by role: a prompt, noise, what torch makes of them."""
    ids, mask = PromptReader(student.prompt, student.tokenizer / "tokenizer.json").read(PROMPTS[:1])
    embeds = TorchSession(student.components["text_encoder"]).run({"input_ids": ids})["prompt_embeds"]
    noise = make_noise(seed, 1, 1, student.latent_shape)[0]
    denoiser = {"latents": noise, "prompt_embeds": embeds, "prompt_mask": mask}
    latents = TorchSession(student.components["transformer"]).run(denoiser)["denoised"]
    return {"text_encoder": {"input_ids": ids}, "transformer": denoiser, "vae_decoder": {"latents": latents}}


def count_ops(model: onnx.ModelProto) -> Counter[str]:
    """How often each operator stands in a graph."""
    return Counter(node.op_type for node in model.graph.node)


def optimize(path: Path) -> onnx.ModelProto:
    """The graph as ONNX Runtime runs it."""
    options = make_options()
    options.optimized_model_filepath = str(path.with_suffix(".optimized.onnx"))
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return onnx.load(options.optimized_model_filepath)


def run_onnx(path: Path, feeds: dict[str, Array], fuse: bool = True) -> Array:
    """The one output of a graph, by ONNX Runtime on the CPU, with INT8 kept INT8 as our own session does.

    `fuse=False` computes node by node, in the order the graph has: then rounding falls as in torch, and a converter's mistake
    cannot hide behind values that other kernels round to the neighbouring step (129 dB against 49 dB in a decoder).
    """
    options = onnxruntime.SessionOptions()
    if not fuse:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    result: Array = session.run(None, feeds)[0]
    return result


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    """Element type of every value, by shape inference of onnx itself."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    found = {value.name: value.type.tensor_type.elem_type for value in (*inferred.input, *inferred.output, *inferred.value_info)}
    return found | {value.name: value.data_type for value in inferred.initializer}


def producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Value name -> the node that makes it."""
    return {name: node for node in model.graph.node for name in node.output}


def initializers(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """By name."""
    return {value.name: value for value in model.graph.initializer}


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Their Python values by name."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def value_of(tensor: onnx.TensorProto) -> Array:
    """As numpy or ml_dtypes hold it."""
    return np.asarray(numpy_helper.to_array(tensor))


HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
