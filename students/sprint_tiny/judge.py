"""The shapes world's rows of a report, read from the pixels: prompt adherence (adherence.py), and edges obeyed (edges.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sprint_export.nouns.report import Measurement
from sprint_export.students.judge import Judge

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class ShapesWorld(Judge):
    """Captions of shapes, and pictures of them."""

    metrics = (
        *("adherence_percent", "adherence_reference_percent", "adherence_drop_points", "flips"),
        *("edges_obeyed_percent", "edges_obeyed_reference_percent"),
    )
    needs = "prompts that are captions of the shapes world, and its pictures of 64 px"

    def knows(self, prompts: Sequence[str], side: int | None = None) -> bool:
        from sprint_export.students.sprint_tiny.world import IMAGE_SIZE, read_caption

        try:
            for prompt in prompts:
                read_caption(prompt)
        except ValueError:
            return False
        return side in (None, IMAGE_SIZE)

    def draw_controls(self, prompts: Sequence[str]) -> npt.NDArray[np.uint8]:
        """Edges of a scene of each prompt whose shapes lie off their places; each depends on its prompt and place alone."""
        import numpy as np

        from sprint_export.students.sprint_tiny.edges import find_edges
        from sprint_export.students.sprint_tiny.world import read_caption, render_moved

        drawn = (render_moved(read_caption(prompt), np.random.default_rng(i)) for i, prompt in enumerate(prompts))
        return np.stack([find_edges(picture) for picture in drawn])

    def compare(
        self, prompts: Sequence[str], exported: npt.NDArray[np.uint8], reference: npt.NDArray[np.uint8], is_steered: bool = False
    ) -> list[Measurement]:
        from sprint_export.students.sprint_tiny.adherence import count_flips, list_right

        ours, theirs = (list_right(prompts, list(pictures)) for pictures in (exported, reference))
        flips = count_flips(list(exported), list(reference))
        lost, won = int((theirs & ~ours).sum()), int((ours & ~theirs).sum())
        shares, sure, count = (float(ours.mean()), float(theirs.mean())), "{:.0f} to {:.0f} % at 95 %", len(prompts)
        ours_sure, theirs_sure = (sure.format(*wilson_interval(share, count)) for share in shares)
        right = f"exported: everything in the caption right; {count} pictures say {ours_sure}"
        paired = f"reference minus exported: {lost} pictures lost, {won} won"
        return [
            Measurement("adherence_percent", 100 * shares[0], "%", note=right),
            Measurement("adherence_reference_percent", 100 * shares[1], "%", note=f"PyTorch, same noise; {theirs_sure}"),
            Measurement(
                "adherence_drop_points",
                100 * (lost - won) / count,
                "points",
                note=paired,
                interval=paired_interval(lost, won, count),
            ),
            Measurement("flips", float(flips), "pictures", note="that show something else than PyTorch float32's"),
            *(self._compare_edges(prompts, exported, reference) if is_steered else ()),
        ]

    def _compare_edges(
        self, prompts: Sequence[str], exported: npt.NDArray[np.uint8], reference: npt.NDArray[np.uint8]
    ) -> list[Measurement]:
        from sprint_export.students.sprint_tiny.edges import OBEYED, measure_edges

        controls, rows = list(self.draw_controls(prompts)), []
        for name, pictures in (("edges_obeyed_percent", exported), ("edges_obeyed_reference_percent", reference)):
            match = measure_edges(list(pictures), controls)
            note = f"edges within {OBEYED:g} px of the control picture's; {match.distance:.2f} px on average"
            rows.append(Measurement(name, 100 * match.obeyed, "%", note=note))
        return rows


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Where the true share lies, in percent, with 95 % confidence, if `share` of `count` draws came true.

    Wilson's interval, which holds at shares near 0 and 1, where the normal one does not.
    """
    from scipy.stats import binomtest

    low, high = binomtest(round(share * count), count).proportion_ci(0.95, "wilson")
    return 100 * float(low), 100 * float(high)


def paired_interval(lost: int, won: int, count: int) -> tuple[float, float]:
    """Where the difference of two shares lies, in points, with 95 % confidence: both of the same `count` prompts and noises.

    Wald's interval, half a picture added to each cell of the table of pairs: Agresti and Min, Statistics in Medicine 24 (2005),
    whose coverage is near 95 % where few pairs differ and Wald's own is an empty interval.
    """
    lost_more, won_more, total = lost + 0.5, won + 0.5, count + 2
    middle = (lost_more - won_more) / total
    reach = 1.959964 * (lost_more + won_more - (lost_more - won_more) ** 2 / total) ** 0.5 / total
    return 100 * (middle - reach), 100 * (middle + reach)


JUDGE = ShapesWorld(name="shapes_world")
