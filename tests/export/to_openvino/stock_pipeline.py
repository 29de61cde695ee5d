"""diffusers' own SanaSprintPipeline over the IR of a bundle in optimum-intel's layout: what optimum-intel does, without it.

Source: optimum-intel 2.2.0 optimum/intel/openvino/modeling_diffusion.py: each part feeds its network by these names, after every
shape was made free.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import SanaSprintPipeline, SCMScheduler
from diffusers.configuration_utils import FrozenDict
from transformers import AutoTokenizer

from sprint_export.runtimes.openvino_ir.runtime import open_core

FREE = {  # input -> its axes that the pipeline makes free
    "hidden_states": (0, 2, 3),
    "encoder_hidden_states": (0, 1),
    "encoder_attention_mask": (0, 1),
    "timestep": (0,),
    "guidance": (0,),
    "latent_sample": (0, 2, 3),
}


class Part:
    """One network of the pipeline, with the attributes that diffusers asks for."""

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, folder: Path) -> None:
        self.config = FrozenDict(json.loads((folder / "config.json").read_text("utf-8")))
        model = open_core().read_model(folder / "openvino_model.xml")
        shapes = {value: value.get_partial_shape() for value in model.inputs}
        for value, shape in shapes.items():
            for axis in FREE.get(value.any_name, ()):
                shape[axis] = -1
        model.reshape(shapes)
        self.inputs = {value.any_name for value in model.inputs}
        self._model = open_core().compile_model(model, "CPU")

    def run(self, **feeds: torch.Tensor) -> tuple[torch.Tensor]:
        """Feeds by name -> the first output."""
        found = self._model({name: value.numpy() for name, value in feeds.items()})
        return (torch.from_numpy(np.array(found[0])),)


class TextEncoder(Part):
    """As OVModelTextEncoder."""

    def __call__(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor]:
        mask = {"attention_mask": attention_mask} if "attention_mask" in self.inputs else {}
        return self.run(input_ids=input_ids, **mask)


class Transformer(Part):
    """As OVModelTransformer."""

    def __call__(self, hidden_states: torch.Tensor, attention_kwargs: Any = None, **named: Any) -> tuple[torch.Tensor]:
        assert named.pop("return_dict") is False
        return self.run(hidden_states=hidden_states, **named)


class Decoder(Part):
    """As OVModelVae and its decoder."""

    def decode(self, latents: torch.Tensor, return_dict: bool) -> tuple[torch.Tensor]:
        return self.run(latent_sample=latents)


def open_stock(bundle: Path) -> Any:
    """The pipeline over a bundle's IR."""
    pipeline: Any = SanaSprintPipeline(
        AutoTokenizer.from_pretrained(bundle / "tokenizer"),
        TextEncoder(bundle / "text_encoder"),
        Decoder(bundle / "vae_decoder"),
        Transformer(bundle / "transformer"),
        SCMScheduler.from_pretrained(bundle / "scheduler"),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
