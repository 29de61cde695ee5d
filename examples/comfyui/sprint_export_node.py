"""A ComfyUI node that draws with a bundle: copy this file into ComfyUI's `custom_nodes/`, and `pip install sprint-export` there.

    bundle (a folder), prompt, seed, steps -> IMAGE, float32 [1, H, W, 3] in [0, 1]

The bundle stays open as long as the same folder is asked for; a file of it that changes is seen. `steps` of 0 takes the bundle's
default. Nothing of the bundle is executed but its graphs. Torch is ComfyUI's own: IMAGE is one of its tensors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from sprint_export import open_bundle
from sprint_export.bundle_files import MANIFEST

LARGEST_SEED = 2**53 - 1  # what ComfyUI's page counts exactly


class SprintExportBundle:
    """Prompt to picture with the files that `sprint-export` made."""

    CATEGORY = "sprint-export"
    FUNCTION = "draw"
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)
    DESCRIPTION = "Draws a prompt with a one-step student that sprint-export exported."
    _opened: ClassVar[dict[tuple[Path, int], Any]] = {}

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 ComfyUI's name
        """What the node asks for."""
        return {
            "required": {
                "bundle": ("STRING", {"default": "sprint-tiny-onnx-int8", "tooltip": "The folder with bundle.json in it."}),
                "prompt": ("STRING", {"multiline": True, "default": "a red circle above a blue square"}),
                "seed": ("INT", {"default": 0, "min": 0, "max": LARGEST_SEED, "control_after_generate": True}),
                "steps": ("INT", {"default": 0, "min": 0, "max": 4, "tooltip": "0: the bundle's default."}),
            }
        }

    @classmethod
    def IS_CHANGED(cls, bundle: str, **asked: Any) -> int:  # noqa: N802 ComfyUI's name
        """When the bundle was made: another one at the same place is drawn with anew."""
        return (Path(bundle) / MANIFEST).stat().st_mtime_ns

    def draw(self, bundle: str, prompt: str, seed: int, steps: int) -> tuple[Any]:
        """One picture.

        Raises:
            SprintExportError: there is no bundle, it was altered, or it has no such number of steps.
        """
        import torch

        pipeline = self._open(Path(bundle).expanduser().resolve())
        pipeline.steps = steps or None
        pictures = pipeline([prompt], seed=seed)
        return (torch.from_numpy(pictures.astype("float32") / 255),)

    @classmethod
    def _open(cls, folder: Path) -> Any:
        """The pipeline of a folder; the one before it is let go."""
        manifest = folder / MANIFEST
        key = folder, manifest.stat().st_mtime_ns if manifest.exists() else 0
        if key not in cls._opened:
            cls._opened.clear()
            cls._opened[key] = open_bundle(folder)
        return cls._opened[key]


NODE_CLASS_MAPPINGS = {"SprintExportBundle": SprintExportBundle}
NODE_DISPLAY_NAME_MAPPINGS = {"SprintExportBundle": "Draw with a sprint-export bundle"}
