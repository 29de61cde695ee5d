"""A student the presets do not know: real classes, other widths, depths and head counts, a tokenizer with a long prefix.

text     2 layers of 40, 2 heads of 24 over 1, window 64 (shorter than the prompt, so the two attention biases differ)
denoiser 3 layers of 48, 3 heads of 16; 4 cross heads of 12; 4 channels, 16 x 16
decoder  3 levels (16, 32, 64): 64 x 64 pixels
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderDC, SanaSprintPipeline, SanaTransformer2DModel, SCMScheduler
from diffusers.schedulers import scheduling_scm
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import Gemma2Config, Gemma2Model, PreTrainedTokenizerFast

from sprint_export.nouns.student import Student
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.session import Pipeline, open_student
from sprint_export.students.sana_sprint.published import DC_AE

Array = npt.NDArray[Any]
Config = Mapping[str, Any]
PREFIX = "\n".join(inspect.signature(SanaSprintPipeline.__call__).parameters["complex_human_instruction"].default)
WORDS = [
    "a",
    "red",
    "green",
    "blue",
    "circle",
    "square",
    "above",
    "below",
    "the",
    "on",
    "is",
    "at",
    "left",
    "right",
    "small",
    "large",
    "of",
    "in",
]

TRANSFORMER = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 3,
    "attention_head_dim": 16,
    "num_layers": 3,
    "num_cross_attention_heads": 4,
    "cross_attention_head_dim": 12,
    "cross_attention_dim": 48,
    "caption_channels": 40,
    "mlp_ratio": 2.0,
    "sample_size": 16,
    "patch_size": 1,
    "interpolation_scale": None,
    "guidance_embeds": True,
    "guidance_embeds_scale": 0.1,
    "qk_norm": "rms_norm_across_heads",
    "timestep_scale": 1.0,
}
BLOCKS = ("ResBlock", "ResBlock", "EfficientViTBlock")
VAE = DC_AE | {
    "latent_channels": 4,
    "attention_head_dim": 16,
    "encoder_block_types": BLOCKS,
    "decoder_block_types": BLOCKS,
    "encoder_block_out_channels": (16, 32, 64),
    "decoder_block_out_channels": (16, 32, 64),
    "encoder_layers_per_block": (0, 1, 1),
    "decoder_layers_per_block": (1, 1, 1),
    "encoder_qkv_multiscales": ((), (), (5,)),
    "decoder_qkv_multiscales": ((), (), (5,)),
    "scaling_factor": 0.7,
}
TEXT = {
    "hidden_size": 40,
    "intermediate_size": 72,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 24,
    "query_pre_attn_scalar": 24,
    "sliding_window": 64,
    "initializer_range": 0.15,
}


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Words and punctuation of the instruction prefix, <bos> in front, everything else <unk>."""
    splitter = pre_tokenizers.Whitespace()
    words = [word for text in (PREFIX, PREFIX.lower()) for word, _ in splitter.pre_tokenize_str(text)]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(["<pad>", "<eos>", "<bos>", "<unk>", *words, *WORDS]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = splitter
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )


def make_pipeline(
    seed: int = 0, transformer: Config | None = None, vae: Config | None = None, text: Config | None = None
) -> SanaSprintPipeline:
    """Random weights, with norms and biases moved off their ones and zeros so that none can be dropped unnoticed.

    Args:
        seed: of the weights.
        transformer: what its config has in place of TRANSFORMER's values.
        vae: the same for VAE.
        text: the same for TEXT.
    """
    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    gemma = Gemma2Config(**{**TEXT, **(text or {})}, vocab_size=len(tokenizer), attn_implementation="eager")
    text_encoder, denoiser = Gemma2Model(gemma), SanaTransformer2DModel.from_config({**TRANSFORMER, **(transformer or {})})
    decoder = AutoencoderDC.from_config({**VAE, **(vae or {})})
    for module in (text_encoder, denoiser, decoder):
        for parameter in module.eval().parameters():
            if parameter.ndim == 1:
                parameter.data += 0.1 * torch.randn_like(parameter)
    pipeline = SanaSprintPipeline(tokenizer, text_encoder, decoder, denoiser, SCMScheduler(prediction_type="trigflow"))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw_stock(pipeline: SanaSprintPipeline, prompt: str, noise: Array, side: int | tuple[int, int]) -> tuple[Array, Array]:
    """Latents float32 [1, C, h, w] and pixels uint8 [1, H, W, 3] of the stock pipeline.

    Args:
        pipeline: unchanged diffusers code.
        prompt: one text.
        noise: unit variance [steps, 1, C, h, w]; the pipeline itself scales the first, its scheduler the later ones.
        side: pixels, of a square or (height, width).
    """
    steps = len(noise)
    later = [*torch.from_numpy(noise[1:]), torch.zeros(noise.shape[1:])]  # it draws once more at the end, and multiplies by 0
    height, width = (side, side) if isinstance(side, int) else side
    named: dict[str, Any] = {"height": height, "width": width, "num_inference_steps": steps, "use_resolution_binning": False}
    named["intermediate_timesteps"] = 1.3 if steps == 2 else None
    drawn = []
    for output in ("latent", "np"):
        with mock.patch.object(scheduling_scm, "randn_tensor", mock.Mock(side_effect=later)) as source, torch.no_grad():
            drawn.append(pipeline(prompt, latents=torch.from_numpy(noise[0]), output_type=output, **named).images)
        assert source.call_count == steps
    return drawn[0].numpy(), np.rint(drawn[1] * 255).astype(np.uint8)


def open_torch(student: Student) -> Pipeline:
    """A specialized student, run by torch."""
    return open_student(student, {role: TorchSession(component) for role, component in student.components.items()})


def relative_error(found: Array, wanted: Array) -> float:
    """Largest deviation over the largest magnitude; infinite where shapes differ or the reference is zero."""
    if found.shape != wanted.shape or not np.abs(wanted).max() > 0:
        return float("inf")
    return float(np.abs(found.astype(np.float64) - wanted).max() / np.abs(wanted).max())


def snr_db(found: Array, wanted: Array) -> float:
    """Signal to noise ratio, in decibels."""
    noise = np.square(found.astype(np.float64) - wanted).mean()
    return float(10 * np.log10(np.square(wanted.astype(np.float64)).mean() / max(noise, 1e-30)))


PROMPTS: Sequence[str] = ("a red circle above a blue square", "a large green square on the left")
