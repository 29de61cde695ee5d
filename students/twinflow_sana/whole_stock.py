"""The stock classes of SANA-Sprint kept open, sampled at TwinFlow's times as the reference does (reference.py); to be timed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from sprint_export.students.sana_sprint.prompt import human_instruction
from sprint_export.students.sana_sprint.whole_stock import SanaStock


class TwinFlowStock(SanaStock):
    """SanaStock's networks."""

    def draw(self, prompts: Sequence[str], noise: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """Pictures uint8 [B, H, W, 3]."""
        pipeline, (x, *later) = self.pipeline, self._place(noise)
        with torch.no_grad():
            embeds, mask = pipeline.encode_prompt(
                list(prompts), device=self.device, complex_human_instruction=human_instruction()
            )
            for step, t in enumerate(self.times):
                now = torch.full((len(prompts),), t, device=self.device)
                state = x.to(self.dtype)
                velocity = pipeline.transformer(state, embeds, timestep=now, encoder_attention_mask=mask).sample
                clean = x - t * velocity.float()
                if later:
                    s = self.times[step + 1]
                    x = (1 - s) * clean + s * later.pop(0)
            image = pipeline.vae.decode(clean.to(self.dtype) / pipeline.vae.config.scaling_factor).sample
            images = pipeline.image_processor.postprocess(image, output_type="np")
        pictures: npt.NDArray[np.uint8] = np.rint(images * 255).astype(np.uint8)
        return pictures
