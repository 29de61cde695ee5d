"""A component's graph in float32 without and with rewrites, run by ONNX Runtime node by node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch

from sprint_export.export.to_onnx.writer import make_graph, write_graph
from sprint_export.nouns.student import Component
from tests.export.to_onnx.graphs import run_onnx
from tests.made_student import Array, relative_error


@dataclass(frozen=True)
class BeforeAfter:
    """Two graphs of one component and their outputs on the same noise."""

    models: tuple[onnx.ModelProto, onnx.ModelProto]
    outputs: tuple[Array, Array]

    @property
    def deviation(self) -> float:
        """Largest, over the largest magnitude."""
        return relative_error(self.outputs[1], self.outputs[0])

    @property
    def operators(self) -> tuple[Counter[str], Counter[str]]:
        """How many nodes of each kind."""
        before, after = (Counter(node.op_type for node in model.graph.node) for model in self.models)
        return before, after


def compare(component: Component, rewrites: Sequence[str], folder: Path, fuse: bool = False) -> BeforeAfter:
    """Write and run both; `fuse` lets ONNX Runtime use its own kernels, e.g. INT8's."""
    models, outputs, feeds = [], [], make_noise_feeds(component)
    for name, chosen in (("before", ()), ("after", tuple(rewrites))):
        path = folder / name / "model.onnx"
        write_graph(make_graph(component, "fp32", chosen), path)
        models.append(onnx.load(str(path)))
        outputs.append(run_onnx(path, feeds, fuse=fuse))
    return BeforeAfter((models[0], models[1]), (outputs[0], outputs[1]))


def make_noise_feeds(component: Component) -> dict[str, Array]:
    """Seeded noise for every float input; a mask with padding; step 0."""
    random, feeds = torch.Generator().manual_seed(0), {}
    for spec in component.inputs:
        shape = [int(size) for size in spec.shape]
        if spec.dtype == "float32":
            feeds[spec.name] = torch.randn(shape, generator=random).numpy()
        else:
            feeds[spec.name] = np.zeros(shape, np.int64)
    if "prompt_mask" in feeds:
        feeds["prompt_mask"][:, :100] = 1
    return feeds
