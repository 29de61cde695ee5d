"""CLIP (Radford et al. 2021, arXiv:2103.00020): where its checkpoint lies, and the model with its preprocessing.

A checkpoint is a folder in transformers' layout, with model.safetensors: of the user's folder of weights the one with the
repository's last name, else what huggingface_hub has in its cache. No code of a checkpoint is run, and no pickle is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sprint_export.libraries import hush
from sprint_export.paths import is_file
from sprint_export.strict_json import parse_json
from sprint_export.validate.image_metrics.metric import Setting, UnmeasuredError
from sprint_export.validate.image_metrics.networks import find_library_fault
from sprint_export.validate.image_metrics.weight_files import OPTION

if TYPE_CHECKING:
    from sprint_export.validate.image_metrics.metric import UInt8

LIBRARIES = ("torch", "transformers", "huggingface_hub")
CONFIG, WEIGHTS = "config.json", "model.safetensors"
NEEDED = (CONFIG, WEIGHTS, "preprocessor_config.json", "tokenizer_config.json")
SCORING = "openai/clip-vit-large-patch14"  # of CLIP scores: torchmetrics' default
EMBEDDING = "openai/clip-vit-large-patch14-336"  # of CMMD: its paper's


@dataclass(frozen=True)
class Clip:
    """An open checkpoint.

    Args:
        model: transformers' CLIPModel, in float32, for evaluation.
        processor: pictures and texts -> its inputs; texts are cut at `most_tokens`.
        side: pixels of its pictures.
        most_tokens: of its texts.
    """

    model: Any
    processor: Any
    side: int
    most_tokens: int

    def embed_pictures(self, pictures: UInt8, device: str) -> Any:
        """uint8 [B, H, W, 3], brought to its side by side -> embeddings [B, E] of length 1 on the device."""
        size = {"height": self.side, "width": self.side}
        pixels = self.processor.image_processor(list(pictures), size=size, do_center_crop=False, return_tensors="pt")
        found = self.model.get_image_features(pixels["pixel_values"].to(device))
        return found / found.norm(dim=-1, keepdim=True)

    def count_cut(self, texts: Sequence[str]) -> int:
        """How many texts are longer than what it reads."""
        return sum(len(ids) > self.most_tokens for ids in self.processor.tokenizer(list(texts))["input_ids"])


def find_clip_fault(repo: str, setting: Setting) -> str | None:
    """A sentence where a library or the checkpoint is missing."""
    if (fault := find_library_fault(*LIBRARIES)) is not None:
        return fault
    if find_clip(repo, setting) is not None:
        return None
    folder = "" if setting.weights is None else f"{setting.weights / Path(repo).name} and "
    return (
        f"{repo} not found: looked for {', '.join(NEEDED)} in {folder}the hub's cache; get it with: hf download {repo}, or name "
        f"the folder that holds it as {Path(repo).name}: {OPTION}"
    )


def find_clip(repo: str, setting: Setting) -> Path | None:
    """The folder of a checkpoint, or None."""
    if setting.weights is not None and _is_whole(setting.weights / Path(repo).name):
        return setting.weights / Path(repo).name
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, CONFIG)
    return Path(found).parent if isinstance(found, str) and _is_whole(Path(found).parent) else None


def _is_whole(folder: Path) -> bool:
    return all(is_file(folder / name) for name in NEEDED)


def open_clip(repo: str, setting: Setting) -> Clip:
    """The checkpoint, opened.

    Raises:
        UnmeasuredError: it is nowhere, no CLIP, or damaged.
    """
    folder = find_clip(repo, setting)
    if folder is None:
        raise UnmeasuredError(str(find_clip_fault(repo, setting)))
    _check_kind(folder)
    try:
        with hush():
            return _open(folder)
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # transformers, tokenizers and safetensors raise all kinds
        said = " ".join(str(error).split())[:200]
        raise UnmeasuredError(
            f"{folder} cannot be opened as a CLIP checkpoint ({said}); download it again: hf download {repo}"
        ) from error


def _check_kind(folder: Path) -> None:
    try:
        config = parse_json((folder / CONFIG).read_bytes())
    except (OSError, ValueError) as error:
        raise UnmeasuredError(f"{folder / CONFIG} cannot be read ({error})") from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "clip":
        raise UnmeasuredError(f"{folder / CONFIG} is of model_type {kind!r}; expected 'clip'")


def _open(folder: Path) -> Clip:
    import torch
    from transformers import CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizerFast

    options = {"local_files_only": True}
    model = CLIPModel.from_pretrained(folder, use_safetensors=True, dtype=torch.float32, **options).eval()
    tokenizer = CLIPTokenizerFast.from_pretrained(folder, **options)
    processor = CLIPProcessor(CLIPImageProcessor.from_pretrained(folder, **options), tokenizer)
    most = int(model.config.text_config.max_position_embeddings)
    tokenizer.model_max_length = most
    return Clip(model, processor, int(model.config.vision_config.image_size), most)
