"""What a bundle gave where it was finished, stage by stage: `reference/`, drawn once, and drawn again to compare.

A drawing is one prompt and seed at one step count: ids, mask, noise, what each network wrote, the picture. Arrays stand as a
digest (sha256 of their little-endian bytes, mean, deviation, the first values), so that a reader in any language finds the first
stage that differs without holding a second copy; of small pictures the short arrays lie beside it too. Small pictures are drawn
at every step count of the bundle, and of up to 8 further prompts at the default one, each with a seed of its own, so that a
device without PyTorch is judged by more than one picture. Others are drawn once: a full-size student pays for one picture.

Bytes of graphs do not depend on the machine; these do, in their last bits, and say what drew them.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sprint_export.bundle_files import REFERENCE, REFERENCE_FOLDER
from sprint_export.errors import SprintExportError
from sprint_export.export.bundle import add_artifacts, find_file, make_artifact, write_app, write_bundle
from sprint_export.files import write_bytes, write_text, write_whole
from sprint_export.noise import make_noise
from sprint_export.nouns.bundle import Artifact, Bundle
from sprint_export.nouns.chain import EACH_STEP
from sprint_export.progress import Progress, Say, Step, quiet, say_nothing, track
from sprint_export.runtimes.open import choose_runtime, open_pipeline
from sprint_export.session import Pipeline, Session, to_uint8
from sprint_export.sizes import find_sizes

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[Any]

FORMAT = 1  # of reference.json
PROMPT = "a red circle above a blue square"  # where the student came without any
SEED = 0
SMALL_PIXELS = 128 * 128
SHORT_BYTES = 1 << 15  # of an array that is kept whole
FIRST = 8
MOST_FURTHER = 8
DRAWING = Step("drawing", "reference")
VALUES = f"{REFERENCE_FOLDER}/values.safetensors"


@dataclass
class Drawing:
    """One picture and what made it: values of each call of a network, in order, by the value's name.

    Args:
        prompt: as it was given.
        seed: of the noise.
        steps: how many.
        ids: int64 [1, ...].
        mask: likewise.
        noise: float32 [steps, 1, ...].
        calls: (role, step or None, what it wrote).
        picture: uint8 [H, W, 3].
        description: what drew it.
    """

    prompt: str
    seed: int
    steps: int
    ids: Array
    mask: Array
    noise: Array
    calls: list[tuple[str, int | None, Mapping[str, Array]]] = field(default_factory=list)
    picture: npt.NDArray[np.uint8] | None = None
    description: str = ""


@dataclass(frozen=True)
class Wanted:
    """A picture of the reference: prompt, seed and number of steps."""

    prompt: str
    seed: int
    steps: int


def add_reference(
    bundle: Bundle,
    prompt: str | None = None,
    progress: Progress = quiet,
    say: Say = say_nothing,
    provider: str | None = None,
    further: Sequence[str] = (),
) -> Bundle:
    """The bundle with `reference/`; as it is where it has one, cannot draw, or nothing here can run it, which is said.

    Args:
        bundle: with all its files.
        prompt: default: PROMPT.
        progress: is told (step, done, total).
        say: is told why nothing was drawn.
        provider: as in `open_bundle`.
        further: prompts of which the first 8 are drawn too, where pictures are small.

    Raises:
        MachineError: the disk is full.
    """
    if find_file(bundle, REFERENCE) is not None or bundle.chain.list_missing([record.role for record in bundle.components]):
        return bundle
    wanted = list_wanted(bundle, prompt or PROMPT, further)
    try:
        drawings = list(track_drawings(bundle, wanted, progress, provider))
    except SprintExportError as error:
        say(f"no reference picture was drawn: {error}")
        return bundle
    bundle = add_artifacts(bundle, _write(bundle, drawings))
    write_bundle(bundle)  # a bundle without app.json names it too
    return write_app(bundle)


def list_wanted(bundle: Bundle, prompt: str, further: Sequence[str] = ()) -> list[Wanted]:
    """The prompt at each step count, then further prompts at the default one; of large pictures the first alone."""
    default = bundle.plan.steps
    if not is_small(bundle):
        return [Wanted(prompt, SEED, default)]
    others = [each for each in dict.fromkeys(further) if each != prompt][:MOST_FURTHER]
    return [
        *(Wanted(prompt, SEED, steps) for steps in bundle.plan.counts or (default,)),
        *(Wanted(each, SEED + 1 + i, default) for i, each in enumerate(others)),
    ]


def track_drawings(
    bundle: Bundle, wanted: Sequence[Wanted], progress: Progress = quiet, provider: str | None = None
) -> Iterator[Drawing]:
    """A drawing of each.

    Raises:
        MachineError: nothing here can run it. BundleError: its files are damaged.
    """
    pipeline = open_pipeline(bundle, choose_runtime(bundle, None, provider), one_at_a_time=not is_small(bundle))
    for each in track(wanted, DRAWING, progress):
        yield draw_wanted(pipeline, each)


def draw_wanted(pipeline: Pipeline, wanted: Wanted) -> Drawing:
    """One picture, every network's outputs noted."""
    pipeline = replace(pipeline, steps=wanted.steps)
    ids, mask = pipeline.reader.read([wanted.prompt])
    noise = make_noise(wanted.seed, wanted.steps, 1, pipeline.latent_shape)
    drawing = Drawing(wanted.prompt, wanted.seed, wanted.steps, ids, mask, noise)
    looped = {stage.role for stage in pipeline.executor.chain.stages if stage.when == EACH_STEP}
    noting = pipeline.over(_Noting(pipeline.sessions, drawing, looped))
    (table,) = noting.draw([wanted.prompt], noise=drawing.noise)
    drawing.picture = to_uint8(table[pipeline.executor.chain.names.picture])[0]
    drawing.description = noting.description
    return drawing


@dataclass(frozen=True)
class _NotingSession:
    """A session whose outputs are noted."""

    session: Session
    role: str
    drawing: Drawing
    is_looped: bool

    @property
    def description(self) -> str:
        return self.session.description

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs by name -> outputs by name."""
        found = self.session.run(feeds)
        step = sum(role == self.role for role, _, _ in self.drawing.calls) if self.is_looped else None
        self.drawing.calls.append((self.role, step, dict(found)))
        return found


class _Noting(Mapping[str, Session]):
    """Sessions by role, each noting; opened when they run."""

    def __init__(self, sessions: Mapping[str, Session], drawing: Drawing, looped: set[str]) -> None:
        self._sessions, self._drawing, self._looped = sessions, drawing, looped

    def __getitem__(self, role: str) -> Session:
        return _NotingSession(self._sessions[role], role, self._drawing, role in self._looped)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sessions)

    def __len__(self) -> int:
        return len(self._sessions)


def is_small(bundle: Bundle) -> bool:
    """Whether its pictures cost next to nothing."""
    height, width = find_sizes(bundle).pixels
    return height * width <= SMALL_PIXELS


def _write(bundle: Bundle, drawings: list[Drawing]) -> list[Artifact]:
    """The files as artifacts: pictures and values first, then what names them."""
    folder, paths = bundle.folder / REFERENCE_FOLDER, []
    folder.mkdir(exist_ok=True)
    described: dict[str, list[dict[str, Any]]] = {"drawings": [], "further": []}
    for i, drawing in enumerate(drawings):
        is_further = drawing.prompt != drawings[0].prompt
        name = f"further_{drawing.seed - SEED}" if is_further else "picture" if i == 0 else f"picture_{drawing.steps}"
        path = f"{REFERENCE_FOLDER}/{name}.png"
        assert drawing.picture is not None
        write_whole(bundle.folder / path, partial(_save_picture, drawing.picture))
        described["further" if is_further else "drawings"].append(describe_drawing(drawing, path))
        paths.append(path)
    if is_small(bundle):
        from safetensors.numpy import save

        first = [drawing for drawing in drawings if drawing.prompt == drawings[0].prompt]
        write_bytes(bundle.folder / VALUES, save(_list_short(first)))
        paths.append(VALUES)
    write_text(bundle.folder / REFERENCE, json.dumps({"format": FORMAT, **described}, allow_nan=False) + "\n")
    paths.append(REFERENCE)
    return [make_artifact(bundle.folder, bundle.folder / p, "reference", "reference", p.rpartition(".")[2]) for p in paths]


def _save_picture(picture: Array, path: Path) -> None:
    from PIL import Image

    Image.fromarray(picture).save(path, "PNG")


def _list_short(drawings: list[Drawing]) -> dict[str, Array]:
    """Short arrays by where they stand: `ids`, `mask`, `noise.<steps>`, `<steps>.<call>.<value>`."""
    found: dict[str, Array] = {"ids": drawings[0].ids, "mask": drawings[0].mask}
    for drawing in drawings:
        found[f"noise.{drawing.steps}"] = drawing.noise
        for i, (_, _, values) in enumerate(drawing.calls):
            found |= {f"{drawing.steps}.{i}.{name}": value for name, value in values.items()}
    plain = ("int64", "float32", "float16")
    return {name: value for name, value in found.items() if value.nbytes <= SHORT_BYTES and value.dtype.name in plain}


def describe_drawing(drawing: Drawing, file: str) -> dict[str, Any]:
    """As `reference.json` has it."""
    assert drawing.picture is not None
    return {
        "prompt": drawing.prompt,
        "seed": drawing.seed,
        "steps": drawing.steps,
        "ids": drawing.ids[0].tolist(),
        "mask": drawing.mask[0].tolist(),
        "noise": describe_array(drawing.noise),
        "stages": [
            {"network": role, "outputs": {name: describe_array(value) for name, value in values.items()}}
            | ({} if step is None else {"step": step})
            for role, step, values in drawing.calls
        ],
        "picture": {"file": file, "sha256": hash_array(drawing.picture), "size": list(drawing.picture.shape[:2])},
        "runtime": drawing.description,
    }


def describe_array(value: Array) -> dict[str, Any]:
    """Shape, type, sha256, mean, deviation and the first values."""
    wide = value.astype("float64")
    return {
        "shape": list(value.shape),
        "dtype": value.dtype.name,
        "sha256": hash_array(value),
        "mean": float(wide.mean()),
        "std": float(wide.std()),
        "first": wide.ravel()[:FIRST].tolist(),
    }


def hash_array(value: Array) -> str:
    """sha256 of an array's values in little-endian bytes."""
    import numpy as np

    data = np.ascontiguousarray(value)
    return hashlib.sha256((data if sys.byteorder == "little" else data.byteswap()).tobytes()).hexdigest()
