"""When a validation whose count was left open has drawn enough: every gate that its pictures can decide is decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sprint_export.nouns.report import Gate
from sprint_export.validate.confidence.decisions import is_enough, is_reachable
from sprint_export.validate.judging import compare_rights, find_judge, list_right
from sprint_export.validate.measure import measure_psnr, measure_ssim
from sprint_export.validate.rows import Rows
from sprint_export.validate.sampled import Sampled

LATER = ("converter_image_psnr_db", "recipe_image_psnr_db", "own_decoder_psnr_db")  # means that are measured once, at the end


@dataclass(frozen=True)
class Stopping:
    """What decides.

    Args:
        gates: all.
        asked: those the user asked for; of the others one that `most` pictures could not decide is waited for by nobody.
        prompts: all there are.
        later: metrics whose means are measured once all is drawn: where a gate speaks of one, all is drawn.
    """

    gates: Sequence[Gate]
    asked: Sequence[Gate]
    prompts: Sequence[str]
    later: Sequence[str] = LATER

    def is_decided(self, exported: Rows, reference: Rows, confidence: float) -> bool:
        """Whether these pictures, uint8 [B, H, W, 3] of the first prompts, are enough."""
        names = {gate.metric for gate in self.gates}
        if names & set(self.later):
            return False
        samples = {each.metric: each for each in self._measure(names, exported, reference)}
        return all(
            is_enough(gate, samples[gate.metric].evidence, confidence)
            for gate in self.gates
            if gate.metric in samples and self._is_waited_for(gate, samples[gate.metric], confidence)
        )

    def _is_waited_for(self, gate: Gate, sample: Sampled, confidence: float) -> bool:
        return gate in self.asked or is_reachable(gate, sample.evidence, len(self.prompts), confidence)

    def _measure(self, names: set[str], exported: Rows, reference: Rows) -> list[Sampled]:
        found = []
        if "psnr_db" in names:
            found.append(measure_psnr(exported, reference))
        if "ssim" in names:
            found.append(measure_ssim(exported, reference))
        prompts = self.prompts[: len(exported)]
        judge = find_judge(prompts, exported.shape[2])
        if judge is not None and names & set(judge.metrics):
            found += compare_rights(*(list_right(judge, prompts, pictures) for pictures in (exported, reference)))
        return found
