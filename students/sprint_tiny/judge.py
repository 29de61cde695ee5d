"""The shapes world's rows of a report, read from the pixels: prompt adherence (adherence.py), and edges obeyed (edges.py)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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

    def draw_controls(self, prompts: Sequence[str], first: int = 0) -> npt.NDArray[np.uint8]:
        """Edges of a scene of each prompt whose shapes lie off their places; each depends on its prompt and place alone."""
        import numpy as np

        from sprint_export.students.sprint_tiny.edges import find_edges
        from sprint_export.students.sprint_tiny.world import read_caption, render_moved

        drawn = (render_moved(read_caption(prompt), np.random.default_rng(i)) for i, prompt in enumerate(prompts, first))
        return np.stack([find_edges(picture) for picture in drawn])

    def list_right(self, prompts: Sequence[str], pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        from sprint_export.students.sprint_tiny.adherence import list_right

        return list_right(prompts, list(pictures))

    def list_changed(self, exported: npt.NDArray[np.uint8], reference: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        from sprint_export.students.sprint_tiny.adherence import list_flips

        return list_flips(list(exported), list(reference))

    def compare_controls(
        self, prompts: Sequence[str], exported: Iterable[npt.NDArray[np.uint8]], reference: Iterable[npt.NDArray[np.uint8]]
    ) -> list[Measurement]:
        from sprint_export.students.sprint_tiny.edges import OBEYED, measure_edges

        rows = []
        for name, pictures in (("edges_obeyed_percent", exported), ("edges_obeyed_reference_percent", reference)):
            controls = (self.draw_controls([prompt], place)[0] for place, prompt in enumerate(prompts))
            match = measure_edges(pictures, controls)
            note = f"edges within {OBEYED:g} px of the control picture's; {match.distance:.2f} px on average"
            rows.append(Measurement(name, 100 * match.obeyed, "%", note=note))
        return rows


JUDGE = ShapesWorld(name="shapes_world")
