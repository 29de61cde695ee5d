"""Which layer has which precision, and why: a row for each block of a network, a cell for each layer, as wide as its weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from markupsafe import Markup

from sprint_export.nouns.bundle import Bundle, ComponentRecord
from sprint_export.nouns.recipe import FLOAT, Decision
from sprint_export.validate.page.templates import clean, render

WIDTH, LEFT, RIGHT = 360.0, 146.0, 356.0
ROW, GAP = 16.0, 4.0
LEAST_CELL = 2.5  # pixels of a layer, however few its weights
LONGEST_NAME = 22  # letters beside a row; a name that is longer keeps its end
TONES = 6  # of style.css; 0 is float


@dataclass(frozen=True)
class _Cell:
    x: float
    width: float
    tone: int
    says: str


@dataclass(frozen=True)
class _Row:
    name: str
    y: float
    cells: tuple[_Cell, ...]


def render_map(bundle: Bundle) -> Markup:
    """Every network's layers as a map and as a table, and what its values are stored as."""
    tones = choose_tones(bundle)
    return render(
        "precision_map.html",
        networks=[_describe_network(record, tones) for record in bundle.components],
        tones=tones,
        float_name=FLOAT,
        width=WIDTH,
        left=LEFT,
        row_height=ROW,
    )


def choose_tones(bundle: Bundle) -> dict[str, int]:
    """A colour for each precision: 0 for float, the others by how many values they have in all."""
    values = Counter[str]()
    for record in bundle.components:
        for decision in record.decisions:
            values[decision.precision] += decision.values
    named = [name for name, _ in values.most_common() if name != FLOAT]
    tones = {name: i % TONES + 1 for i, name in enumerate(named)}
    return tones | {FLOAT: 0} if FLOAT in values else tones


def group_layers(role: str, decisions: Sequence[Decision]) -> dict[str, list[Decision]]:
    """Layers by block: what of a layer's name goes as far as its first number, or else its first part."""
    names = {decision.layer: _shorten(role, decision.layer).split(".") for decision in decisions}
    containers = zip(*(_list_containers(parts) for parts in names.values()), strict=False)
    shared = len(list(takewhile(lambda found: len(set(found)) == 1, containers)))
    groups: dict[str, list[Decision]] = {}
    for decision in decisions:
        parts = names[decision.layer][shared:]
        number = next((i for i, part in enumerate(parts) if part.isdigit()), 0)
        groups.setdefault(".".join(parts[: number + 1]), []).append(decision)
    return groups


def _list_containers(parts: list[str]) -> list[str]:
    """What of a name says nothing where all layers have it: the parts before the list of blocks, or before the layer."""
    number = next((i for i, part in enumerate(parts) if part.isdigit()), len(parts))
    return parts[: max(0, number - 1)]


def _shorten(role: str, layer: str) -> str:
    return layer.removeprefix(f"{role}.")


def _describe_network(record: ComponentRecord, tones: Mapping[str, int]) -> dict[str, object]:
    """What precision_map.html draws of one network."""
    groups = group_layers(record.role, record.decisions)
    values = Counter[str]()
    for decision in record.decisions:
        values[decision.precision] += decision.values
    total = values.total() or 1
    return {
        "role": record.role,
        "rows": list(_draw_rows(record.role, groups, tones)),
        "height": len(groups) * (ROW + GAP),
        "shares": [(name, tones[name], count / total) for name, count in values.most_common()],
        "count": len(record.decisions),
        "decisions": [(_shorten(record.role, d.layer), d, tones[d.precision]) for d in record.decisions],
        "stored": sorted(record.precision_counts.items(), key=lambda item: -item[1]),
        "notes": record.notes,
    }


def _draw_rows(role: str, groups: Mapping[str, Sequence[Decision]], tones: Mapping[str, int]) -> Iterator[_Row]:
    most_layers = max(map(len, groups.values()), default=1)
    most_values = max((sum(d.values for d in group) for group in groups.values()), default=1) or 1
    least = min(LEAST_CELL, (RIGHT - LEFT) / 2 / most_layers)
    scale = (RIGHT - LEFT - least * most_layers) / most_values
    for i, (name, group) in enumerate(groups.items()):
        x, cells = LEFT, []
        for decision in group:
            width = least + scale * decision.values
            cells.append(_Cell(x, width, tones[decision.precision], describe_layer(role, decision)))
            x += width
        shown = clean(name)
        shown = shown if len(shown) <= LONGEST_NAME else f"\u2026{shown[1 - LONGEST_NAME :]}"
        yield _Row(shown, i * (ROW + GAP), tuple(cells))


def describe_layer(role: str, decision: Decision) -> str:
    """A layer in one line: its name, precision, size, and why."""
    reason = f"; {decision.reason}" if decision.reason else ""
    by = "no rule can change it" if decision.is_refused else f"rule {decision.rule}"
    return clean(f"{_shorten(role, decision.layer)}: {decision.precision}, {decision.values:,} values ({by}){reason}")
