"""The world the embedded student draws: captions, scenes and a renderer.

A scene is one or two flat shapes on a plain background. A caption names, for every shape, its size, colour, form and
place, and the background; what a caption leaves out has one fixed meaning (large, white), so each caption has exactly
one scene and a detector can say whether a picture shows it. Only centre and radius jitter by a pixel or two.

Covered: 3 forms x 6 colours x 2 sizes, 5 places for one shape, 2 arrangements of two halves for two, 3 backgrounds
(540 + 7,776 = 8,316 scenes). Not covered: overlap, rotation, texture, counting beyond two.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FORMS = ("circle", "square", "triangle")
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 70, 230),
    "yellow": (245, 215, 30),
    "purple": (160, 50, 190),
    "cyan": (40, 205, 220),
}
BACKGROUNDS = {"white": (245, 245, 245), "black": (15, 15, 15), "gray": (128, 128, 128)}
RADII = {"small": 8.0, "large": 13.0}  # pixels at 64 px; half the width of every form
PLACES = {"left": (16, 32), "right": (48, 32), "top": (32, 16), "bottom": (32, 48), "center": (32, 32)}  # x, y
PREPOSITIONS = {
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
    "center": "in the center",
}
RELATIONS = {("top", "bottom"): "above", ("bottom", "top"): "below", ("left", "right"): "left of", ("right", "left"): "right of"}
IMAGE_SIZE = 64
JITTER = (1.5, 0.7)  # pixels by which centres and radii differ between pictures of a scene
MOVED = (4.0, 1.5)  # the same where edges say where a shape is, not the caption
HELD_OUT_SHARE = 8  # one scene in eight is never trained on

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Shape:
    """One flat shape: what a noun phrase of a caption names."""

    form: str
    colour: str
    size: str
    place: str


@dataclass(frozen=True)
class Scene:
    """One or two shapes in reading order of their caption, and the background's name."""

    shapes: tuple[Shape, ...]
    background: str

    def is_held_out(self) -> bool:
        """Whether the scene belongs to validation; decided by a hash, so it holds in every caption of the scene."""
        key = repr((sorted(map(repr, self.shapes)), self.background)).encode()
        return hashlib.sha256(key).digest()[0] % HELD_OUT_SHARE == 0


def all_scenes() -> Iterator[Scene]:
    """Every scene once per order in which its shapes can be named."""
    kinds = list(itertools.product(FORMS, COLOURS, RADII))
    for background in BACKGROUNDS:
        for kind, place in itertools.product(kinds, PLACES):
            yield Scene((Shape(*kind, place),), background)
        for (first, second), (place, other) in itertools.product(itertools.product(kinds, kinds), RELATIONS):
            yield Scene((Shape(*first, place), Shape(*second, other)), background)


def write_caption(scene: Scene, rng: np.random.Generator) -> str:
    """Say a scene in words: by places or by relation, and sometimes leaving out what the defaults say anyway."""
    nouns = [_noun_phrase(shape, rng) for shape in scene.shapes]
    if len(nouns) == 2 and rng.random() < 0.5:
        relation = RELATIONS[scene.shapes[0].place, scene.shapes[1].place]
        text = f"{nouns[0]} {relation} {nouns[1]}"
    else:
        text = " and ".join(f"{n} {PREPOSITIONS[s.place]}" for n, s in zip(nouns, scene.shapes, strict=True))
    if scene.background == "white" and rng.random() < 0.5:
        return text
    return f"{text} on a {scene.background} background"


def _noun_phrase(shape: Shape, rng: np.random.Generator) -> str:
    silent = shape.size == "large" and rng.random() < 0.3
    return f"a {'' if silent else shape.size + ' '}{shape.colour} {shape.form}"


_NOUN = rf"an? (?:(?P<size{{0}}>{'|'.join(RADII)}) )?(?P<colour{{0}}>{'|'.join(COLOURS)}) (?P<form{{0}}>{'|'.join(FORMS)})"
_PLACE = rf"(?: (?:on|at|in) the (?P<place{{0}}>{'|'.join(PLACES)}))?"
_CAPTION = re.compile(
    f"{_NOUN.format(1)}{_PLACE.format(1)}(?: (?P<link>and|{'|'.join(RELATIONS.values())}) {_NOUN.format(2)}{_PLACE.format(2)})?"
    rf"(?:,? on an? (?P<background>{'|'.join(BACKGROUNDS)}) background)?"
)


def read_caption(caption: str) -> Scene:
    """The one scene a caption means.

    Raises:
        ValueError: the caption is not in this world's grammar.
    """
    match = _CAPTION.fullmatch(" ".join(caption.lower().split()).rstrip("."))
    if match is None:
        raise ValueError(
            f"caption {caption!r} is not in the shapes grammar; an example of it is "
            "'a small red circle above a large blue square on a white background'"
        )
    part = match.groupdict()
    if not part["link"] and not part["place1"]:
        raise ValueError(f"caption {caption!r} does not say where; end it e.g. with {PREPOSITIONS['center']!r}")
    places: tuple[str, ...] = (part["place1"],)
    if part["link"] == "and":
        places = (part["place1"], part["place2"])
        if places not in RELATIONS:
            raise ValueError(f"caption {caption!r} puts two shapes at {places}; choose from {sorted(RELATIONS)}")
    elif part["link"]:
        places = next(pair for pair, word in RELATIONS.items() if word == part["link"])
    shapes = (
        Shape(part[f"form{i}"], part[f"colour{i}"], part[f"size{i}"] or "large", place) for i, place in enumerate(places, start=1)
    )
    return Scene(tuple(shapes), part["background"] or "white")


def render_scene(scene: Scene, rng: np.random.Generator) -> UInt8:
    """Draw a scene with anti-aliased edges.

    Returns:
        uint8 [64, 64, 3]; centres jitter by up to 1.5 px an axis, radii by up to 0.7 px.
    """
    return paint_scene(scene, [_jitter(shape, rng, *JITTER) for shape in scene.shapes])


def render_moved(scene: Scene, rng: np.random.Generator) -> UInt8:
    """Draw a scene further from its places than any caption can say: centres move by up to 4 px an axis, radii by up to 1.5 px.

    Two shapes keep 4 px between them, so all that a caption names stays readable. Same form as `render_scene`.
    """
    while True:
        outlines = [_jitter(shape, rng, *MOVED) for shape in scene.shapes]
        (x, y, r), (u, v, s) = outlines[0], outlines[-1]
        if len(outlines) == 1 or max(abs(x - u), abs(y - v)) - r - s >= 4:
            return paint_scene(scene, outlines)


def _jitter(shape: Shape, rng: np.random.Generator, centre: float, radius: float) -> tuple[float, float, float]:
    x, y = np.array(PLACES[shape.place]) + rng.uniform(-centre, centre, 2)
    return float(x), float(y), RADII[shape.size] + rng.uniform(-radius, radius)


def paint_scene(scene: Scene, outlines: Sequence[tuple[float, float, float]]) -> UInt8:
    """uint8 [64, 64, 3] of a scene whose shapes have these centres x, y and radii in pixels."""
    image = np.empty((IMAGE_SIZE, IMAGE_SIZE, 3))
    image[:] = BACKGROUNDS[scene.background]
    for shape, (x, y, radius) in zip(scene.shapes, outlines, strict=True):
        coverage = np.clip(0.5 - _signed_distance(shape.form, x, y, radius), 0, 1)[..., None]
        image += coverage * (np.array(COLOURS[shape.colour]) - image)
    return np.rint(image).astype(np.uint8)


def _signed_distance(form: str, x: float, y: float, radius: float) -> npt.NDArray[np.float64]:
    """Distance in pixels to the outline, negative inside; [64, 64]. Pixel centres lie at half integers."""
    grid = np.arange(IMAGE_SIZE) + 0.5
    dx, dy = np.abs(grid[None, :] - x), grid[:, None] - y
    if form == "circle":
        distance = np.hypot(dx, dy) - radius
    elif form == "square":
        distance = np.maximum(dx, np.abs(dy)) - radius
    else:  # an upright triangle that fills half of its 2r x 2r box: apex (0, -r), base from (-r, r) to (r, r)
        distance = np.maximum((2 * dx - dy - radius) / np.sqrt(5), dy - radius)
    return np.asarray(distance, np.float64)


def held_out_captions(count: int, seed: int = 0) -> list[str]:
    """`count` captions of scenes that training never sees, about a quarter of them with one shape."""
    rng = np.random.default_rng(seed)
    scenes = [scene for scene in all_scenes() if scene.is_held_out()]
    ones, twos = ([s for s in scenes if len(s.shapes) == n] for n in (1, 2))
    picked = [ones if rng.random() < 0.25 else twos for _ in range(count)]
    return [write_caption(pool[rng.integers(len(pool))], rng) for pool in picked]
